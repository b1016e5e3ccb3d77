//! What a relay says about itself: the NIP-11 document, of which we keep what we use, and its fetching.

use std::collections::HashMap;
use std::error::Error;
use std::num::NonZeroU32;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONNECTION, HOST, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::task::JoinSet;
use url::{Position, Url};

use super::transport::{DialError, InstanceId};
use crate::limits::{INFORMATION_BYTES_MAX, INFORMATION_TIMEOUT};
use crate::net::Stream;

/// A response head may not be longer than this, in bytes and in headers.
const HEAD_BYTES_MAX: usize = 16 << 10;
const HEADERS_MAX: usize = 64;

/// How much is kept of a text that is only shown.
const TEXT_CHARS_MAX: usize = 100;

/// No `REQ` fits into less, so a relay that states less does not mean it.
const MESSAGE_BYTES_MIN: u32 = 128;

/// What a relay says about itself (NIP-11), as far as we act on it or show it.
///
/// Nothing of it is proven, and all of it may be absent. In JSON, what is absent is left out, so that ten
/// thousand of them take little room on disk; unknown fields are ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Information {
    /// The most events that one filter is answered with: a larger `limit` is cut down to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_limit: Option<NonZeroU32>,
    /// The most events that a filter without a `limit` is answered with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_limit: Option<NonZeroU32>,
    /// Subscriptions that may be open at once on one connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_subscriptions: Option<NonZeroU32>,
    /// Filters that one `REQ` may have. NIP-11 lists it no more, but relays do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_filters: Option<NonZeroU32>,
    /// Bytes that a message to the relay may have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_message_length: Option<NonZeroU32>,
    /// Nothing is served before NIP-42 authentication.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub auth_required: bool,
    /// Somebody has to pay first.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub payment_required: bool,
    /// NIP-77 is among the NIPs that it supports.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub negentropy: bool,
    /// The software, at most 100 characters; what cannot be printed is escaped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub software: Option<Box<str>>,
    /// Its version, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<Box<str>>,
}

/// Why there is no information of a relay.
#[derive(Debug, thiserror::Error)]
pub enum InformationError {
    /// It cannot be reached.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// What it speaks is not HTTP, or it ends too soon.
    #[error("HTTP: {}", with_cause(.0))]
    Http(#[from] hyper::Error),
    /// It answers something else than 200. Redirections are not followed: they could lead anywhere.
    #[error("the server answers {0} instead of 200")]
    Status(u16),
    /// The document is too long.
    #[error("the NIP-11 document has more than {INFORMATION_BYTES_MAX} bytes")]
    TooLong,
    /// The document is something else.
    #[error("the answer is not a JSON object, as NIP-11 has it")]
    NotAnObject,
    /// It takes too long.
    #[error("NIP-11: no document within {secs} s", secs = INFORMATION_TIMEOUT.as_secs())]
    Timeout,
}

/// hyper says what failed, and leaves it to the cause to say why.
fn with_cause(error: &hyper::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

/// The fields of a JSON object, each still as text: a field that is broken breaks no other.
type Fields<'a> = HashMap<String, &'a RawValue>;

impl Information {
    /// Reads a document. A field of the wrong type, or with a value that makes no sense, is absent.
    ///
    /// # Errors
    /// [`InformationError::NotAnObject`].
    pub fn parse(document: &[u8]) -> Result<Self, InformationError> {
        let fields: Fields<'_> =
            serde_json::from_slice(document).map_err(|_| InformationError::NotAnObject)?;
        let limits: Fields<'_> = field(&fields, "limitation").unwrap_or_default();
        let nips: Vec<&RawValue> = field(&fields, "supported_nips").unwrap_or_default();
        let says = |name| field(&limits, name).unwrap_or(false);
        Ok(Self {
            max_limit: count(&limits, "max_limit"),
            default_limit: count(&limits, "default_limit"),
            max_subscriptions: count(&limits, "max_subscriptions"),
            max_filters: count(&limits, "max_filters"),
            max_message_length: count(&limits, "max_message_length")
                .filter(|bytes| bytes.get() >= MESSAGE_BYTES_MIN),
            auth_required: says("auth_required"),
            payment_required: says("payment_required"),
            negentropy: nips.iter().any(|nip| nip.get() == "77"),
            software: text(&fields, "software"),
            version: text(&fields, "version"),
        })
    }
}

fn field<'a, T: Deserialize<'a>>(fields: &Fields<'a>, name: &str) -> Option<T> {
    serde_json::from_str(fields.get(name)?.get()).ok()
}

/// A whole number from 1, which may be written as `500.0`.
fn count(fields: &Fields<'_>, name: &str) -> Option<NonZeroU32> {
    let number: f64 = field(fields, name)?;
    let whole = number.fract() == 0.0 && (1.0..=f64::from(u32::MAX)).contains(&number);
    if whole { NonZeroU32::new(number as u32) } else { None }
}

fn text(fields: &Fields<'_>, name: &str) -> Option<Box<str>> {
    let text: String = field(fields, name)?;
    let shown: String = text.escape_debug().take(TEXT_CHARS_MAX).collect();
    (!shown.is_empty()).then(|| shown.into())
}

/// Asks for the document on a connection that is open.
///
/// # Errors
/// When it does not come.
pub(crate) async fn fetch(
    stream: Stream,
    url: &Url,
    user_agent: &str,
    instance: InstanceId,
) -> Result<Information, InformationError> {
    let request = Request::get(&url[Position::BeforePath..Position::AfterQuery])
        .header(HOST, &url[Position::BeforeHost..Position::AfterPort])
        .header(ACCEPT, "application/nostr+json")
        .header(USER_AGENT, user_agent)
        .header(CONNECTION, "close")
        .header(InstanceId::HEADER, instance.to_string())
        .body(Empty::<Bytes>::new())
        .map_err(|_| DialError::Url)?;
    let (mut sender, connection) = http1::Builder::new()
        .max_headers(HEADERS_MAX)
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(INFORMATION_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await?;
    // The connection is driven by a task that ends with this function.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let response = sender.send_request(request).await?;
    let ours = response.headers().get(InstanceId::HEADER).is_some_and(|id| instance.is(id.as_bytes()));
    match response.status() {
        status if ours || status == InstanceId::REFUSAL => Err(DialError::Ourselves.into()),
        StatusCode::OK => Information::parse(&body(response).await?),
        status => Err(InformationError::Status(status.as_u16())),
    }
}

/// The whole body, if it is not too long.
async fn body(response: Response<Incoming>) -> Result<Vec<u8>, InformationError> {
    let (mut body, mut bytes) = (response.into_body(), Vec::new());
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame?.data_ref() {
            if bytes.len() + data.len() > INFORMATION_BYTES_MAX {
                return Err(InformationError::TooLong);
            }
            bytes.extend_from_slice(data);
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(document: &str) -> Information {
        Information::parse(document.as_bytes()).expect(document)
    }

    /// What the document comes to, in the form that is stored.
    #[track_caller]
    fn check(document: &str, expect: &str) {
        let information = parse(document);
        let stored = serde_json::to_string(&information).expect("plain data");
        assert_eq!(stored, expect, "{document}");
        assert_eq!(serde_json::from_str::<Information>(&stored).expect("the same"), information);
    }

    #[test]
    fn what_we_use_is_kept() {
        check(
            r#"{"name": "a relay", "icon": "x", "supported_nips": [1, 11, 77], "software": "strfry", "version": "1.0.4",
                "limitation": {"max_limit": 500, "default_limit": 100, "max_subscriptions": 20, "max_filters": 10,
                    "max_message_length": 131072, "auth_required": true, "payment_required": true, "min_pow_difficulty": 0}}"#,
            r#"{"max_limit":500,"default_limit":100,"max_subscriptions":20,"max_filters":10,"max_message_length":131072,"auth_required":true,"payment_required":true,"negentropy":true,"software":"strfry","version":"1.0.4"}"#,
        );
        check("{}", "{}");
    }

    #[test]
    fn a_field_of_the_wrong_type_is_absent_and_breaks_no_other() {
        for limitation in [
            r#""max_limit": "500""#,
            r#""max_limit": null"#,
            r#""max_limit": [500]"#,
            r#""max_limit": {"max_limit": 500}"#,
            r#""max_limit": 0"#,
            r#""max_limit": -1"#,
            r#""max_limit": 1.5"#,
            r#""max_limit": 1e999"#,
            r#""max_limit": 4294967296"#,
            r#""max_limit": 99999999999999999999999999"#,
            r#""max_message_length": 3"#,
            r#""auth_required": "yes""#,
            r#""auth_required": 1"#,
        ] {
            check(
                &format!(r#"{{"software": "x", "limitation": {{{limitation}, "default_limit": 7}}}}"#),
                r#"{"default_limit":7,"software":"x"}"#,
            );
        }
        for rest in [
            r#""limitation": []"#,
            r#""limitation": "max_limit""#,
            r#""supported_nips": "77""#,
            r#""supported_nips": {"77": 77}"#,
            r#""supported_nips": [null, "77", [77], 770, 1e999]"#,
            r#""software": 5"#,
            r#""software": """#,
            r#""software": "\ud800""#,
            r#""description": "\ud800", "pubkey": 1e999"#,
        ] {
            check(&format!(r#"{{{rest}, "version": "1"}}"#), r#"{"version":"1"}"#);
        }
        check(r#"{"limitation": {"max_limit": 500.0}}"#, r#"{"max_limit":500}"#);
        check(r#"{"limitation": {"max_limit": 1, "max_limit": 2}}"#, r#"{"max_limit":2}"#);
        check(r#"{"supported_nips": ["x", 77]}"#, r#"{"negentropy":true}"#);
    }

    #[test]
    fn texts_are_short_and_harmless() {
        let information = parse("{\"software\": \"a\\u001b[31m\\n\\u202eb\", \"version\": \"vé\"}");
        assert_eq!(information.software.as_deref(), Some(r"a\u{1b}[31m\n\u{202e}b"));
        assert_eq!(information.version.as_deref(), Some("vé"));
        let information = parse(&format!(r#"{{"software": "{}"}}"#, "é".repeat(30_000)));
        assert_eq!(information.software.map(|text| text.chars().count()), Some(TEXT_CHARS_MAX));
    }

    #[test]
    fn what_is_no_object_is_refused() {
        let deep = "[".repeat(60_000);
        for document in ["", "[]", "null", "\"{}\"", "{", "{} {}", "<html>", "\u{feff}{}", deep.as_str()] {
            let error = Information::parse(document.as_bytes()).expect_err(document);
            assert!(matches!(error, InformationError::NotAnObject), "{error}");
        }
        assert!(Information::parse(b"{\"name\": \"\xff\"}").is_err());
    }

    #[test]
    fn ten_thousand_of_them_are_small() {
        assert!(size_of::<Information>() <= 56, "{} bytes", size_of::<Information>());
    }
}
