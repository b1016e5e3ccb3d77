//! Parses query strings, which select events, a cursor and a format. Parsing is strict, because
//! ignoring a parameter silently would lose or repeat events.
//!
//! The length is bounded: the server answers 414 to a URI longer than 65,534 bytes (`http::Uri`).

use std::time::Duration;

use axum::http::StatusCode;
use wire::{Filter, PublicKey};

use super::error::{ApiError, Details};
use super::parameter::{Form, Parameter};
use crate::event_log::{Cursor, LogId};
use crate::limits::{HEARTBEAT_SECS, PAGE_EVENTS_MAX};
use crate::receiver::{Format, Selection};
use crate::serve::ConsumerName;

const CURSOR: Parameter = Parameter {
    name: "cursor",
    code: "bad_cursor",
    form: Form::Cursor,
    about: "The last sequence that you have processed, alone or as `LOG:SEQ`; 0 means all that is kept.",
};

const SINCE: Parameter = Parameter {
    name: "since",
    code: "bad_since",
    form: Form::Time,
    about: "Starts with the events that the gateway received at this Unix time in seconds, or later; replaces `cursor`.",
};

const HEARTBEAT: Parameter = Parameter {
    name: "heartbeat",
    code: "bad_heartbeat",
    form: Form::Seconds { least: *HEARTBEAT_SECS.start(), most: *HEARTBEAT_SECS.end() },
    about: "Sends a heartbeat with the cursor when no other message was sent for this number of seconds.",
};

/// The header in which a browser that reconnects to an event stream sends the last id.
pub(super) const LAST_EVENT_ID: Parameter = Parameter {
    name: "Last-Event-ID",
    code: "bad_last_event_id",
    form: Form::Cursor,
    about: "The last id that was received, which browsers send when they reconnect; replaces `cursor` and `since`.",
};

const CONSUMER: Parameter = Parameter {
    name: "consumer",
    code: "bad_consumer",
    form: Form::Name,
    about: "The name under which the gateway stores your cursor.",
};

const SEEK: Parameter = Parameter {
    name: "seek",
    code: "bad_seek",
    form: Form::Cursor,
    about: "Moves the stored cursor of `consumer`; replaces `cursor`.",
};

const FORMAT: Parameter = Parameter {
    name: "format",
    code: "bad_format",
    form: Form::Choice(&["event", "envelope"]),
    about: "Bare events or envelopes. The default is `event` without `cursor` and `consumer`, else `envelope`.",
};

const KINDS: Parameter =
    Parameter { name: "kinds", code: "bad_kinds", form: Form::Kinds, about: "Only events of these kinds." };

const AUTHORS: Parameter = Parameter {
    name: "authors",
    code: "bad_authors",
    form: Form::Authors,
    about: "Only events of these public keys.",
};

const FILTER: Parameter = Parameter {
    name: "filter",
    code: "bad_filter",
    form: Form::Filter,
    about: "Only events that match this NIP-01 filter. `limit` is ignored.",
};

/// The number of items in a page.
pub(super) const LIMIT: Parameter = Parameter {
    name: "limit",
    code: "bad_limit",
    form: Form::Count { least: 1, most: PAGE_EVENTS_MAX, default: Some(100) },
    about: "The maximum number of items.",
};

/// The parameters of `/ws`.
pub(crate) const WS_PARAMETERS: &[Parameter] =
    &[CURSOR, SINCE, FORMAT, KINDS, AUTHORS, FILTER, CONSUMER, SEEK, HEARTBEAT];

/// The parameters of `/api/events/stream`: those of `/ws` except for consumers, which acknowledge.
pub(crate) const EVENT_STREAM_PARAMETERS: &[Parameter] =
    &[CURSOR, SINCE, FORMAT, KINDS, AUTHORS, FILTER, HEARTBEAT];

/// The parameters of `/fanout`.
pub(crate) const FANOUT_PARAMETERS: &[Parameter] = &[CURSOR, CONSUMER, SEEK, HEARTBEAT];

/// The parameters of `/api/events`.
pub(crate) const PAGE_PARAMETERS: &[Parameter] = &[CURSOR, SINCE, LIMIT, KINDS, AUTHORS, FILTER];

/// The parameters for pages of dead letters.
pub(crate) const DEAD_LETTERS_PARAMETERS: &[Parameter] = &[CURSOR, LIMIT];

/// What is wrong with a query string.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum QueryError {
    /// A name or value is not percent-encoded UTF-8. The value is not shown, because it may be a
    /// secret.
    #[error("`{0}` is not percent-encoded UTF-8; encode each value, as encodeURIComponent does")]
    Encoding(String),
    #[error("unknown parameter `{name}`; this path takes {}", names(allowed))]
    Unknown {
        /// The name, shortened.
        name: String,
        allowed: &'static [Parameter],
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
}

fn names(parameters: &[Parameter]) -> String {
    parameters.iter().map(|parameter| parameter.name).collect::<Vec<_>>().join(", ")
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        let (code, message) = (error.code(), error.to_string());
        match error {
            QueryError::OtherLog { log, .. } => {
                let details = Details { log: Some(log), ..Details::default() };
                Self::new(StatusCode::CONFLICT, code, message).with(details)
            }
            _ => Self::bad_request(code, message),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Query {
    pub cursor: Option<Cursor>,
    /// Starts with the events received at this time or later, in Unix seconds. Excludes `cursor`
    /// and `seek`.
    pub since: Option<u64>,
    /// The consumer whose cursor is used.
    pub consumer: Option<ConsumerName>,
    /// Moves the cursor of the consumer. Requires `consumer` and excludes `cursor`.
    pub seek: Option<Cursor>,
    pub format: Option<Format>,
    /// The time without a message after which the client gets a heartbeat.
    pub heartbeat: Option<Duration>,
    /// The page size, at least 1.
    pub limit: usize,
    pub selection: Selection,
}

impl Query {
    /// Parses a query string without the leading `?`. Accepts only `allowed` parameters, and only
    /// cursors of `log`.
    ///
    /// # Errors
    /// When a parameter is unknown, repeated or malformed, or a cursor belongs to another log.
    pub fn parse(query: &str, allowed: &'static [Parameter], log: LogId) -> Result<Self, QueryError> {
        let mut read = Self { limit: LIMIT.default_count(), ..Self::default() };
        let mut filters = Vec::new();
        let mut lists = Filter::new();
        for (parameter, value) in parameters(query, allowed)? {
            match parameter.name {
                "cursor" => read.cursor = Some(cursor(parameter, &value, log)?),
                "since" => read.since = Some(since(parameter, &value)?),
                "consumer" => read.consumer = Some(consumer(parameter, &value)?),
                "seek" => read.seek = Some(cursor(parameter, &value, log)?),
                "format" => read.format = Some(format(parameter, &value)?),
                "heartbeat" => read.heartbeat = Some(heartbeat(parameter, &value)?),
                "limit" => read.limit = parameter.count(&value)?,
                "kinds" => lists = lists.kinds(kinds(parameter, &value)?),
                "authors" => lists = lists.authors(authors(parameter, &value)?),
                _ => filters.push(filter(parameter, &value)?),
            }
        }
        if lists != Filter::new() {
            filters.push(lists);
        }
        read.selection = Selection::new(filters);
        if read.seek.is_some() && (read.consumer.is_none() || read.cursor.is_some()) {
            return Err(SEEK.wrong("given together with `consumer`, which it moves, and without `cursor`"));
        }
        if read.since.is_some() && (read.cursor.is_some() || read.seek.is_some()) {
            let expected = "given without `cursor` and `seek`, which say where to start, too";
            return Err(SINCE.wrong(expected));
        }
        Ok(read)
    }
}

/// Returns the decoded parameters in order.
///
/// # Errors
/// When a parameter is unknown, repeated or not valid UTF-8.
pub(super) fn parameters(
    query: &str,
    allowed: &'static [Parameter],
) -> Result<Vec<(&'static Parameter, String)>, QueryError> {
    let mut found: Vec<(&'static Parameter, String)> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let wrong = || QueryError::Encoding(excerpt(name));
        let (name, value) = decode(name).zip(decode(value)).ok_or_else(wrong)?;
        let Some(parameter) = allowed.iter().find(|allowed| allowed.name == name) else {
            return Err(QueryError::Unknown { name: excerpt(&name), allowed });
        };
        if found.iter().any(|(other, _)| other.name == name) {
            return Err(QueryError::Repeated(parameter.name));
        }
        found.push((parameter, value));
    }
    Ok(found)
}

/// Parses `SEQ` or `LOG:SEQ`. `LOG:SEQ` is refused if `LOG` is another log, because `SEQ` is
/// another event there.
pub(super) fn cursor(parameter: &Parameter, value: &str, log: LogId) -> Result<Cursor, QueryError> {
    let expected = "a sequence number, the last that you handled, or 0 for all that is kept; with the log's identity \
                    before it, LOG:SEQ, it is refused if this is another log";
    let wrong = || parameter.wrong(expected);
    let (found, number) = match value.split_once(':') {
        Some((found, number)) => (found.parse().map_err(|_| wrong())?, number),
        None => (log, value),
    };
    let number = whole_number(number).ok_or_else(wrong)?;
    if found != log {
        return Err(QueryError::OtherLog { name: parameter.name, found, log });
    }
    Ok(Cursor::from_number(number))
}

fn since(parameter: &Parameter, value: &str) -> Result<u64, QueryError> {
    whole_number(value).ok_or_else(|| parameter.wrong("a Unix time in seconds: since=1700000000"))
}

fn consumer(parameter: &Parameter, value: &str) -> Result<ConsumerName, QueryError> {
    ConsumerName::new(value).ok_or_else(|| parameter.wrong(ConsumerName::ALLOWED))
}

fn format(parameter: &Parameter, value: &str) -> Result<Format, QueryError> {
    match value {
        "event" => Ok(Format::Event),
        "envelope" => Ok(Format::Envelope),
        _ => Err(parameter.wrong("`event` or `envelope`")),
    }
}

fn heartbeat(parameter: &Parameter, value: &str) -> Result<Duration, QueryError> {
    let secs = whole_number(value).filter(|secs| HEARTBEAT_SECS.contains(secs));
    let expected =
        format_args!("a number of seconds from {} to {}", HEARTBEAT_SECS.start(), HEARTBEAT_SECS.end());
    secs.map(Duration::from_secs).ok_or_else(|| parameter.wrong(expected))
}

fn kinds(parameter: &Parameter, value: &str) -> Result<Vec<u16>, QueryError> {
    let kind = |kind| whole_number(kind).and_then(|kind| u16::try_from(kind).ok());
    let kinds: Option<Vec<u16>> = value.split(',').map(kind).collect();
    kinds.ok_or_else(|| parameter.wrong("a list of kinds, numbers from 0 to 65535: kinds=1,7"))
}

fn authors(parameter: &Parameter, value: &str) -> Result<Vec<PublicKey>, QueryError> {
    let authors: Result<Vec<PublicKey>, _> = value.split(',').map(str::parse).collect();
    let expected = "a list of public keys of 64 lower-case hex digits (decode npub1… first)";
    authors.map_err(|_| parameter.wrong(expected))
}

fn filter(parameter: &Parameter, value: &str) -> Result<Filter, QueryError> {
    Filter::parse(value).map_err(|error| {
        let what = excerpt(&error.to_string());
        parameter.wrong(format_args!("a NIP-01 filter as percent-encoded JSON: {what}"))
    })
}

/// Accepts only digits: `u64::from_str` would accept a plus sign.
pub(super) fn whole_number(value: &str) -> Option<u64> {
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
        refused("curser=1", "unknown_parameter", "takes cursor, since, format, kinds, authors, filter");
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
        for time in ["", "-1", "1.5", "2023-11-14", "18446744073709551616"] {
            refused(&format!("since={time}"), "bad_since", "a Unix time in seconds");
        }
        refused("since=1&cursor=1", "bad_since", "without `cursor` and `seek`");
        refused("consumer=a&since=1&seek=1", "bad_since", "without `cursor` and `seek`");
        refused("format=json", "bad_format", "`event` or `envelope`");
        for seconds in ["", "0", "4", "3601", "30s", "5.0", "-5"] {
            refused(&format!("heartbeat={seconds}"), "bad_heartbeat", "seconds from 5 to 3600");
        }
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
        assert_eq!((query.limit, query.selection.filters().len()), (1_000, 1));
        let query =
            Query::parse("filter=%7b%22%23t%22%3A[%22a+b%2bc%22]%7D", WS_PARAMETERS, log()).expect("right");
        assert_eq!(query.selection.filters(), [Filter::parse(r##"{"#t":["a b+c"]}"##).expect("right")]);
    }
}
