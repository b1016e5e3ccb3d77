//! The route table: read-only routes, and routes that change something.

use axum::Router;
use axum::http::StatusCode;
use axum::middleware::{from_fn, from_fn_with_state, map_response_with_state};
use axum::routing::{delete, get, post};

use super::context::Context;
use super::error::ApiError;
use super::{
    consumers, downstreams, events, fanout, health, metrics, middleware, operations, relays, websocket,
};

/// The routes of the API port.
pub fn router(context: Context) -> Router {
    let reading = Router::new()
        .route("/ws", get(websocket::upgrade))
        .route("/health", get(health::health))
        .route("/ready", get(health::ready))
        .route("/status", get(health::status))
        .route("/metrics", get(metrics::prometheus))
        .route("/api/metrics/summary", get(metrics::summary))
        .route("/api/metrics/memory", get(metrics::memory_usage))
        .route("/api/relays", get(relays::list))
        .route("/api/relays/{*url}", get(relays::one))
        .route("/api/downstreams", get(downstreams::list))
        .route("/api/downstreams/{name}", get(downstreams::one))
        .route("/api/downstreams/{name}/dead-letters", get(downstreams::letters))
        .route("/api/consumers", get(consumers::list))
        .route("/api/events", get(events::page))
        .route("/api/events/{id}", get(events::one))
        .route("/api/identity", get(fanout::identity))
        .route("/fanout", get(fanout::upgrade::upgrade));
    let changing = Router::new()
        .route("/api/relays/add", post(relays::add))
        .route("/api/relays/remove", delete(relays::remove))
        .route("/api/downstreams/{name}/pause", post(downstreams::pause))
        .route("/api/downstreams/{name}/resume", post(downstreams::resume))
        .route("/api/downstreams/{name}/seek", post(downstreams::seek))
        .route("/api/downstreams/{name}/dead-letters", delete(downstreams::drop_letters))
        .route("/api/downstreams/{name}/dead-letters/replay", post(downstreams::replay))
        .route("/api/consumers/{name}", delete(consumers::forget))
        .route("/api/config/reload", post(operations::reload))
        .route("/api/clock/confirm", post(operations::confirm_clock))
        .route("/api/backup", post(operations::back_up))
        .route_layer(from_fn_with_state(context.clone(), middleware::authorize));
    // On these routes, the caller proves its identity. The identity determines what the caller may
    // do.
    let proving = Router::new()
        .route("/api/bots", get(fanout::bots::list))
        .route("/api/bots/register", post(fanout::bots::register))
        .route("/api/bots/{bot}", delete(fanout::bots::remove))
        .route("/api/bots/{bot}/approve", post(fanout::bots::approve))
        .route("/api/subscriptions", post(fanout::subscriptions::subscribe))
        .route("/api/subscriptions/{bot}", get(fanout::subscriptions::list))
        .route("/api/subscriptions/{bot}/{follower}", delete(fanout::subscriptions::unsubscribe))
        .route_layer(from_fn(middleware::complete));
    finished(reading.merge(changing).merge(proving), context)
}

/// The routes of the port `[monitoring] prometheus_port`: only `/metrics`.
pub(crate) fn metrics_router(context: Context) -> Router {
    finished(Router::new().route("/metrics", get(metrics::prometheus)), context)
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
