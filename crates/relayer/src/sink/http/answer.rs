//! What an answer to a post means. No I/O, no clock.
//!
//! Everything that the sink says goes through [`Secrets`] before it becomes part of a reason:
//! reasons are logged, shown by `/api/downstreams` and kept with dead letters.

use std::time::{Duration, SystemTime};

use axum::http::{HeaderMap, StatusCode, header};

use super::secrets::Secrets;
use crate::config::HttpUrl;
use crate::limits::RETRY_AFTER_MAX;
use crate::net::backoff;

/// What became of a post.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// The sink has it.
    Taken,
    /// The sink does not have it, and is to be asked again, not before so long.
    Later {
        /// Why.
        reason: String,
        /// What the sink asks for; never longer than [`RETRY_AFTER_MAX`].
        after: Option<Duration>,
    },
    /// The sink has not looked at it, because it closes the connection in normal operation (RFC
    /// 9113, sections 6.8 and 8.7). It can be sent again at once, on another connection.
    NotProcessed {
        /// What the sink said.
        reason: String,
    },
    /// It is too large.
    TooLarge {
        /// What the sink said.
        reason: String,
    },
    /// The sink will never take it.
    Refused {
        /// What the sink said.
        reason: String,
    },
    /// There is no such sink any more.
    Gone {
        /// What the sink said.
        reason: String,
    },
}

impl Answer {
    /// Judges by status and headers. `said` is the beginning of the body, `asked` where the post
    /// was sent.
    pub fn of(
        (status, headers, said): (StatusCode, &HeaderMap, &str),
        (asked, secrets): (&HttpUrl, &Secrets),
        now: SystemTime,
    ) -> Self {
        let said = secrets.shown(said);
        let location = headers.get(header::LOCATION).and_then(|to| to.to_str().ok());
        let location = location.and_then(|to| secrets.shown_location(asked, to));
        let reason = reason(status, location, &said);
        match status {
            _ if status.is_success() => Self::Taken,
            StatusCode::GONE => Self::Gone { reason },
            StatusCode::PAYLOAD_TOO_LARGE => Self::TooLarge { reason },
            // 421: sent to a server that does not serve this host; on another connection it may be
            // served (RFC 9110, section 15.5.20). 425: sent too early (RFC 8470).
            StatusCode::REQUEST_TIMEOUT
            | StatusCode::MISDIRECTED_REQUEST
            | StatusCode::TOO_EARLY
            | StatusCode::TOO_MANY_REQUESTS => Self::Later { reason, after: retry_after(headers, now) },
            _ if status.is_client_error() => Self::Refused { reason },
            _ => Self::Later { reason, after: retry_after(headers, now) },
        }
    }
}

fn reason(status: StatusCode, location: Option<String>, said: &str) -> String {
    let name = status.canonical_reason().map(|name| format!(" {name}")).unwrap_or_default();
    let mut reason = format!("it answered {}{name}", status.as_u16());
    if status.is_redirection() {
        let to = location.map(|to| format!(" (to {to})")).unwrap_or_default();
        reason += &format!("{to}; redirects are not followed, so set the address that it leads to");
    } else if !said.is_empty() {
        reason += &format!(": {said}");
    }
    reason
}

/// What the sink asks for, within bounds.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let after = backoff::retry_after(headers.get(header::RETRY_AFTER)?.to_str().ok()?, now)?;
    Some(after.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_700_000_000);

    fn answer(status: u16, headers: &[(&'static str, &str)], said: &str) -> Answer {
        let headers = headers
            .iter()
            .map(|(name, value)| (header::HeaderName::from_static(name), value.parse().unwrap()))
            .collect();
        let status = StatusCode::from_u16(status).unwrap();
        let asked = "https://sink.example/hook".parse().unwrap();
        let secrets = Secrets::default();
        Answer::of((status, &headers, said), (&asked, &secrets), SystemTime::UNIX_EPOCH + NOW)
    }

    #[test]
    fn the_status_decides() {
        for status in [200, 201, 202, 204, 299] {
            assert_eq!(answer(status, &[], "no"), Answer::Taken);
        }
        for status in [400, 401, 403, 404, 405, 409, 415, 422, 451, 499] {
            assert!(matches!(answer(status, &[], ""), Answer::Refused { .. }), "{status}");
        }
        for status in [300, 301, 302, 307, 308, 408, 421, 425, 429, 500, 501, 502, 503, 504, 599] {
            assert!(matches!(answer(status, &[], ""), Answer::Later { after: None, .. }), "{status}");
        }
        let reason = "it answered 410 Gone: moved away".to_owned();
        assert_eq!(answer(410, &[], "moved away"), Answer::Gone { reason });
        let reason = "it answered 413 Payload Too Large".to_owned();
        assert_eq!(answer(413, &[], ""), Answer::TooLarge { reason });
    }

    #[test]
    fn a_redirect_says_where_to() {
        let Answer::Later { reason, .. } = answer(308, &[("location", "https://a.example/x?token=1")], "")
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
        let after = |value| match answer(503, &[("retry-after", value)], "") {
            Answer::Later { after, .. } => after.map(|after| after.as_secs()),
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
