//! Authorizes requests that change something; [`reading`](super::reading) authorizes the others.
//!
//! If `[api] admin_token` is set, the request must carry the token. Otherwise only programs on this
//! machine are allowed: the server must be bound to a loopback address, and the request must not
//! look as if it came through a proxy or from a web page in a local browser.

use std::borrow::Cow;
use std::net::IpAddr;

use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::error::ApiError;
use super::query::excerpt;
use crate::config::Secret;

/// Headers that proxies add, in addition to `X-Forwarded-…`.
const FORWARDING: &[&str] = &["forwarded", "via", "x-real-ip", "true-client-ip", "cf-connecting-ip"];

/// Decides which requests may change something.
#[derive(Debug)]
pub(crate) struct Access {
    admin_token: Option<Secret>,
    bound: IpAddr,
}

/// Why a request is denied, and what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Denied {
    #[error(
        "this call changes the gateway: send `Authorization: Bearer <token>`, with the admin_token of [api]"
    )]
    TokenMissing,
    #[error("the token in the Authorization header is not the admin_token of [api]")]
    TokenWrong,
    /// No token is configured, and other machines can reach the server.
    #[error(
        "this call changes the gateway, which has no admin token and listens on {0}, where others may reach it; \
         {SET_TOKEN}, or listen on a loopback address ([output] bind_address = \"127.0.0.1\")"
    )]
    TokenNotSet(IpAddr),
    /// No token is configured, and the request came through a proxy.
    #[error(
        "this call changes the gateway, and its header `{0}` shows that it came through a proxy, so from anywhere; \
         {SET_TOKEN}"
    )]
    Forwarded(String),
    /// No token is configured, and the Host header names another machine.
    #[error(
        "this call changes the gateway, and its Host is `{0}`, so it may come from anywhere; call it as \
         127.0.0.1, [::1] or localhost, or {SET_TOKEN}"
    )]
    HostNotLocal(String),
    /// No token is configured, and a web page made the request.
    #[error("this call changes the gateway, and was made by a web page of `{0}`; {SET_TOKEN}")]
    CrossOrigin(String),
    /// No token is configured, and a web page could have made the request.
    #[error("send `Content-Type: application/json`")]
    NotJson,
}

const SET_TOKEN: &str = "set admin_token under [api], and send it as `Authorization: Bearer <token>`";

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> Self {
        let message = denied.to_string();
        match denied {
            Denied::TokenMissing | Denied::TokenWrong => Self::unauthorized(message),
            Denied::NotJson => Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "json_expected", message),
            Denied::TokenNotSet(_)
            | Denied::Forwarded(_)
            | Denied::HostNotLocal(_)
            | Denied::CrossOrigin(_) => Self::new(StatusCode::FORBIDDEN, "admin_token_required", message),
        }
    }
}

impl ApiError {
    /// The error for a request without the right token.
    pub(super) fn unauthorized(message: impl Into<Cow<'static, str>>) -> Self {
        let scheme = HeaderValue::from_static("Bearer realm=\"moltrade-relayer\"");
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message).header(header::WWW_AUTHENTICATE, scheme)
    }
}

impl Access {
    /// `bound` is the address that the server listens on.
    pub const fn new(admin_token: Option<Secret>, bound: IpAddr) -> Self {
        Self { admin_token, bound }
    }

    /// Whether the headers carry the admin token; `None` if they carry no token.
    pub(crate) fn is_admin(&self, headers: &HeaderMap) -> Option<bool> {
        headers.get(header::AUTHORIZATION)?;
        Some(self.admin_token.as_ref().is_some_and(|token| carries(headers, token).is_ok()))
    }

    /// Whether this is the admin token.
    pub(super) fn is_admin_token(&self, token: &[u8]) -> bool {
        self.admin_token.as_ref().is_some_and(|admin| admin.is(token))
    }

    /// Whether the request comes from a program on this machine, as far as one can tell: no other
    /// machine reaches the server, and no proxy and no web page made the request.
    pub(super) fn is_local(&self, headers: &HeaderMap) -> bool {
        is_loopback(self.bound) && is_local(headers).is_ok()
    }

    /// Checks whether a request with these headers may change something.
    ///
    /// # Errors
    /// The reason why the request is denied.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), Denied> {
        match &self.admin_token {
            Some(token) => carries(headers, token),
            None if !is_loopback(self.bound) => Err(Denied::TokenNotSet(self.bound)),
            None => {
                is_local(headers)?;
                // Requiring JSON refuses the forms that a browser submits without an origin.
                if is_json(headers) { Ok(()) } else { Err(Denied::NotJson) }
            }
        }
    }
}

/// Whether the Content-Type is JSON.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = value.and_then(|value| value.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

fn carries(headers: &HeaderMap, token: &Secret) -> Result<(), Denied> {
    let sent = bearer(headers).ok_or(Denied::TokenMissing)?;
    if sent.is_some_and(|sent| token.is(sent)) { Ok(()) } else { Err(Denied::TokenWrong) }
}

/// The token in the Authorization header: `None` without the header, and `Some(None)` if the header
/// has another scheme.
pub(super) fn bearer(headers: &HeaderMap) -> Option<Option<&[u8]>> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let token = value.split_at_checked(b"Bearer ".len());
    let token = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"Bearer "));
    Some(token.map(|(_, token)| token.trim_ascii()))
}

/// Whether a request that reached a loopback address comes from a program on this machine.
fn is_local(headers: &HeaderMap) -> Result<(), Denied> {
    if let Some(name) = headers.keys().find(|name| is_forwarding(name)) {
        return Err(Denied::Forwarded(excerpt(name.as_str())));
    }
    // A proxy that adds no header may still send its own name as the host.
    let host = text(headers, &header::HOST);
    if let Some(host) = host.as_deref().filter(|host| !names_loopback(host)) {
        return Err(Denied::HostNotLocal(excerpt(host)));
    }
    match foreign_origin(headers) {
        Some(origin) => Err(Denied::CrossOrigin(origin)),
        None => Ok(()),
    }
}

/// The origin of the web page that made a request, shortened; `None` for the server's own origin on
/// a loopback address. Browsers send the origin with every WebSocket handshake and with every
/// request other than plain reads; other programs send no origin.
pub(super) fn foreign_origin(headers: &HeaderMap) -> Option<String> {
    let origin = text(headers, &header::ORIGIN)?;
    let host = text(headers, &header::HOST).filter(|host| names_loopback(host));
    let is_own = host.is_some_and(|host| format!("http://{host}").eq_ignore_ascii_case(&origin));
    (!is_own).then(|| excerpt(&origin))
}

fn is_forwarding(name: &HeaderName) -> bool {
    name.as_str().starts_with("x-forwarded-") || FORWARDING.contains(&name.as_str())
}

/// Returns all values of a header, so that a second value cannot hide behind the first.
fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let values: Vec<_> =
        headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    (!values.is_empty()).then(|| values.join(", "))
}

fn names_loopback(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    if authority.as_str().contains('@') {
        return false;
    }
    let host = authority.host();
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || address.parse().is_ok_and(is_loopback)
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: (&str, &str) = ("content-type", "application/json");
    const HERE: (&str, &str) = ("host", "127.0.0.1:8080");

    /// Sums up the decision about these headers in a few words.
    fn outcome(access: &Access, headers: &[(&str, &str)]) -> &'static str {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(
                name.parse::<HeaderName>().unwrap(),
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            );
        }
        match access.check(&map) {
            Ok(()) => "admitted",
            Err(Denied::TokenMissing) => "token missing",
            Err(Denied::TokenWrong) => "token wrong",
            Err(Denied::TokenNotSet(_)) => "token not set",
            Err(Denied::Forwarded(_)) => "forwarded",
            Err(Denied::HostNotLocal(_)) => "host",
            Err(Denied::CrossOrigin(_)) => "origin",
            Err(Denied::NotJson) => "not json",
        }
    }

    fn without_token(bound: &str) -> Access {
        Access::new(None, bound.parse().unwrap())
    }

    #[test]
    fn only_the_token_counts_if_one_is_configured() {
        for bound in ["127.0.0.1", "0.0.0.0", "::"] {
            let access = Access::new(Some(Secret::new("0123456789abcdef")), bound.parse().unwrap());
            let sent = |value| outcome(&access, &[("authorization", value), ("via", "1.1 proxy")]);
            for right in ["Bearer 0123456789abcdef", "bearer  0123456789abcdef "] {
                assert_eq!(sent(right), "admitted", "{right}");
            }
            for wrong in [
                "",
                "Bearer",
                "Bearer ",
                "Bearer 0123456789abcde",
                "Bearer 0123456789abcdef0",
                "Bearer 0123456789ABCDEF",
                "Basic 0123456789abcdef",
                "Bearer0123456789abcdef",
                "0123456789abcdef",
            ] {
                assert_eq!(sent(wrong), "token wrong", "{wrong}");
            }
            assert_eq!(outcome(&access, &[HERE, JSON]), "token missing");
        }
    }

    #[test]
    fn without_a_token_only_a_loopback_address_is_accepted() {
        for bound in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(outcome(&without_token(bound), &[HERE, JSON]), "admitted", "{bound}");
        }
        for bound in ["0.0.0.0", "::", "10.0.0.1", "192.168.1.1", "fe80::1", "::ffff:10.0.0.1", "8.8.8.8"] {
            assert_eq!(outcome(&without_token(bound), &[HERE, JSON]), "token not set", "{bound}");
        }
    }

    #[test]
    fn without_a_token_forwarded_requests_are_denied() {
        let access = without_token("127.0.0.1");
        for header in [
            "Forwarded",
            "Via",
            "X-Real-IP",
            "X-Forwarded-For",
            "X-Forwarded-Host",
            "X-Forwarded-Proto",
            "True-Client-IP",
            "CF-Connecting-IP",
        ] {
            assert_eq!(outcome(&access, &[HERE, JSON, (header, "")]), "forwarded", "{header}");
        }
    }

    #[test]
    fn without_a_token_the_host_must_be_this_machine() {
        let access = without_token("127.0.0.1");
        for host in ["127.0.0.1", "127.0.0.2:80", "localhost", "LOCALHOST:8080", "[::1]", "[::1]:8080"] {
            assert_eq!(outcome(&access, &[("host", host), JSON]), "admitted", "{host}");
        }
        // A request without a Host header is local: HTTP/1.1 proxies always send that header.
        assert_eq!(outcome(&access, &[JSON]), "admitted");
        for host in [
            "",
            "relayer.example",
            "relayer.example:8080",
            "127.0.0.1.example",
            "localhost.example",
            "0.0.0.0",
            "10.0.0.1",
            "[::2]",
            "127.0.0.1, a.example",
            "a.example@127.0.0.1",
            "é",
        ] {
            assert_eq!(outcome(&access, &[("host", host), JSON]), "host", "{host}");
        }
        assert_eq!(outcome(&access, &[HERE, ("host", "a.example"), JSON]), "host");
    }

    #[test]
    fn without_a_token_web_pages_are_denied() {
        let access = without_token("127.0.0.1");
        let from = |origin| outcome(&access, &[HERE, JSON, ("origin", origin)]);
        assert_eq!(from("http://127.0.0.1:8080"), "admitted");
        for origin in [
            "null",
            "",
            "http://a.example",
            "http://127.0.0.1",
            "http://127.0.0.1:3000",
            "http://localhost:8080",
            "https://127.0.0.1:8080",
            "file://",
            "http://127.0.0.1:8080.a.example",
        ] {
            assert_eq!(from(origin), "origin", "{origin}");
        }
        assert_eq!(outcome(&access, &[JSON, ("origin", "http://127.0.0.1:8080")]), "origin");
        let twice = [HERE, JSON, ("origin", "http://127.0.0.1:8080"), ("origin", "http://a.example")];
        assert_eq!(outcome(&access, &twice), "origin");
        for kind in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data",
            "application/jsonp",
            "",
        ] {
            assert_eq!(outcome(&access, &[HERE, ("content-type", kind)]), "not json", "{kind}");
        }
        assert_eq!(outcome(&access, &[HERE]), "not json");
        for kind in ["application/json; charset=utf-8", "Application/JSON"] {
            assert_eq!(outcome(&access, &[HERE, ("content-type", kind)]), "admitted", "{kind}");
        }
    }

    #[test]
    fn a_denial_reveals_no_secret() {
        let access = Access::new(Some(Secret::new("0123456789abcdef")), [127, 0, 0, 1].into());
        assert!(!format!("{access:?} {} {}", Denied::TokenWrong, Denied::TokenMissing).contains("0123"));
    }
}
