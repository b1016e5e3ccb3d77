//! What a relay means by a `CLOSED` or a `NOTICE`: the machine-readable prefixes of NIP-01 and NIP-42.

use std::fmt;

/// How much of a relay's words is kept, in characters.
const TEXT_CHARS_MAX: usize = 200;

/// What kind of refusal it is, by its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// `rate-limited:`: we ask too often.
    RateLimited,
    /// `auth-required:`: it serves only whom it knows (NIP-42).
    AuthRequired,
    /// `restricted:`: it knows us, and does not serve us.
    Restricted,
    /// `blocked:`: it does not serve us, whoever we are.
    Blocked,
    /// `invalid:` and `unsupported:`: it does not take the request as it was.
    Invalid,
    /// `error:`, another prefix, or none: it could not, this time.
    Error,
}

impl RefusalKind {
    /// Whether it may be because of what was asked, rather than of how often or by whom.
    pub const fn is_about_the_request(self) -> bool {
        matches!(self, Self::Invalid | Self::Error)
    }
}

/// A refusal with the relay's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What it means.
    pub kind: RefusalKind,
    /// What the relay said, shortened, on one line, without control characters.
    pub text: Box<str>,
}

impl Refusal {
    /// Reads a relay's reason.
    pub fn parse(reason: &str) -> Self {
        let kind = by_prefix(reason).unwrap_or(RefusalKind::Error);
        let text: String = reason.chars().flat_map(char::escape_debug).take(TEXT_CHARS_MAX).collect();
        Self { kind, text: text.into() }
    }

    /// Whether a notice, which may be about anything, has one of the prefixes that refusals have.
    pub fn is_one(notice: &str) -> bool {
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
    /// Whether it says that there are too many subscriptions. There is no prefix for that: relays say so in
    /// words, such as strfry's "ERROR: too many concurrent REQs".
    pub fn is_about_subscriptions(&self) -> bool {
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
    fn words_are_short_and_on_one_line() {
        assert_eq!(Refusal::parse("error: a\nb").to_string(), "error: a\\nb");
        assert_eq!(Refusal::parse(&"x".repeat(5_000)).text.len(), TEXT_CHARS_MAX);
        assert_eq!(Refusal::parse("").to_string(), "no reason given");
    }
}
