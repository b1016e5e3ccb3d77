//! The error type of all handlers, sent as `{"error":"<code>","message":"…"}`. Conversions from
//! other errors are next to the handlers that need them.

use std::borrow::Cow;
use std::fmt;

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

use super::operations::ShownProblem;
use crate::event_log::free_space::NoRoom;
use crate::event_log::{Cursor, LogId, Seq, StorageError};

/// Why a request failed. Displays the message, which says what is wrong and how to fix it.
#[derive(Debug)]
pub(crate) struct ApiError(Box<Inner>);

#[derive(Debug)]
struct Inner {
    status: StatusCode,
    body: ErrorBody,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// The answer to a request that failed.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Error")]
pub(super) struct ErrorBody {
    /// What is wrong, for programs.
    error: &'static str,
    /// What is wrong and how to fix it, for people.
    message: Cow<'static, str>,
    #[serde(flatten)]
    details: Details,
}

/// What some errors say in addition.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(super) struct Details {
    /// The identity of the gateway's log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<LogId>,
    /// The oldest sequence that is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest: Option<Seq>,
    /// The newest sequence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newest: Option<Cursor>,
    /// No id that was refused after this time, in Unix milliseconds, has been forgotten.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusals_complete_since: Option<u64>,
    /// What is wrong with the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problems: Option<Vec<ShownProblem>>,
}

impl ApiError {
    /// `code` is for programs, `message` for people.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        let body = ErrorBody { error: code, message: message.into(), details: Details::default() };
        Self(Box::new(Inner { status, body, headers: Vec::new() }))
    }

    /// Creates the error for a temporary failure: the client may retry after 5 s.
    pub(crate) fn unavailable(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message).retry_after_secs(5)
    }

    pub fn not_found(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message)
    }

    pub(crate) fn bad_request(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub fn stopping() -> Self {
        Self::unavailable("stopping", "the gateway is stopping; try again in a moment")
    }

    /// Adds fields to the body.
    pub(super) fn with(mut self, details: Details) -> Self {
        self.0.body.details = details;
        self
    }

    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    pub fn retry_after_secs(self, secs: u64) -> Self {
        self.header(header::RETRY_AFTER, secs.into())
    }

    pub fn code(&self) -> &'static str {
        self.0.body.error
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.body.message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Inner { status, body, headers } = *self.0;
        let mut response = (status, Json(body)).into_response();
        response.headers_mut().extend(headers);
        response
    }
}

impl From<StorageError> for ApiError {
    fn from(error: StorageError) -> Self {
        if error.is_full() {
            return Self::unavailable(
                "disk_full",
                "the disk is full: nothing can be written below the reserve ([storage] min_free_bytes); \
                 make room, and try again",
            );
        }
        tracing::error!(name: "storage_failure", %error, "a request could not be answered");
        let message = "the database cannot be read or written; the gateway's log says why";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "storage_failed", message)
    }
}

impl From<NoRoom> for ApiError {
    fn from(error: NoRoom) -> Self {
        Self::new(StatusCode::INSUFFICIENT_STORAGE, "disk_full", error.to_string())
    }
}
