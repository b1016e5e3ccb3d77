//! Trusted proxies in front of the gateway, and the address of a client behind them.
//!
//! The address is used only for limits and in the log, and gives no rights: whether a call needs a
//! token depends on [headers](super::auth) and on the address that the server is bound to.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::http::{HeaderMap, HeaderName};

use crate::config::{Api, Network};
use crate::limits::FORWARDED_HOPS_MAX;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The proxies that are trusted to say who their client is. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    trusted: Arc<[Network]>,
    /// Whether their connections begin with a header of the PROXY protocol.
    send_header: bool,
}

impl Proxies {
    pub fn of(api: &Api) -> Self {
        Self { trusted: api.trusted_proxies.as_slice().into(), send_header: api.proxy_protocol }
    }

    pub(super) fn trust(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }

    /// Whether a connection from this address must begin with a header of the PROXY protocol.
    pub(super) fn must_send_header(&self, address: IpAddr) -> bool {
        self.send_header && self.trust(address)
    }

    /// Returns the address of the client that makes a request over a connection from `peer`: the
    /// rightmost address in X-Forwarded-For that is not a trusted proxy. Each proxy appends the
    /// address that it sees, so the client may have forged everything to the left of that address.
    pub(super) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        if !self.trust(peer) {
            return peer;
        }
        let values = headers.get_all(FORWARDED_FOR).iter().rev();
        let hops = values.flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b','));
        let mut client = peer;
        for hop in hops.take(FORWARDED_HOPS_MAX) {
            let Some(address) = parse(hop) else { break };
            let is_trusted = self.trust(address);
            if is_client(&address) {
                client = address;
            }
            if !is_trusted {
                break;
            }
        }
        client
    }
}

/// Whether a client behind a proxy may have this address. Only a proxy on the gateway's machine has
/// a loopback address.
pub(super) const fn is_client(address: &IpAddr) -> bool {
    !address.is_loopback() && !address.is_unspecified() && !address.is_multicast()
}

/// Reads an address, which some proxies write with a port.
fn parse(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop).ok()?.trim_matches([' ', '\t']);
    let bracketed = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let address = bracketed.unwrap_or(text).parse::<IpAddr>();
    let address = address.or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()));
    address.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn proxies() -> Proxies {
        let trusted = ["127.0.0.1", "10.0.0.0/8", "fd00::/8"].map(|network| network.parse().unwrap());
        Proxies { trusted: trusted.into(), send_header: false }
    }

    /// The client of a request with these values of X-Forwarded-For, from 127.0.0.1.
    #[track_caller]
    fn client(values: &[&[u8]], expected: &str) {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(FORWARDED_FOR, HeaderValue::from_bytes(value).unwrap());
        }
        let found = proxies().client([127, 0, 0, 1].into(), &headers);
        assert_eq!(found.to_string(), expected, "{values:?}");
    }

    #[test]
    fn the_client_is_the_rightmost_address_that_is_not_trusted() {
        client(&[], "127.0.0.1");
        client(&[b"192.0.2.1"], "192.0.2.1");
        client(&[b"198.51.100.1, 192.0.2.1"], "192.0.2.1");
        client(&[b"198.51.100.1,192.0.2.1 ,\t10.0.0.7"], "192.0.2.1");
        client(&[b"198.51.100.1", b"192.0.2.1", b"10.1.1.1, 127.0.0.1"], "192.0.2.1");
        client(&[b"192.0.2.1:4711"], "192.0.2.1");
        client(&[b"[2001:db8::1]:4711"], "2001:db8::1");
        client(&[b"[2001:db8::1]"], "2001:db8::1");
        client(&[b"2001:db8::1, fd00::9"], "2001:db8::1");
        client(&[b"::ffff:192.0.2.1"], "192.0.2.1");
        // Clients in a trusted network.
        client(&[b"10.0.0.1, 10.0.0.2"], "10.0.0.1");
    }

    #[test]
    fn what_a_client_invents_changes_nothing() {
        client(&[b"10.0.0.9, 192.0.2.1"], "192.0.2.1");
        client(&[b"127.0.0.1, 192.0.2.1"], "192.0.2.1");
        client(&[b"192.0.2.1, nonsense, 10.0.0.2"], "10.0.0.2");
        for invalid in
            [&b""[..], b"unknown", b"192.0.2", b"192.0.2.1 192.0.2.2", b"\xff", b"_secret", b"1.2.3.4:x"]
        {
            client(&[invalid], "127.0.0.1");
        }
        let many = [&b"192.0.2.1, "[..], &b"10.0.0.1, ".repeat(FORWARDED_HOPS_MAX), b"10.0.0.2"].concat();
        client(&[&many], "10.0.0.1");
    }

    /// The proxy itself may have a loopback address, but a client behind it never gets one.
    #[test]
    fn nobody_looks_like_this_machine() {
        let mut headers = HeaderMap::new();
        for value in ["127.0.0.1", "127.0.0.1, 127.0.0.1", "::1", "0.0.0.0", "::ffff:127.0.0.1", "127.9.9.9"]
        {
            headers.insert(FORWARDED_FOR, HeaderValue::from_static(value));
            let client = proxies().client([10, 0, 0, 1].into(), &headers);
            assert_eq!(client.to_string(), "10.0.0.1", "{value}");
        }
    }

    #[test]
    fn peers_that_are_not_trusted_are_the_client() {
        let mut headers = HeaderMap::new();
        headers.insert(FORWARDED_FOR, HeaderValue::from_static("198.51.100.1"));
        for peer in ["192.0.2.1", "127.0.0.2", "::1", "2001:db8::1"] {
            let peer: IpAddr = peer.parse().unwrap();
            assert_eq!(proxies().client(peer, &headers), peer);
            assert_eq!(Proxies::default().client(peer, &headers), peer);
        }
    }
}
