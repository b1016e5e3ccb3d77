//! The whole route table.

use axum::Router;
use axum::routing::get;

use super::context::Context;
use super::error::ApiError;
use super::{events, health, metrics, relays, websocket};

/// What the API's port serves.
pub fn router(context: Context) -> Router {
    let routes = Router::new()
        .route("/ws", get(websocket::upgrade))
        .route("/health", get(health::health))
        .route("/ready", get(health::ready))
        .route("/status", get(health::status))
        .route("/metrics", get(metrics::prometheus))
        .route("/api/metrics/summary", get(metrics::summary))
        .route("/api/metrics/memory", get(metrics::memory_usage))
        .route("/api/relays", get(relays::list))
        .route("/api/events", get(events::page))
        .route("/api/events/{id}", get(events::one));
    with_errors(routes).with_state(context)
}

/// What `[monitoring] prometheus_port` serves: `/metrics` and nothing else.
pub fn metrics_router(context: Context) -> Router {
    with_errors(Router::new().route("/metrics", get(metrics::prometheus))).with_state(context)
}

/// What is not there is answered like everything else.
fn with_errors(routes: Router<Context>) -> Router<Context> {
    routes
        .fallback(|| async { ApiError::NoSuchPath })
        .method_not_allowed_fallback(|| async { ApiError::MethodNotAllowed })
}
