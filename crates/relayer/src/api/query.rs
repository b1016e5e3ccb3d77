//! Parses query strings, which select events, a cursor and a format. Parsing is strict, because
//! ignoring a parameter silently would lose or repeat events.
//!
//! The length is bounded: the server answers 414 to a URI longer than 65,534 bytes (`http::Uri`).

use std::fmt::Display;
use std::ops::RangeInclusive;

use axum::http::StatusCode;
use wire::{Filter, PublicKey};

use super::error::ApiError;
use crate::event_log::query::CursorError;
use crate::event_log::{Cursor, EventLog, LogId, Seq};
use crate::limits::PAGE_EVENTS_MAX;
use crate::receiver::{Format, Selection};
use crate::serve::{ConsumerName, StartPosition};

/// The parameters of `/ws`.
pub(crate) const WS_PARAMETERS: &[&str] =
    &["cursor", "format", "kinds", "authors", "filter", "consumer", "seek"];

/// The parameters of `/fanout`.
pub(crate) const FANOUT_PARAMETERS: &[&str] = &["cursor", "consumer", "seek"];

/// The parameters of `/api/events`.
pub(crate) const PAGE_PARAMETERS: &[&str] = &["cursor", "limit", "kinds", "authors", "filter"];

/// The parameters for pages of dead letters.
pub(crate) const DEAD_LETTERS_PARAMETERS: &[&str] = &["cursor", "limit"];

/// What is wrong with a query string.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum QueryError {
    /// A name or value is not percent-encoded UTF-8. The value is not shown, because it may be a
    /// secret.
    #[error("`{0}` is not percent-encoded UTF-8; encode each value, as encodeURIComponent does")]
    Encoding(String),
    #[error("unknown parameter `{name}`; this path takes {}", allowed.join(", "))]
    Unknown {
        /// The name, shortened.
        name: String,
        allowed: &'static [&'static str],
    },
    #[error("`{0}` occurs more than once; write several values as one list: {0}=1,7")]
    Repeated(&'static str),
    #[error(
        "`{name}` belongs to the log {found}, but this is the log {log}: a backup was restored, or this is another \
         gateway. Its sequence numbers mean other events. Start over with {name}=0, or with {name}={log}:N after an \
         event that this log sent you"
    )]
    OtherLog {
        name: &'static str,
        /// The log that the cursor belongs to.
        found: LogId,
        /// This gateway's log.
        log: LogId,
    },
    #[error("`{name}` must be {expected}")]
    Value { name: &'static str, code: &'static str, expected: String },
}

impl QueryError {
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Encoding(_) => "malformed_query",
            Self::Unknown { .. } => "unknown_parameter",
            Self::Repeated(_) => "repeated_parameter",
            Self::OtherLog { .. } => "cursor_of_another_log",
            Self::Value { code, .. } => code,
        }
    }

    pub(super) fn value(name: &'static str, code: &'static str, expected: impl Display) -> Self {
        Self::Value { name, code, expected: expected.to_string() }
    }
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        let (code, message) = (error.code(), error.to_string());
        match error {
            QueryError::OtherLog { log, .. } => {
                Self::new(StatusCode::CONFLICT, code, message).with("log", log.to_string())
            }
            _ => Self::bad_request(code, message),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Query {
    pub cursor: Option<Cursor>,
    /// The consumer whose cursor is used.
    pub consumer: Option<ConsumerName>,
    /// Moves the cursor of the consumer. Requires `consumer` and excludes `cursor`.
    pub seek: Option<Cursor>,
    pub format: Option<Format>,
    /// The page size, at least 1.
    pub limit: Option<usize>,
    pub selection: Selection,
}

impl Query {
    /// Parses a query string without the leading `?`. Accepts only `allowed` parameters, and only
    /// cursors of `log`.
    ///
    /// # Errors
    /// When a parameter is unknown, repeated or malformed, or a cursor belongs to another log.
    pub fn parse(query: &str, allowed: &'static [&'static str], log: LogId) -> Result<Self, QueryError> {
        let mut read = Self::default();
        let mut filters = Vec::new();
        let mut lists = Filter::new();
        for (name, value) in parameters(query, allowed)? {
            match name {
                "cursor" => read.cursor = Some(cursor("cursor", "bad_cursor", &value, log)?),
                "consumer" => read.consumer = Some(consumer(&value)?),
                "seek" => read.seek = Some(cursor("seek", "bad_seek", &value, log)?),
                "format" => read.format = Some(format(&value)?),
                "limit" => read.limit = Some(count("limit", "bad_limit", &value, 1..=PAGE_EVENTS_MAX)?),
                "kinds" => lists = lists.kinds(kinds(&value)?),
                "authors" => lists = lists.authors(authors(&value)?),
                _ => filters.push(filter(&value)?),
            }
        }
        if lists != Filter::new() {
            filters.push(lists);
        }
        read.selection = Selection::new(filters);
        if read.seek.is_some() && (read.consumer.is_none() || read.cursor.is_some()) {
            let expected = "given together with `consumer`, which it moves, and without `cursor`";
            return Err(QueryError::value("seek", "bad_seek", expected));
        }
        Ok(read)
    }

    /// Returns where the consumer starts. `head` is the head of the log at the time of the
    /// connection.
    pub(crate) fn start_position(&self, head: Cursor) -> StartPosition {
        match (self.seek, self.cursor) {
            (Some(cursor), _) => StartPosition::Seek(cursor),
            (None, Some(cursor)) => StartPosition::After(cursor),
            (None, None) => StartPosition::Now(head),
        }
    }
}

/// Returns the decoded parameters in order.
///
/// # Errors
/// When a parameter is unknown, repeated or not valid UTF-8.
pub(super) fn parameters(
    query: &str,
    allowed: &'static [&'static str],
) -> Result<Vec<(&'static str, String)>, QueryError> {
    let mut found: Vec<(&'static str, String)> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let wrong = || QueryError::Encoding(excerpt(name));
        let (name, value) = decode(name).zip(decode(value)).ok_or_else(wrong)?;
        let Some(name) = allowed.iter().find(|allowed| **allowed == name) else {
            return Err(QueryError::Unknown { name: excerpt(&name), allowed });
        };
        if found.iter().any(|(other, _)| other == name) {
            return Err(QueryError::Repeated(name));
        }
        found.push((name, value));
    }
    Ok(found)
}

/// Checks that delivery can continue after a cursor. Cursor 0 always means the oldest event.
///
/// # Errors
/// When the next event is trimmed, or the cursor is beyond the newest sequence.
pub(crate) fn check_cursor(log: &EventLog, cursor: Cursor) -> Result<(), ApiError> {
    Ok(log.check_cursor(cursor)?)
}

/// Parses `SEQ` or `LOG:SEQ`. `LOG:SEQ` is refused if `LOG` is another log, because `SEQ` is
/// another event there.
fn cursor(name: &'static str, code: &'static str, value: &str, log: LogId) -> Result<Cursor, QueryError> {
    let expected = "a sequence number, the last that you handled, or 0 for all that is kept; with the log's identity \
                    before it, LOG:SEQ, it is refused if this is another log";
    let wrong = || QueryError::value(name, code, expected);
    let (found, number) = match value.split_once(':') {
        Some((found, number)) => (found.parse().map_err(|_| wrong())?, number),
        None => (log, value),
    };
    let number = whole_number(number).ok_or_else(wrong)?;
    if found != log {
        return Err(QueryError::OtherLog { name, found, log });
    }
    Ok(Cursor::from_number(number))
}

fn consumer(value: &str) -> Result<ConsumerName, QueryError> {
    ConsumerName::new(value)
        .ok_or_else(|| QueryError::value("consumer", "bad_consumer", ConsumerName::ALLOWED))
}

fn format(value: &str) -> Result<Format, QueryError> {
    match value {
        "event" => Ok(Format::Event),
        "envelope" => Ok(Format::Envelope),
        _ => Err(QueryError::value("format", "bad_format", "`event` or `envelope`")),
    }
}

fn kinds(value: &str) -> Result<Vec<u16>, QueryError> {
    let kind = |kind| whole_number(kind).and_then(|kind| u16::try_from(kind).ok());
    let kinds: Option<Vec<u16>> = value.split(',').map(kind).collect();
    let expected = "a list of kinds, numbers from 0 to 65535: kinds=1,7";
    kinds.ok_or_else(|| QueryError::value("kinds", "bad_kinds", expected))
}

fn authors(value: &str) -> Result<Vec<PublicKey>, QueryError> {
    let authors: Result<Vec<PublicKey>, _> = value.split(',').map(str::parse).collect();
    let expected = "a list of public keys of 64 lower-case hex digits (decode npub1… first)";
    authors.map_err(|_| QueryError::value("authors", "bad_authors", expected))
}

fn filter(value: &str) -> Result<Filter, QueryError> {
    Filter::parse(value).map_err(|error| {
        let what = excerpt(&error.to_string());
        QueryError::value("filter", "bad_filter", format!("a NIP-01 filter as percent-encoded JSON: {what}"))
    })
}

pub(super) fn count(
    name: &'static str,
    code: &'static str,
    value: &str,
    range: RangeInclusive<usize>,
) -> Result<usize, QueryError> {
    let number = whole_number(value).and_then(|number| usize::try_from(number).ok());
    let expected = format_args!("a number from {} to {}", range.start(), range.end());
    number.filter(|count| range.contains(count)).ok_or_else(|| QueryError::value(name, code, expected))
}

/// Accepts only digits: `u64::from_str` would accept a plus sign.
fn whole_number(value: &str) -> Option<u64> {
    value.bytes().all(|byte| byte.is_ascii_digit()).then(|| value.parse().ok()).flatten()
}

/// Percent-decodes like HTML forms, with `+` for a space. Returns `None` for invalid UTF-8, which
/// the usual libraries would replace.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                let value = digit().zip(digit()).map(|(high, low)| high * 16 + low);
                value.and_then(|value| u8::try_from(value).ok())?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// Shortens text from a request for an error message.
pub(super) fn excerpt(text: &str) -> String {
    const CHARACTERS_MAX: usize = 200;
    text.chars().take(CHARACTERS_MAX).collect()
}

impl From<CursorError> for ApiError {
    fn from(error: CursorError) -> Self {
        match error {
            CursorError::TooOld { cursor, oldest, newest } => {
                let resume = Cursor::before(oldest);
                let message = format!(
                    "the events after cursor {cursor} are no longer kept; go on with cursor {resume} to skip what was \
                     trimmed, or with cursor=0 for all that is kept"
                );
                Self::too_old(message, oldest, newest)
            }
            CursorError::Ahead { cursor, newest } => {
                let message = format!(
                    "cursor {cursor} is beyond the newest sequence, {newest}; use the last sequence that you handled \
                     (has the gateway lost its database?)"
                );
                Self::bad_request("cursor_ahead", message)
            }
        }
    }
}

impl ApiError {
    /// Creates the error for a cursor whose next events have been trimmed.
    pub(super) fn too_old(message: String, oldest: Seq, newest: Cursor) -> Self {
        Self::new(StatusCode::GONE, "cursor_too_old", message)
            .with("oldest", oldest.get())
            .with("newest", newest.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "00000000000000af";

    fn log() -> LogId {
        LOG.parse().expect("an identity")
    }

    #[track_caller]
    fn refused(query: &str, code: &str, message: &str) {
        let error = Query::parse(query, WS_PARAMETERS, log()).expect_err(query);
        assert_eq!(error.code(), code, "{query}");
        assert!(error.to_string().contains(message), "{query}: {error}");
    }

    #[test]
    fn every_error_is_reported() {
        refused("curser=1", "unknown_parameter", "takes cursor, format, kinds, authors, filter");
        refused("limit=1", "unknown_parameter", "`limit`");
        refused("kinds=1&kinds=7", "repeated_parameter", "`kinds` occurs more than once");
        refused("cursor=%zz", "malformed_query", "`cursor` is not");
        refused("%zz=1", "malformed_query", "`%zz` is not");
        refused("cursor=%f", "malformed_query", "`cursor` is not");
        refused("cursor=%ff", "malformed_query", "UTF-8");
        for cursor in ["", "-1", "%2B1", "+1", "1.0", "0x1", "18446744073709551616", "1 ", "٣"] {
            refused(&format!("cursor={cursor}"), "bad_cursor", "`cursor` must be a sequence number");
        }
        for number in ["", "-1", "+1", "1 ", ":1", "18446744073709551616"] {
            refused(&format!("cursor={LOG}:{number}"), "bad_cursor", "LOG:SEQ");
        }
        for other in ["", "0af", "00000000000000AF", "0000000000000000af", "00000000000000ag"] {
            refused(&format!("cursor={other}:1"), "bad_cursor", "LOG:SEQ");
        }
        for kinds in ["", "1,", ",", "65536", "-1", "1 7", "1;7", "one"] {
            refused(&format!("kinds={kinds}"), "bad_kinds", "0 to 65535");
        }
        for authors in ["", "npub1", &"0F".repeat(32), &"0f".repeat(31)] {
            refused(&format!("authors={authors}"), "bad_authors", "64 lower-case hex digits");
        }
        for filter in ["", "[]", "{", "%7B%22kind%22:[1]%7D", &"[".repeat(50_000)] {
            refused(&format!("filter={filter}"), "bad_filter", "NIP-01 filter");
        }
        for name in ["", "a b", "a/b", "ä", "a:1", &"x".repeat(65)] {
            refused(&format!("consumer={name}"), "bad_consumer", "1 to 64 of the characters");
        }
        refused("consumer=a&seek=x", "bad_seek", "`seek` must be a sequence number");
        refused("seek=1", "bad_seek", "given together with `consumer`");
        refused("consumer=a&seek=1&cursor=1", "bad_seek", "without `cursor`");
        refused("format=json", "bad_format", "`event` or `envelope`");
    }

    #[test]
    fn a_cursor_may_name_its_log() {
        let read = |query: &str| Query::parse(query, WS_PARAMETERS, log());
        let cursor = Some(Cursor::from_number(7));
        assert_eq!(read(&format!("cursor={LOG}:7")).expect("right").cursor, cursor);
        assert_eq!(read(&format!("cursor={LOG}%3A7")).expect("right").cursor, cursor);
        assert_eq!(read(&format!("consumer=a&seek={LOG}:7")).expect("right").seek, cursor);
        let other = "fedcba9876543210";
        for query in [format!("cursor={other}:0"), format!("consumer=a&seek={other}:7")] {
            let name = if query.starts_with("cursor") { "cursor" } else { "seek" };
            refused(&query, "cursor_of_another_log", &format!("`{name}` belongs to the log {other}"));
            refused(&query, "cursor_of_another_log", &format!("{name}=0, or with {name}={LOG}:N"));
        }
    }

    #[test]
    fn messages_are_short_whatever_was_sent() {
        for query in [
            "x".repeat(60_000),
            format!("filter=%7B%22{}%22:1%7D", "x".repeat(60_000)),
            format!("cursor={}%", "x".repeat(60_000)),
        ] {
            let error = Query::parse(&query, WS_PARAMETERS, log()).expect_err("wrong").to_string();
            assert!(error.len() < 1_000, "{}", error.len());
        }
    }

    #[test]
    fn valid_queries_are_parsed() {
        let query =
            Query::parse("cursor=18446744073709551615&&format=event", WS_PARAMETERS, log()).expect("right");
        assert_eq!(query.cursor, Some(Cursor::from_number(u64::MAX)));
        assert_eq!(query.format, Some(Format::Event));
        let query = Query::parse("seek=7&consumer=A.z_0-9", WS_PARAMETERS, log()).expect("right");
        assert_eq!(query.consumer.as_ref().map(ConsumerName::as_str), Some("A.z_0-9"));
        assert_eq!((query.seek, query.cursor), (Some(Cursor::from_number(7)), None));
        let query = Query::parse("limit=1000&kinds=1,7", PAGE_PARAMETERS, log()).expect("right");
        assert_eq!((query.limit, query.selection.filters().len()), (Some(1_000), 1));
        let query =
            Query::parse("filter=%7b%22%23t%22%3A[%22a+b%2bc%22]%7D", WS_PARAMETERS, log()).expect("right");
        assert_eq!(query.selection.filters(), [Filter::parse(r##"{"#t":["a b+c"]}"##).expect("right")]);
    }
}
