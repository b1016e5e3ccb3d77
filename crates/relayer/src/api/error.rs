//! What a request is answered that cannot be served: one type, `{"error":"<code>","message":"…"}`.

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::query::QueryError;
use crate::event_log::{Cursor, Seq, StorageError};

/// Why a request cannot be served. The text is the message: what is wrong, and how to mend it.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The query string is wrong.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// What the cursor asks for has been trimmed.
    #[error(
        "the events after cursor {cursor} are no longer kept; go on with cursor {resume}, without what was \
         trimmed, or with cursor=0 for all that is kept",
        resume = oldest.get().saturating_sub(1)
    )]
    CursorTooOld {
        /// What was asked for.
        cursor: Cursor,
        /// The oldest sequence that is kept.
        oldest: Seq,
        /// The newest sequence.
        newest: Cursor,
    },
    /// The cursor names a sequence that was not given yet.
    #[error(
        "cursor {cursor} is beyond the newest sequence, which is {newest}; use the last sequence that you \
         handled (has the gateway lost its database?)"
    )]
    CursorAhead {
        /// What was asked for.
        cursor: Cursor,
        /// The newest sequence.
        newest: Cursor,
    },
    /// `/ws` is switched off.
    #[error("the WebSocket output is switched off; set websocket_enabled = true under [output]")]
    WebSocketDisabled,
    /// `/ws` without a WebSocket handshake.
    #[error("/ws speaks WebSocket (RFC 6455, version 13); connect to it with a WebSocket client: {0}")]
    UpgradeRequired(String),
    /// The gateway does not take new clients any more.
    #[error("the gateway is stopping; connect again in a moment")]
    Stopping,
    /// The gateway does not do its work.
    #[error("{0}")]
    NotReady(&'static str),
    /// An id is no id.
    #[error("an event id has 64 lower-case hex digits (note1… and nevent1… must be decoded before)")]
    BadEventId,
    /// No such event.
    #[error("no event of this id is in the log; it may not have come yet, or be no longer kept")]
    NoSuchEvent,
    /// No such path.
    #[error("there is nothing here; docs/API.md lists the paths")]
    NoSuchPath,
    /// The path does not take this method.
    #[error("this path does not take this method; the Allow header says which it takes")]
    MethodNotAllowed,
    /// The log cannot be read.
    #[error("the event log cannot be read; the gateway's log says why")]
    Storage(#[from] StorageError),
}

impl ApiError {
    /// The status and the code, for programs.
    pub const fn status(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Query(error) => (StatusCode::BAD_REQUEST, error.code()),
            Self::CursorTooOld { .. } => (StatusCode::GONE, "cursor_too_old"),
            Self::CursorAhead { .. } => (StatusCode::BAD_REQUEST, "cursor_ahead"),
            Self::WebSocketDisabled => (StatusCode::NOT_FOUND, "websocket_disabled"),
            Self::UpgradeRequired(_) => (StatusCode::UPGRADE_REQUIRED, "upgrade_required"),
            Self::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
            Self::NotReady(_) => (StatusCode::SERVICE_UNAVAILABLE, "not_ready"),
            Self::BadEventId => (StatusCode::BAD_REQUEST, "bad_event_id"),
            Self::NoSuchEvent => (StatusCode::NOT_FOUND, "event_not_found"),
            Self::NoSuchPath => (StatusCode::NOT_FOUND, "not_found"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::Storage(_) => (StatusCode::INTERNAL_SERVER_ERROR, "storage_failed"),
        }
    }

    /// Headers that belong to the status.
    fn headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        match self {
            Self::UpgradeRequired(_) => vec![
                (header::UPGRADE, HeaderValue::from_static("websocket")),
                (header::CONNECTION, HeaderValue::from_static("upgrade")),
                (header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13")),
            ],
            Self::Stopping | Self::NotReady(_) => vec![(header::RETRY_AFTER, HeaderValue::from_static("5"))],
            _ => Vec::new(),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if let Self::Storage(error) = &self {
            tracing::error!(%error, "a request could not be answered");
        }
        let (status, code) = self.status();
        let mut body = json!({ "error": code, "message": self.to_string() });
        if let (Self::CursorTooOld { oldest, newest, .. }, Some(body)) = (&self, body.as_object_mut()) {
            body.insert("oldest".to_owned(), json!(oldest));
            body.insert("newest".to_owned(), json!(newest));
        }
        let mut response = (status, Json(body)).into_response();
        response.headers_mut().extend(self.headers());
        response
    }
}
