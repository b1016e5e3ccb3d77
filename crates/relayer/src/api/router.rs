//! The whole route table: what only reads, and what changes something.

use std::panic::AssertUnwindSafe;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::{Next, from_fn, from_fn_with_state, map_response_with_state};
use axum::response::Response;
use axum::routing::{delete, get, post};
use futures_util::FutureExt;

use super::context::Context;
use super::error::ApiError;
use super::{
    auth, backup, clock, config, consumers, downstreams, events, fanout, health, itself, metrics, relays,
    websocket,
};
use axum::http::StatusCode;

/// [`LogId::HEADER`], as axum has header names.
const LOG_HEADER: HeaderName = HeaderName::from_static("relayer-log");

/// What the API's port serves.
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
        .route("/api/config/reload", post(config::reload))
        .route("/api/clock/confirm", post(clock::confirm))
        .route("/api/backup", post(backup::make))
        .route_layer(from_fn_with_state(context.clone(), auth::guard));
    // Who calls these says who it is; what it may do depends on that.
    let proving = Router::new()
        .route("/api/bots", get(fanout::bots::list))
        .route("/api/bots/register", post(fanout::bots::register))
        .route("/api/bots/{bot}", delete(fanout::bots::remove))
        .route("/api/bots/{bot}/approve", post(fanout::bots::approve))
        .route("/api/subscriptions", post(fanout::subscriptions::subscribe))
        .route("/api/subscriptions/{bot}", get(fanout::subscriptions::list))
        .route("/api/subscriptions/{bot}/{follower}", delete(fanout::subscriptions::unsubscribe))
        .route_layer(from_fn(auth::finish));
    finished(reading.merge(changing).merge(proving), context)
}

/// What `[monitoring] prometheus_port` serves: `/metrics` and nothing else.
pub fn metrics_router(context: Context) -> Router {
    finished(Router::new().route("/metrics", get(metrics::prometheus)), context)
}

/// What is not there is answered like everything else, and to ourselves nothing is.
fn finished(routes: Router<Context>, context: Context) -> Router {
    routes
        .fallback(|| async {
            ApiError::not_found("not_found", "there is nothing here; docs/API.md lists the paths")
        })
        .method_not_allowed_fallback(|| async {
            let message = "this path does not take this method; the Allow header says which it takes";
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
        })
        .layer(from_fn_with_state(context.clone(), itself::guard))
        .layer(from_fn(answer_panics))
        .layer(map_response_with_state(context.clone(), name_log))
        .with_state(context)
}

/// Names the log in an answer, refusals and upgrades included.
async fn name_log(State(context): State<Context>, mut response: Response) -> Response {
    // The written form of an identity is valid in a header.
    if let Ok(id) = HeaderValue::try_from(context.log.id().to_string()) {
        response.headers_mut().insert(LOG_HEADER, id);
    }
    response
}

/// Answers a request whose handler panics. The panic itself is logged and counted where all are.
async fn answer_panics(request: Request, next: Next) -> Result<Response, ApiError> {
    // What the handler shared with others is behind locks that do not stay locked.
    AssertUnwindSafe(next.run(request)).catch_unwind().await.map_err(|_| {
        let message = "the gateway failed at this request, by a fault of its own; its log says where \
                       (panics_total counts them)";
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", message)
    })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use axum::routing::any;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn broken() {
        panic!("on purpose")
    }

    #[tokio::test]
    async fn a_handler_that_panics_is_an_answer() {
        let router = Router::new()
            .route("/broken", any(broken))
            .route("/spawned", any(broken).layer(from_fn(auth::finish)))
            .route("/whole", any(|| async { "whole" }))
            .layer(from_fn(answer_panics));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        for (path, status, word) in
            [("broken", 500, "internal_error"), ("spawned", 500, "internal_error"), ("whole", 200, "whole")]
        {
            let mut socket = TcpStream::connect(address).await.unwrap();
            let request = format!("GET /{path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
            socket.write_all(request.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            socket.read_to_end(&mut answer).await.unwrap();
            assert!(String::from_utf8_lossy(&answer).contains(word), "{path}");
            assert!(answer.starts_with(format!("HTTP/1.1 {status} ").as_bytes()), "{path}");
        }
    }
}
