//! Parses request bodies: short JSON objects without unknown fields.

use std::fmt::Display;

use axum::body::{Bytes, to_bytes};
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::auth::is_json;
use super::error::ApiError;
use super::query::excerpt;
use crate::limits::{BODY_BYTES_MAX, REQUEST_BODY_MAX};

pub(super) fn json_expected() -> ApiError {
    let message = "the body must be JSON: send `Content-Type: application/json`";
    ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "json_expected", message)
}

pub(super) fn bad_body(expected: &str, why: impl Display) -> ApiError {
    ApiError::bad_request("bad_body", format!("the body must be {expected}: {why}"))
}

/// The expected form of a body.
pub(super) trait Expected {
    /// An example, for error messages.
    const EXPECTED: &'static str;
}

/// A parsed body. `T` must deny unknown fields: ignoring a field silently could change the meaning
/// of the request.
#[derive(Debug)]
pub(super) struct Body<T>(pub T);

impl<T: DeserializeOwned + Expected, S: Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            return Err(json_expected());
        }
        parse(&whole(request.into_body()).await?).map(Self)
    }
}

/// Reads a whole body.
///
/// # Errors
/// When the body is too long or too slow.
pub(super) async fn whole(body: axum::body::Body) -> Result<Bytes, ApiError> {
    let read = timeout(REQUEST_BODY_MAX, to_bytes(body, BODY_BYTES_MAX)).await;
    // If the connection ends early, nobody receives the error.
    let too_slow = |_| {
        let message = format!("the body did not arrive within {} s", REQUEST_BODY_MAX.as_secs());
        ApiError::new(StatusCode::REQUEST_TIMEOUT, "body_too_slow", message)
    };
    read.map_err(too_slow)?.map_err(|_| {
        let message = format!("the body is longer than {BODY_BYTES_MAX} bytes");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
    })
}

pub(super) fn parse<T: DeserializeOwned + Expected>(body: &[u8]) -> Result<T, ApiError> {
    let bad = |why| bad_body(T::EXPECTED, why);
    // Serde would also accept an array of the fields' values.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(bad("it is not an object".to_owned()));
    }
    serde_json::from_slice(body).map_err(|error| bad(excerpt(&without_found_value(error.to_string()))))
}

/// Removes the wrong value from serde's message: the value may be a secret in the wrong field.
fn without_found_value(error: String) -> String {
    match error.rsplit_once(", expected ") {
        Some((found, expected)) if found.starts_with("invalid ") => format!("expected {expected}"),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        #[expect(dead_code, reason = "it is only read")]
        url: String,
    }

    impl Expected for Wanted {
        const EXPECTED: &'static str = "{}";
    }

    #[test]
    fn errors_do_not_repeat_what_was_found() {
        for (body, why) in [
            (r#"{"url":918273}"#, "expected a string at line 1 column 13"),
            (r#"{"name":"918273"}"#, "unknown field `name`, expected `url` at line 1 column 7"),
            (r#"{"url":["918273"]}"#, "expected a string at line 1 column 7"),
            (r#"{"url":"918273"} 918273"#, "trailing characters at line 1 column 18"),
            (r#"{"url":"918273","url":""}"#, "duplicate field `url` at line 1 column 21"),
            ("{918273", "key must be a string at line 1 column 2"),
        ] {
            let error = parse::<Wanted>(body.as_bytes()).unwrap_err().to_string();
            assert_eq!(error, format!("the body must be {{}}: {why}"));
        }
    }
}
