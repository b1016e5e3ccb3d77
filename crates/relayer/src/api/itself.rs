//! A relay's URL may lead back to this gateway, which would then be fed its own events. It is told so,
//! whatever it asks for.

use axum::extract::{Request, State};
use axum::http::{HeaderName, StatusCode};
use axum::middleware::Next;
use axum::response::Response;

use super::context::Context;
use super::error::ApiError;
#[cfg(doc)]
use crate::relay::InstanceId;

/// [`InstanceId::HEADER`], as axum has header names.
const INSTANCE_HEADER: HeaderName = HeaderName::from_static("relayer-instance");

/// Refuses a request that this very process makes.
pub(super) async fn guard(
    State(context): State<Context>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    match request.headers().get(INSTANCE_HEADER) {
        Some(instance) if context.instance.is(instance.as_bytes()) => {
            let message = "the request comes from this gateway itself: one of its relays' URLs leads back to it; \
                           remove it";
            let error = ApiError::new(StatusCode::LOOP_DETECTED, "loop_detected", message);
            Err(error.header(INSTANCE_HEADER, instance.clone()))
        }
        _ => Ok(next.run(request).await),
    }
}
