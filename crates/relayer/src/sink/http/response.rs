//! Interprets the response of a sink. No I/O, no clock.
//!
//! Texts from a sink pass through [`Secrets`] before they become part of a reason, because reasons
//! are logged, shown by `/api/downstreams` and stored with dead letters.

use std::time::{Duration, SystemTime};

use axum::http::{HeaderMap, StatusCode, header};

use super::secrets::Secrets;
use crate::config::HttpUrl;
use crate::limits::{
    REFUSED_BYTES_IN_A_ROW_MAX, REFUSED_EVENTS_IN_A_ROW_MAX, REFUSED_IN_A_ROW_MAX, RETRY_AFTER_MAX,
};
use crate::net::backoff;

/// The outcome of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Delivered,
    Retry {
        reason: String,
        /// The `Retry-After` of the sink, at most [`RETRY_AFTER_MAX`].
        after: Option<Duration>,
    },
    /// The sink closed the connection in normal operation and did not process the request (RFC
    /// 9113, sections 6.8 and 8.7). The request can be sent again at once, on another connection.
    NotProcessed {
        reason: String,
    },
    TooLarge {
        reason: String,
    },
    /// The sink will never accept the events.
    Refused {
        reason: String,
    },
    /// The sink no longer exists.
    Gone {
        reason: String,
    },
}

impl Outcome {
    /// Derives the outcome from the status. `body` is the beginning of the body, `asked` the URL of
    /// the request.
    pub(super) fn of(
        (status, headers, body): (StatusCode, &HeaderMap, &str),
        (asked, secrets): (&HttpUrl, &Secrets),
        now: SystemTime,
    ) -> Self {
        let body = secrets.redact(body);
        let location = headers.get(header::LOCATION).and_then(|to| to.to_str().ok());
        let location = location.and_then(|to| secrets.redact_location(asked, to));
        let reason = reason(status, location, &body);
        match status {
            _ if status.is_success() => Self::Delivered,
            StatusCode::GONE => Self::Gone { reason },
            StatusCode::PAYLOAD_TOO_LARGE => Self::TooLarge { reason },
            // 421: the server does not serve this host, but may serve it on another connection (RFC
            // 9110, section 15.5.20). 425: too early (RFC 8470).
            StatusCode::REQUEST_TIMEOUT
            | StatusCode::MISDIRECTED_REQUEST
            | StatusCode::TOO_EARLY
            | StatusCode::TOO_MANY_REQUESTS => Self::Retry { reason, after: retry_after(headers, now) },
            _ if status.is_client_error() => Self::Refused { reason },
            _ => Self::Retry { reason, after: retry_after(headers, now) },
        }
    }
}

fn reason(status: StatusCode, location: Option<String>, body: &str) -> String {
    let name = status.canonical_reason().map(|name| format!(" {name}")).unwrap_or_default();
    let mut reason = format!("it answered {}{name}", status.as_u16());
    if status.is_redirection() {
        let to = location.map(|to| format!(" (to {to})")).unwrap_or_default();
        reason += &format!("{to}; redirects are not followed, so set the address that it leads to");
    } else if !body.is_empty() {
        reason += &format!(": {body}");
    }
    reason
}

fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let after = backoff::retry_after(headers.get(header::RETRY_AFTER)?.to_str().ok()?, now)?;
    Some(after.min(RETRY_AFTER_MAX))
}

/// What the sink has refused since it last accepted an event. Distinguishes a sink that rejects
/// individual events from one that rejects everything.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    requests: u32,
    events: usize,
    bytes: usize,
}

impl Refusals {
    /// Counts a refused batch. Returns false if the sink refuses everything: then its events would
    /// displace each other from the dead letters. The first batch is always admitted.
    pub(super) fn admit(&mut self, events: usize, bytes: usize) -> bool {
        let is_first = self.requests == 0;
        let fits = self.requests < REFUSED_IN_A_ROW_MAX
            && self.events + events <= REFUSED_EVENTS_IN_A_ROW_MAX
            && self.bytes + bytes <= REFUSED_BYTES_IN_A_ROW_MAX;
        if !is_first && !fits {
            return false;
        }
        self.requests += 1;
        self.events += events;
        self.bytes += bytes;
        true
    }

    pub(super) const fn requests(&self) -> u32 {
        self.requests
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_700_000_000);

    fn outcome(status: u16, headers: &[(&'static str, &str)], body: &str) -> Outcome {
        let headers = headers
            .iter()
            .map(|(name, value)| (header::HeaderName::from_static(name), value.parse().unwrap()))
            .collect();
        let status = StatusCode::from_u16(status).unwrap();
        let asked = "https://sink.example/hook".parse().unwrap();
        let secrets = Secrets::default();
        Outcome::of((status, &headers, body), (&asked, &secrets), SystemTime::UNIX_EPOCH + NOW)
    }

    #[test]
    fn the_status_decides() {
        for status in [200, 201, 202, 204, 299] {
            assert_eq!(outcome(status, &[], "no"), Outcome::Delivered);
        }
        for status in [400, 401, 403, 404, 405, 409, 415, 422, 451, 499] {
            assert!(matches!(outcome(status, &[], ""), Outcome::Refused { .. }), "{status}");
        }
        for status in [300, 301, 302, 307, 308, 408, 421, 425, 429, 500, 501, 502, 503, 504, 599] {
            assert!(matches!(outcome(status, &[], ""), Outcome::Retry { after: None, .. }), "{status}");
        }
        let reason = "it answered 410 Gone: moved away".to_owned();
        assert_eq!(outcome(410, &[], "moved away"), Outcome::Gone { reason });
        let reason = "it answered 413 Payload Too Large".to_owned();
        assert_eq!(outcome(413, &[], ""), Outcome::TooLarge { reason });
    }

    #[test]
    fn a_redirect_says_where_to() {
        let Outcome::Retry { reason, .. } = outcome(308, &[("location", "https://a.example/x?token=1")], "")
        else {
            panic!()
        };
        assert_eq!(
            reason,
            "it answered 308 Permanent Redirect (to https://a.example/x); redirects are not followed, so set \
             the address that it leads to"
        );
    }

    #[test]
    fn retry_after_has_two_forms_and_a_bound() {
        let after = |value| match outcome(503, &[("retry-after", value)], "") {
            Outcome::Retry { after, .. } => after.map(|after| after.as_secs()),
            other => panic!("{other:?}"),
        };
        assert_eq!(after("0"), Some(0));
        assert_eq!(after(" 120 "), Some(120));
        assert_eq!(after("99999999999999999999999"), Some(RETRY_AFTER_MAX.as_secs()));
        assert_eq!(after("Tue, 14 Nov 2023 22:14:20 GMT"), Some(60));
        assert_eq!(after("Fri, 14 Nov 2053 22:13:20 GMT"), Some(RETRY_AFTER_MAX.as_secs()));
        for nothing in ["", "-1", "1.5", "soon", "Tue, 14 Nov 2023 22:13:19 GMT", "+5"] {
            assert_eq!(after(nothing), None, "{nothing}");
        }
    }
}
