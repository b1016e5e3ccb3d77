//! The machine-readable prefixes of CLOSED and NOTICE messages (NIP-01 and NIP-42).

use std::fmt;

/// The maximum length of a kept reason.
const TEXT_CHARS_MAX: usize = 200;

/// The kind of a refusal, by its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RefusalKind {
    /// `rate-limited:`: we ask too often.
    RateLimited,
    /// `auth-required:`: the relay demands authentication (NIP-42).
    AuthRequired,
    /// `restricted:`: the relay does not serve our key.
    Restricted,
    /// `blocked:`: the relay does not serve us with any key.
    Blocked,
    /// `invalid:` and `unsupported:`: the relay does not accept the request in this form.
    Invalid,
    /// `error:`, another prefix, or none: the request failed this time.
    Error,
}

impl RefusalKind {
    /// Whether the cause may be the request, rather than its rate or our key.
    pub(crate) const fn is_about_the_request(self) -> bool {
        matches!(self, Self::Invalid | Self::Error)
    }
}

/// A refusal with the relay's reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub kind: RefusalKind,
    /// The reason, truncated, with control characters escaped.
    pub text: Box<str>,
}

impl Refusal {
    /// Parses a relay's reason.
    pub fn parse(reason: &str) -> Self {
        let kind = by_prefix(reason).unwrap_or(RefusalKind::Error);
        let text: String = reason.chars().flat_map(char::escape_debug).take(TEXT_CHARS_MAX).collect();
        Self { kind, text: text.into() }
    }

    /// Whether a notice has the prefix of a refusal. Other notices may be about anything.
    pub(crate) fn is_one(notice: &str) -> bool {
        by_prefix(notice).is_some()
    }
}

fn by_prefix(reason: &str) -> Option<RefusalKind> {
    let (prefix, _) = reason.split_once(':')?;
    Some(match prefix.trim().to_ascii_lowercase().as_str() {
        "rate-limited" => RefusalKind::RateLimited,
        "auth-required" => RefusalKind::AuthRequired,
        "restricted" => RefusalKind::Restricted,
        "blocked" => RefusalKind::Blocked,
        "invalid" | "unsupported" => RefusalKind::Invalid,
        "error" => RefusalKind::Error,
        _ => return None,
    })
}

impl Refusal {
    /// Whether the refusal means too many subscriptions. There is no prefix for this case; relays
    /// use words such as strfry's "ERROR: too many concurrent REQs".
    pub(crate) fn is_about_subscriptions(&self) -> bool {
        let text = self.text.to_ascii_lowercase();
        let too_many = text.contains("too many") || text.contains("maximum");
        too_many && ["subscription", "concurrent"].iter().any(|word| text.contains(word))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.text {
            "" => f.write_str("no reason given"),
            text => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_understood() {
        for (reason, kind) in [
            ("rate-limited: slow down", RefusalKind::RateLimited),
            ("auth-required: who are you?", RefusalKind::AuthRequired),
            ("restricted: not on the list", RefusalKind::Restricted),
            ("blocked:", RefusalKind::Blocked),
            ("Invalid : limit", RefusalKind::Invalid),
            ("unsupported: filter", RefusalKind::Invalid),
            ("error: shutting down", RefusalKind::Error),
            ("pow: difficulty 26 needed", RefusalKind::Error),
            ("blocked", RefusalKind::Error),
            ("", RefusalKind::Error),
        ] {
            assert_eq!(Refusal::parse(reason).kind, kind, "{reason}");
        }
    }

    #[test]
    fn a_notice_is_a_refusal_only_by_its_prefix() {
        for notice in ["ERROR: bad req", "rate-limited: slow down", "blocked:"] {
            assert!(Refusal::is_one(notice), "{notice}");
        }
        for notice in ["welcome", "note: we move on friday", "could not parse", ""] {
            assert!(!Refusal::is_one(notice), "{notice}");
        }
    }

    #[test]
    fn too_many_subscriptions_are_recognised_by_their_words() {
        for (reason, is) in [
            ("error: too many concurrent subscriptions", true),
            ("ERROR: too many concurrent REQs", true),
            ("Maximum concurrent subscription count reached", true),
            ("error: too many results", false),
            ("error: shutting down idle subscription", false),
        ] {
            assert_eq!(Refusal::parse(reason).is_about_subscriptions(), is, "{reason}");
        }
    }

    #[test]
    fn a_reason_is_short_and_on_one_line() {
        assert_eq!(Refusal::parse("error: a\nb").to_string(), "error: a\\nb");
        assert_eq!(Refusal::parse(&"x".repeat(5_000)).text.len(), TEXT_CHARS_MAX);
        assert_eq!(Refusal::parse("").to_string(), "no reason given");
    }
}
