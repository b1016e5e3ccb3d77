//! The route table: routes for anyone, for readers, for the operator, and for the holders of keys.

use axum::Router;
use axum::http::StatusCode;
use axum::middleware::{from_fn, from_fn_with_state, map_response_with_state};
use serde_json::Value;

use super::context::Context;
use super::description::{self, Guard, Routes, pages};
use super::error::ApiError;
use super::{
    consumers, cors, downstreams, event_stream, events, fanout, health, metrics, middleware, operations,
    overview, page, reading, refusals, relays, tickets, trace, websocket,
};

/// These routes return nothing about the log or the gateway's state, or require proofs of their
/// own.
fn open() -> Routes {
    Routes::new(Guard::Open)
        .get("/", page::index, page::INDEX)
        .get("/page/{version}/{*file}", page::file, page::FILE)
        .get("/health", health::health, health::HEALTH)
        .get("/ready", health::ready, health::READY)
        .get("/api/identity", fanout::identity, fanout::IDENTITY)
        .get("/fanout", fanout::upgrade::upgrade, fanout::upgrade::FANOUT)
        .get("/api/openapi.json", pages::openapi, pages::DOCUMENT_ABOUT)
        .get("/api/docs", pages::page, pages::PAGE_ABOUT)
        .get("/api/docs/{version}/{name}", pages::file, pages::FILE_ABOUT)
}

/// These routes serve every reader. Their handlers take the caller's [`Grant`](crate::serve::Grant)
/// and show only the events that it permits.
fn events() -> Routes {
    Routes::new(Guard::Events)
        .get("/ws", websocket::upgrade, websocket::WS)
        .get("/api/events", events::page, events::PAGE)
        .get("/api/events/stream", event_stream::stream, event_stream::STREAM)
        .get("/api/events/{id}", events::one, events::ONE)
        .post("/api/tickets", tickets::issue, tickets::ISSUE)
}

/// These routes serve readers of all events, and no readers with a selection.
fn reading() -> Routes {
    Routes::new(Guard::State)
        .get("/status", health::status, health::STATUS)
        .get("/metrics", metrics::prometheus, metrics::PROMETHEUS)
        .get("/api/metrics/summary", metrics::summary, metrics::SUMMARY)
        .get("/api/metrics/memory", metrics::memory_usage, metrics::MEMORY)
        .get("/api/overview", overview::overview, overview::OVERVIEW)
        .get("/api/overview/history", overview::history, overview::HISTORY)
        .get("/api/overview/stream", overview::stream, overview::STREAM)
        .get("/api/relays", relays::list, relays::LIST)
        .get("/api/relays/{*url}", relays::one, relays::ONE)
        .get("/api/downstreams", downstreams::list, downstreams::LIST)
        .get("/api/downstreams/{name}", downstreams::one, downstreams::ONE)
        .get("/api/downstreams/{name}/dead-letters", downstreams::letters, downstreams::LETTERS)
        .get("/api/consumers", consumers::list, consumers::LIST)
        .get("/api/events/{id}/trace", trace::trace, trace::TRACE)
        .get("/api/refusals", refusals::list, refusals::LIST)
}

fn changing() -> Routes {
    Routes::new(Guard::Admin)
        .post("/api/relays/add", relays::add, relays::ADD)
        .delete("/api/relays/remove", relays::remove, relays::REMOVE)
        .post("/api/downstreams/{name}/pause", downstreams::pause, downstreams::PAUSE)
        .post("/api/downstreams/{name}/resume", downstreams::resume, downstreams::RESUME)
        .post("/api/downstreams/{name}/seek", downstreams::seek, downstreams::SEEK)
        .delete("/api/downstreams/{name}/dead-letters", downstreams::drop_letters, downstreams::DROP)
        .post("/api/downstreams/{name}/dead-letters/replay", downstreams::replay, downstreams::REPLAY)
        .delete("/api/consumers/{name}", consumers::forget, consumers::FORGET)
        .post("/api/config/reload", operations::reload, operations::RELOAD)
        .post("/api/clock/confirm", operations::confirm_clock, operations::CONFIRM_CLOCK)
        .post("/api/backup", operations::back_up, operations::BACK_UP)
}

/// On these routes, the caller proves its identity. The identity determines what the caller may do.
fn proving() -> Routes {
    Routes::new(Guard::Key)
        .get("/api/bots", fanout::bots::list, fanout::bots::LIST)
        .post("/api/bots/register", fanout::bots::register, fanout::bots::REGISTER)
        .delete("/api/bots/{bot}", fanout::bots::remove, fanout::bots::REMOVE)
        .post("/api/bots/{bot}/approve", fanout::bots::approve, fanout::bots::APPROVE)
        .post("/api/subscriptions", fanout::subscriptions::subscribe, fanout::subscriptions::SUBSCRIBE)
        .get("/api/subscriptions/{bot}", fanout::subscriptions::list, fanout::subscriptions::LIST)
        .delete(
            "/api/subscriptions/{bot}/{follower}",
            fanout::subscriptions::unsubscribe,
            fanout::subscriptions::UNSUBSCRIBE,
        )
}

/// The OpenAPI document of all routes.
pub(crate) fn description() -> Value {
    let routes = [open(), events(), reading(), changing(), proving()];
    description::document(routes.iter().flat_map(|routes| &routes.described))
}

/// The routes of the API port.
pub fn router(context: Context) -> Router {
    let read_events = from_fn_with_state(context.clone(), reading::authorize_events);
    let read_state = from_fn_with_state(context.clone(), reading::authorize_state);
    let authorize = from_fn_with_state(context.clone(), middleware::authorize);
    let events = events().router.route_layer(read_events);
    let reading = reading().router.route_layer(read_state);
    let changing = changing().router.route_layer(authorize);
    let proving = proving().router.route_layer(from_fn(middleware::complete));
    let cors = from_fn_with_state(context.clone(), cors::allow);
    let routes = open().router.merge(events).merge(reading).merge(changing).merge(proving);
    finished(routes, context).layer(cors)
}

/// The routes of the port `[monitoring] prometheus_port`: only `/metrics`.
pub(crate) fn metrics_router(context: Context) -> Router {
    let metrics = Routes::new(Guard::State).get("/metrics", metrics::prometheus, metrics::PROMETHEUS);
    let read_metrics = from_fn_with_state(context.clone(), reading::authorize_metrics);
    finished(metrics.router.route_layer(read_metrics), context)
}

/// Adds the parts that all routes share: answers for unknown paths and methods, and the middleware.
fn finished(routes: Router<Context>, context: Context) -> Router {
    routes
        .fallback(|| async {
            ApiError::not_found("not_found", "there is nothing here; docs/API.md lists the paths")
        })
        .method_not_allowed_fallback(|| async {
            let message = "this path does not take this method; the Allow header says which it takes";
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
        })
        .layer(from_fn_with_state(context.clone(), middleware::refuse_own_requests))
        .layer(from_fn(middleware::answer_panics))
        .layer(map_response_with_state(context.clone(), middleware::name_log))
        .with_state(context)
}
