//! Types for valid addresses: relay URLs, URLs of the API and of sinks, origins, `host:port`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use url::{Host, Url};

/// The maximum length of a URL, in bytes. It is far above the length of any relay's URL, and bounds
/// the size of logs, metrics and the relay list.
pub(crate) const URL_BYTES_MAX: usize = 1024;

/// Why a text is not a valid address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidUrl(&'static str);

impl InvalidUrl {
    /// The reason, which does not quote the text.
    pub const fn reason(self) -> &'static str {
        self.0
    }
}

/// Makes a type that holds an address in its normal form. Cloning only increments a reference
/// count.
macro_rules! address {
    ($(#[$about:meta])* $Name:ident) => {
        $(#[$about])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $Name(Arc<str>);

        impl $Name {
            /// The normal form.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $Name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $Name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($Name))
            }
        }
    };
    ($(#[$about:meta])* $Name:ident, shown) => {
        address! { $(#[$about])* $Name }

        impl fmt::Display for $Name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

address! {
    /// The URL of a Nostr relay.
    ///
    /// In the normal form, scheme and host are lower case, and the default port, the path `/`, an
    /// empty query and a dot at the end of the host are left out. So `wss://A.example`,
    /// `wss://a.example:443`, `wss://a.example./` and `wss://a.example/?` are one relay, which is
    /// dialled once.
    RelayUrl, shown
}

impl RelayUrl {
    /// The normal form, without copying it.
    pub(crate) fn to_arc(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl FromStr for RelayUrl {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let mut url = parse_url(text, &["ws", "wss"], "its scheme is not ws:// or wss://")?;
        if let Some(host) = url.host_str().and_then(|host| host.strip_suffix('.')).map(str::to_owned) {
            let without = if host.ends_with('.') { None } else { url.set_host(Some(&host)).ok() };
            without.ok_or(InvalidUrl("its host is not a name or an address"))?;
        }
        if url.query() == Some("") {
            url.set_query(None);
        }
        let bare = url.path() == "/" && url.query().is_none();
        let text = url.as_str();
        Ok(Self(Arc::from(if bare { text.strip_suffix('/').unwrap_or(text) } else { text })))
    }
}

address! {
    /// An `http://` or `https://` URL that events are posted to. Its query may hold a secret, and
    /// is not shown.
    HttpUrl
}

impl HttpUrl {
    /// The URL without its query: the part that may be shown.
    pub(crate) fn without_query(&self) -> &str {
        self.0.split_once('?').map_or(&self.0, |(before, _)| before)
    }

    /// Whether the scheme is `https`.
    pub(crate) fn is_https(&self) -> bool {
        self.0.starts_with("https:")
    }

    /// The query, which must not be shown.
    pub fn query(&self) -> Option<&str> {
        self.0.split_once('?').map(|(_, query)| query)
    }
}

impl FromStr for HttpUrl {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        parse_http_url(text).map(|url| Self(url.as_str().into()))
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.without_query(), if self.query().is_some() { "?***" } else { "" })
    }
}

address! {
    /// A `host:port` pair for TCP. The host is in lower case, an IPv6 address in brackets.
    HostPort, shown
}

impl HostPort {
    /// The host name or IP address. An IPv6 address has no brackets here.
    pub fn host(&self) -> &str {
        self.0.rsplit_once(':').map_or("", |(host, _)| host.trim_matches(['[', ']']))
    }

    pub fn port(&self) -> u16 {
        self.0.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or_default()
    }
}

impl FromStr for HostPort {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let (host, port) = text.rsplit_once(':').ok_or(InvalidUrl("it has no port"))?;
        if !port.parse::<u16>().is_ok_and(|port| port != 0) {
            return Err(InvalidUrl("its port is not a number from 1 to 65535"));
        }
        let no_host = InvalidUrl("its host is not a name or an address");
        let host = Host::parse(host).map_err(|_| no_host)?;
        if matches!(&host, Host::Domain(name) if !is_name(name)) {
            return Err(no_host);
        }
        Ok(Self(Arc::from(format!("{host}:{port}"))))
    }
}

address! {
    /// The external URL of the API: scheme, host, and the path before `/fanout` and `/api`, without
    /// a slash at the end.
    PublicUrl, shown
}

impl FromStr for PublicUrl {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let url = parse_http_url(text)?;
        if url.query().is_some() {
            return Err(InvalidUrl("it has a query"));
        }
        Ok(Self(url.as_str().trim_end_matches('/').into()))
    }
}

address! {
    /// The origin of a web page (RFC 6454) as browsers send it: scheme, host, and the port unless
    /// it is the scheme's default.
    WebOrigin, shown
}

impl FromStr for WebOrigin {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let url = parse_http_url(text)?;
        if url.path() != "/" || url.query().is_some() {
            return Err(InvalidUrl("an origin has nothing but a scheme, a host and a port"));
        }
        Ok(Self(url.origin().ascii_serialization().into()))
    }
}

fn parse_http_url(text: &str) -> Result<Url, InvalidUrl> {
    parse_url(text, &["http", "https"], "its scheme is not http:// or https://")
}

/// Parses a URL that is short and absolute, and has a host, no credentials and no fragment.
fn parse_url(text: &str, schemes: &[&str], otherwise: &'static str) -> Result<Url, InvalidUrl> {
    if text.len() > URL_BYTES_MAX {
        return Err(InvalidUrl("it is longer than 1024 bytes"));
    }
    // The parser removes tabs and line breaks, which would join two URLs into one.
    if text.trim().contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(InvalidUrl("it has white space or a control character in it"));
    }
    let url = Url::parse(text.trim()).map_err(|fault| match fault {
        url::ParseError::EmptyHost => InvalidUrl("it has no host"),
        url::ParseError::InvalidPort => InvalidUrl("its port is not a number from 1 to 65535"),
        url::ParseError::RelativeUrlWithoutBase => InvalidUrl("it has no scheme"),
        _ => InvalidUrl("its host is not a name or an address"),
    })?;
    if !schemes.contains(&url.scheme()) {
        return Err(InvalidUrl(otherwise));
    }
    // Escaping lengthens a URL. The normal form must keep the bound, too, so that it can be parsed
    // again.
    if url.as_str().len() > URL_BYTES_MAX {
        return Err(InvalidUrl("it is longer than 1024 bytes"));
    }
    if url.port() == Some(0) {
        return Err(InvalidUrl("its port is not a number from 1 to 65535"));
    }
    if url.fragment().is_some() {
        return Err(InvalidUrl("it has a fragment (#…), which is never sent"));
    }
    if matches!(url.host(), Some(Host::Domain(name)) if !is_name(name)) {
        return Err(InvalidUrl("its host is not a name or an address"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(InvalidUrl("it carries a user or a password, which would end up in logs"));
    }
    Ok(url)
}

/// Whether a host can be a name in DNS. The parser also accepts `a.example;wss`, the beginning of
/// two URLs that a semicolon separates.
fn is_name(host: &str) -> bool {
    host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(input: &str, expect: &str) {
        let got = input.parse::<RelayUrl>().map_or_else(|fault| fault.to_string(), |url| url.to_string());
        assert_eq!(got, expect, "{input}");
    }

    #[test]
    fn a_relay_has_one_spelling() {
        for same in [
            "wss://A.example",
            "wss://a.example:443/",
            "WSS://a.EXAMPLE/",
            " wss://a.example ",
            "wss:a.example",
            "wss://a.example.",
            "wss://a.example.:443/",
            "wss://a.example/?",
            "wss://a.example/./",
            "wss://%61.example",
            "wss://ａ.example",
        ] {
            check(same, "wss://a.example");
        }
        check("ws://a.example:80", "ws://a.example");
        check("ws://a.example:443", "ws://a.example:443");
        check("wss://a.example/r/0", "wss://a.example/r/0");
        check("wss://a.example/?x=1", "wss://a.example/?x=1");
        check("ws://[::1]:7777/", "ws://[::1]:7777");
        for same in ["wss://münchen.example", "wss://MÜNCHEN.example.", "wss://xn--mnchen-3ya.example:443"]
        {
            check(same, "wss://xn--mnchen-3ya.example");
        }
        for same in ["ws://[::1]", "ws://[0:0::1]:80/", "ws://[0000:0000:0000:0000:0000:0000:0000:0001]"] {
            check(same, "ws://[::1]");
        }
        check("ws://[2001:DB8::0:A]", "ws://[2001:db8::a]");
        for same in ["ws://127.0.0.1", "ws://127.1", "ws://0x7f.0.0.1", "ws://2130706433", "ws://127.0.0.1."]
        {
            check(same, "ws://127.0.0.1");
        }
        check("wss://a.example/?x", "wss://a.example/?x");
    }

    #[test]
    fn what_is_no_relay_says_why() {
        check("https://a.example", "its scheme is not ws:// or wss://");
        check("a.example", "it has no scheme");
        check("", "it has no scheme");
        check("wss://", "it has no host");
        check("wss://.", "its host is not a name or an address");
        check("wss://a.example..", "its host is not a name or an address");
        check("wss://a.example:0", "its port is not a number from 1 to 65535");
        check("wss://a.example:99999", "its port is not a number from 1 to 65535");
        check("wss://me:pass@a.example", "it carries a user or a password, which would end up in logs");
        check("wss://a.example/#x", "it has a fragment (#…), which is never sent");
        for between in [" ", "\n", "\t", "\r\n", "\u{a0}", "\0"] {
            let two = format!("wss://a.example{between}wss://b.example");
            check(&two, "it has white space or a control character in it");
        }
        for between in [";", ",", "|", "'"] {
            let two = format!("wss://a.example{between}wss://b.example");
            check(&two, "its host is not a name or an address");
        }
        check(&format!("wss://a.example/{}", "x".repeat(1024)), "it is longer than 1024 bytes");
        check(&format!("wss://a.example/{}", "é".repeat(400)), "it is longer than 1024 bytes");
    }

    #[test]
    fn an_origin_is_written_as_browsers_send_it() {
        for (given, kept) in [
            ("https://App.example", "https://app.example"),
            ("https://app.example:443/", "https://app.example"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("https://münchen.example", "https://xn--mnchen-3ya.example"),
        ] {
            assert_eq!(given.parse::<WebOrigin>().unwrap().as_str(), kept);
        }
        for bad in
            ["", "*", "null", "app.example", "wss://a.example", "https://a.example/x", "https://a.example?x"]
        {
            assert!(bad.parse::<WebOrigin>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_public_url_ends_before_our_paths() {
        for (given, kept) in [
            ("https://Relayer.example", "https://relayer.example"),
            ("https://relayer.example:443/", "https://relayer.example"),
            ("http://a.example:8080/gateway/", "http://a.example:8080/gateway"),
        ] {
            assert_eq!(given.parse::<PublicUrl>().unwrap().as_str(), kept);
        }
        for bad in ["", "a.example", "wss://a.example", "https://a.example?x=1", "https://me:pw@a.example"] {
            assert!(bad.parse::<PublicUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn host_and_port() {
        for good in ["a.example:1", "127.0.0.1:9", "[::1]:65535"] {
            assert_eq!(good.parse::<HostPort>().unwrap().as_str(), good);
        }
        let six: HostPort = "[::1]:65535".parse().unwrap();
        assert_eq!((six.host(), six.port()), ("::1", 65535));
        for bad in ["", "a.example", "a.example:0", "a.example:x", ":1", "::1:9x", "a b:1", "a\nb:1", "a;b:1"]
        {
            assert!(bad.parse::<HostPort>().is_err(), "{bad}");
        }
    }
}
