//! The `User-Agent` header of requests to relays.

use std::fmt;
use std::str::FromStr;

use super::choices::NotAllowed;

/// How the gateway introduces itself to relays.
///
/// `{version}` stands for the program's version, so that a copy of the template does not name an
/// old version forever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserAgent {
    written: Box<str>,
    sent: Box<str>,
}

impl UserAgent {
    /// The header's value.
    pub fn as_str(&self) -> &str {
        &self.sent
    }
}

/// 1 to 200 characters of visible ASCII, with spaces allowed between them.
impl FromStr for UserAgent {
    type Err = NotAllowed;

    fn from_str(written: &str) -> Result<Self, NotAllowed> {
        let sent = written.replace("{version}", env!("CARGO_PKG_VERSION"));
        let visible = sent.bytes().all(|byte| matches!(byte, b' '..=b'~')) && sent.trim() == sent;
        if visible && (1..=200).contains(&sent.len()) {
            Ok(Self { written: written.into(), sent: sent.into() })
        } else {
            Err(NotAllowed)
        }
    }
}

/// Shows the text as it was written.
impl fmt::Display for UserAgent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

/// Names the program, its version and its repository.
impl Default for UserAgent {
    fn default() -> Self {
        const URL: &str = "https://github.com/ai-chen2050/moltrade-relayer";
        let written = |version| format!("moltrade-relayer/{version} (+{URL})").into();
        Self { written: written("{version}"), sent: written(env!("CARGO_PKG_VERSION")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_agent_is_visible_ascii_and_knows_the_version() {
        let version = env!("CARGO_PKG_VERSION");
        let agent = "me/{version} (mail me@a.example)".parse::<UserAgent>().unwrap();
        assert_eq!(agent.as_str(), format!("me/{version} (mail me@a.example)"));
        let default = UserAgent::default();
        assert_eq!(default.to_string().parse::<UserAgent>().unwrap(), default);
        assert!("x".repeat(200).parse::<UserAgent>().is_ok());
        for bad in ["", " x", "x ", "a\nb", "a\u{7f}", "é", &"x".repeat(201), &"{version}".repeat(41)] {
            assert!(bad.parse::<UserAgent>().is_err(), "{bad}");
        }
    }
}
