//! The middleware around every handler: authorization, detection of our own requests, panics, and
//! the header that names the log.

use std::panic::AssertUnwindSafe;

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use futures_util::FutureExt;

use super::context::Context;
use super::error::ApiError;
#[cfg(doc)]
use crate::event_log::LogId;
#[cfg(doc)]
use crate::relay::InstanceId;

/// [`LogId::HEADER`] as axum's type.
const LOG_HEADER: HeaderName = HeaderName::from_static("relayer-log");

/// [`InstanceId::HEADER`] as axum's type.
const INSTANCE_HEADER: HeaderName = HeaderName::from_static("relayer-instance");

/// Authorizes a request that changes something.
pub(super) async fn authorize(
    State(context): State<Context>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    context.access().check(request.headers()).inspect_err(|reason| {
        tracing::debug!(method = %request.method(), path = request.uri().path(), %reason, "refused");
    })?;
    run_to_completion(next.run(request)).await
}

/// Completes a request that changes something, even if the client disconnects.
pub(super) async fn complete(request: Request, next: Next) -> Result<Response, ApiError> {
    run_to_completion(next.run(request)).await
}

/// Runs a change in its own task. If the client disconnects, the server drops only the future that
/// waits for this task, so the change is completed.
async fn run_to_completion(
    change: impl Future<Output = Response> + Send + 'static,
) -> Result<Response, ApiError> {
    match tokio::spawn(change).await {
        Ok(response) => Ok(response),
        Err(failed) if failed.is_panic() => std::panic::resume_unwind(failed.into_panic()),
        Err(_) => Err(ApiError::stopping()),
    }
}

/// Refuses requests from this process: if the URL of a relay leads back to this gateway, the
/// gateway would receive its own events.
pub(super) async fn refuse_own_requests(
    State(context): State<Context>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    match request.headers().get(INSTANCE_HEADER) {
        Some(instance) if context.instance.is(instance.as_bytes()) => {
            let message = "the request comes from this gateway itself: the URL of one of its relays leads back to it; \
                           remove that relay";
            let error = ApiError::new(StatusCode::LOOP_DETECTED, "loop_detected", message);
            Err(error.header(INSTANCE_HEADER, instance.clone()))
        }
        _ => Ok(next.run(request).await),
    }
}

/// Adds the id of the log to every response, including refusals and upgrades.
pub(super) async fn name_log(State(context): State<Context>, mut response: Response) -> Response {
    // The text of a log id is always a valid header value.
    if let Ok(id) = HeaderValue::try_from(context.log.id().to_string()) {
        response.headers_mut().insert(LOG_HEADER, id);
    }
    response
}

/// Answers a request whose handler panics. The panic hook logs and counts the panic.
pub(super) async fn answer_panics(request: Request, next: Next) -> Result<Response, ApiError> {
    // Handlers are unwind-safe: shared state is behind locks that a panic does not poison.
    AssertUnwindSafe(next.run(request)).catch_unwind().await.map_err(|_| {
        let message = "a bug in the gateway made this request fail; the gateway's log says where \
                       (panics_total counts them)";
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", message)
    })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use axum::Router;
    use axum::middleware::from_fn;
    use axum::routing::any;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::oneshot;

    use super::*;

    async fn broken() {
        panic!("on purpose")
    }

    #[tokio::test]
    async fn a_handler_that_panics_is_an_answer() {
        let router = Router::new()
            .route("/broken", any(broken))
            .route("/spawned", any(broken).layer(from_fn(complete)))
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

    #[tokio::test]
    async fn a_change_completes_without_its_client() {
        let ((go, gone), (done, is_done)) = (oneshot::channel::<()>(), oneshot::channel());
        let change = run_to_completion(async {
            gone.await.unwrap();
            done.send(()).unwrap();
            Response::default()
        });
        tokio::select! {
            biased;
            _ = change => panic!("the change is blocked"),
            () = tokio::task::yield_now() => {}
        }
        go.send(()).unwrap();
        is_done.await.unwrap();
    }
}
