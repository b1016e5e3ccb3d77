//! The URL that a proof must name.

use std::net::IpAddr;

use url::{Host, Url};

use crate::config::PublicUrl;

/// The gateway's URL. It is configured, because the `Host` header of a request cannot be trusted:
/// another server could forward a follower's proof to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GatewayUrl {
    /// Only this URL.
    Public(PublicUrl),
    /// Any loopback name of this machine, with this port.
    Loopback(u16),
    /// No URL is configured, and the API is not bound to a loopback address.
    Unknown,
}

impl GatewayUrl {
    pub fn new(public_url: Option<PublicUrl>, bound: IpAddr, port: u16) -> Self {
        match public_url {
            Some(url) => Self::Public(url),
            None if bound.to_canonical().is_loopback() => Self::Loopback(port),
            None => Self::Unknown,
        }
    }

    /// Whether a URL refers to this path and query on our server. The URL of a WebSocket may have
    /// an HTTP scheme.
    pub(super) fn matches(&self, url: &str, path_and_query: &str) -> bool {
        let Some(url) = as_http(url) else { return false };
        let base = match self {
            Self::Public(base) => base.as_str().to_owned(),
            Self::Loopback(port) if is_loopback(&url) => {
                let host = url.host_str().unwrap_or_default();
                format!("http://{host}:{port}")
            }
            Self::Loopback(_) | Self::Unknown => return false,
        };
        as_http(&format!("{base}{path_and_query}")).is_some_and(|ours| ours == url)
    }

    /// Returns the URL that should have been signed, for an error message. Shortens a long path.
    pub(super) fn expected(&self, path_and_query: &str) -> Box<str> {
        const CHARACTERS_MAX: usize = 300;
        let path: String = path_and_query.chars().take(CHARACTERS_MAX).collect();
        let cut = if path.len() < path_and_query.len() { "…" } else { "" };
        match self {
            Self::Public(base) => format!("{}{path}{cut}", base.as_str()).into(),
            Self::Loopback(port) => format!("http://127.0.0.1:{port}{path}{cut}, or with localhost").into(),
            Self::Unknown => "".into(),
        }
    }

    /// Whether a URL refers to `/fanout` or to the server as a whole. The `relay` tag of NIP-42 may
    /// name either.
    pub(super) fn matches_relay(&self, url: &str) -> bool {
        let url = url.trim_end_matches('/');
        ["", "/", "/fanout"].iter().any(|path| self.matches(url, path))
    }
}

/// Normalises a URL. Replaces the schemes `ws` and `wss` by `http` and `https`.
fn as_http(url: &str) -> Option<Url> {
    let rest = |scheme: &str| {
        let (found, rest) = url.split_at_checked(scheme.len())?;
        found.eq_ignore_ascii_case(scheme).then_some(rest)
    };
    let url = match (rest("wss://"), rest("ws://")) {
        (Some(rest), _) => Url::parse(&format!("https://{rest}")),
        (_, Some(rest)) => Url::parse(&format!("http://{rest}")),
        _ => Url::parse(url),
    };
    let url = url.ok()?;
    let has_user = !url.username().is_empty() || url.password().is_some();
    (matches!(url.scheme(), "http" | "https") && !has_user && url.fragment().is_none()).then_some(url)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway_url(public: Option<&str>, bound: &str) -> GatewayUrl {
        GatewayUrl::new(public.map(|url| url.parse().unwrap()), bound.parse().unwrap(), 8080)
    }

    #[test]
    fn with_a_public_url_no_other_matches() {
        let ours = gateway_url(Some("https://relayer.example/gateway"), "0.0.0.0");
        for url in [
            "https://relayer.example/gateway/api/x?a=1",
            "HTTPS://Relayer.EXAMPLE:443/gateway/api/x?a=1",
            "wss://relayer.example/gateway/api/x?a=1",
        ] {
            assert!(ours.matches(url, "/api/x?a=1"), "{url}");
        }
        for url in [
            "http://relayer.example/gateway/api/x?a=1",
            "https://relayer.example/api/x?a=1",
            "https://relayer.example:8080/gateway/api/x?a=1",
            "https://relayer.example/gateway/api/x?a=2",
            "https://relayer.example/gateway/api/x",
            "https://relayer.example/gateway/api/x?a=1#b",
            "https://me@relayer.example/gateway/api/x?a=1",
            "https://relayer.example.evil/gateway/api/x?a=1",
            "http://127.0.0.1:8080/api/x?a=1",
            "",
            "x",
        ] {
            assert!(!ours.matches(url, "/api/x?a=1"), "{url}");
        }
    }

    #[test]
    fn on_a_loopback_address_all_its_names_match() {
        let ours = gateway_url(None, "127.0.0.1");
        for host in ["127.0.0.1", "localhost", "LOCALHOST", "[::1]", "127.9.9.9"] {
            assert!(ours.matches(&format!("http://{host}:8080/fanout"), "/fanout"), "{host}");
            assert!(ours.matches_relay(&format!("ws://{host}:8080")), "{host}");
        }
        for url in [
            "http://127.0.0.1:8081/fanout",
            "http://127.0.0.1/fanout",
            "https://127.0.0.1:8080/fanout",
            "http://localhost.evil:8080/fanout",
            "http://10.0.0.1:8080/fanout",
        ] {
            assert!(!ours.matches(url, "/fanout"), "{url}");
        }
    }

    #[test]
    fn a_relay_tag_names_us_or_the_socket() {
        let ours = gateway_url(Some("https://relayer.example"), "0.0.0.0");
        for url in ["wss://relayer.example", "wss://relayer.example/", "wss://relayer.example/fanout/"] {
            assert!(ours.matches_relay(url), "{url}");
        }
        for url in ["wss://other.example", "wss://relayer.example/ws", "ws://relayer.example/fanout"] {
            assert!(!ours.matches_relay(url), "{url}");
        }
    }

    #[test]
    fn a_caller_learns_which_url_was_expected() {
        let ours = gateway_url(Some("https://relayer.example/gateway"), "0.0.0.0");
        assert_eq!(&*ours.expected("/api/x?a=1"), "https://relayer.example/gateway/api/x?a=1");
        let long = ours.expected(&format!("/{}", "é".repeat(10_000)));
        assert!(long.chars().count() < 350 && long.ends_with('…'), "{long}");
        let here = gateway_url(None, "127.0.0.1");
        assert_eq!(&*here.expected("/api/x"), "http://127.0.0.1:8080/api/x, or with localhost");
    }

    #[test]
    fn without_a_url_nothing_matches() {
        let ours = gateway_url(None, "0.0.0.0");
        assert_eq!(ours, GatewayUrl::Unknown);
        assert!(!ours.matches("http://0.0.0.0:8080/x", "/x"));
    }
}
