//! Cross-origin access (CORS) of web pages to the HTTP API.

use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::Response;
use tower::{Layer, ServiceExt};
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::context::Context;
use super::middleware::LOG_HEADER;
use super::start::LAST_EVENT_ID;
use crate::config::WebOrigin;
use crate::limits::PREFLIGHT_CACHED;

/// Lets pages of exactly these origins make requests and read the responses. Credentials of the
/// browser, such as cookies, are never allowed, and a request that changes something still needs
/// its token or proof. `None` without origins.
pub(super) fn layer(origins: &[WebOrigin]) -> Option<CorsLayer> {
    if origins.is_empty() {
        return None;
    }
    // An origin is ASCII, so each of them is a valid value.
    let origins: Vec<HeaderValue> =
        origins.iter().filter_map(|origin| origin.as_str().parse().ok()).collect();
    let layer = CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE, LAST_EVENT_ID])
        .expose_headers([LOG_HEADER, header::RETRY_AFTER])
        .max_age(PREFLIGHT_CACHED);
    Some(layer)
}

/// Answers requests of web pages, and their preflights, according to the current `[api]
/// allowed_origins`.
pub(super) async fn allow(State(context): State<Context>, request: Request, next: Next) -> Response {
    match context.cors() {
        Some(cors) => cors.layer(next).oneshot(request).await.unwrap_or_else(|never| match never {}),
        None => next.run(request).await,
    }
}
