//! Which addresses may be dialled, and in which order.
//!
//! An address is public unless IANA reserves it: in the "IPv4 Special-Purpose Address Registry",
//! the "IPv6 Special-Purpose Address Registry" (RFC 6890, as updated) or the multicast blocks (RFC
//! 5771, RFC 4291). A public IPv6 address must also be in the global unicast space, 2000::/3. An
//! IPv6 address that embeds an IPv4 address is judged by the IPv4 address, because the packets end
//! up there.
//!
//! Not detected: a public address that is routed into the operator's own network, and NAT64
//! prefixes other than the well-known one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::limits::ADDRESSES_TRIED_MAX;

/// Which addresses of a relay may be dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// All addresses: for relays of the configuration.
    Anywhere,
    /// Public addresses only: for relays added over the API, unless `allow_private_addresses` is
    /// set. Otherwise API callers could make the gateway connect to hosts in its own network.
    PublicOnly,
}

/// A reserved IP address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotPublic {
    pub address: IpAddr,
    /// What the address is reserved for.
    pub purpose: &'static str,
}

impl Reach {
    /// The addresses that may be dialled, in the same order.
    ///
    /// # Errors
    /// Returns the first address if none may be dialled.
    pub fn of(self, addresses: Vec<IpAddr>) -> Result<Vec<IpAddr>, NotPublic> {
        if self == Self::Anywhere {
            return Ok(addresses);
        }
        let allowed: Vec<IpAddr> =
            addresses.iter().copied().filter(|address| special_purpose(*address).is_none()).collect();
        match addresses.first() {
            Some(&address) if allowed.is_empty() => {
                Err(NotPublic { address, purpose: special_purpose(address).unwrap_or_default() })
            }
            _ => Ok(allowed),
        }
    }
}

/// The order in which addresses are tried (RFC 8305, section 4): the resolver's order with the two
/// address families interleaved, so that a broken family costs one attempt. Keeps the first
/// [`ADDRESSES_TRIED_MAX`].
pub(crate) fn interleaved(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let first_is_ipv6 = addresses.first().is_some_and(IpAddr::is_ipv6);
    let (preferred, other): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == first_is_ipv6);
    let (mut preferred, mut other) = (preferred.into_iter(), other.into_iter());
    let pairs = std::iter::from_fn(|| match (preferred.next(), other.next()) {
        (None, None) => None,
        pair => Some(pair),
    });
    pairs.flat_map(|(one, two)| one.into_iter().chain(two)).take(ADDRESSES_TRIED_MAX).collect()
}

/// The purpose that an address is reserved for; `None` if it is public.
pub(crate) fn special_purpose(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => special_purpose_v4(address),
        IpAddr::V6(address) => special_purpose_v6(address),
    }
}

/// Block, prefix length in bits, purpose. The AS112 and AMT blocks are reserved but public.
const SPECIAL_V4: &[(Ipv4Addr, u32, &str)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8, "this network, RFC 791"),
    (Ipv4Addr::new(10, 0, 0, 0), 8, "private use, RFC 1918"),
    (Ipv4Addr::new(100, 64, 0, 0), 10, "shared by a provider's customers, RFC 6598"),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "loopback, RFC 1122"),
    (Ipv4Addr::new(169, 254, 0, 0), 16, "link-local, RFC 3927"),
    (Ipv4Addr::new(172, 16, 0, 0), 12, "private use, RFC 1918"),
    (Ipv4Addr::new(192, 0, 0, 0), 24, "IETF protocol assignments, RFC 6890"),
    (Ipv4Addr::new(192, 0, 2, 0), 24, "documentation, RFC 5737"),
    (Ipv4Addr::new(192, 88, 99, 0), 24, "6to4 relay anycast, RFC 7526"),
    (Ipv4Addr::new(192, 168, 0, 0), 16, "private use, RFC 1918"),
    (Ipv4Addr::new(198, 18, 0, 0), 15, "benchmarking, RFC 2544"),
    (Ipv4Addr::new(198, 51, 100, 0), 24, "documentation, RFC 5737"),
    (Ipv4Addr::new(203, 0, 113, 0), 24, "documentation, RFC 5737"),
    (Ipv4Addr::new(224, 0, 0, 0), 4, "multicast, RFC 5771"),
    (Ipv4Addr::new(255, 255, 255, 255), 32, "broadcast, RFC 919"),
    (Ipv4Addr::new(240, 0, 0, 0), 4, "reserved, RFC 1112"),
];

/// Like [`SPECIAL_V4`]. Blocks outside 2000::/3 are not public anyway; they are listed so that the
/// error can name their purpose.
const SPECIAL_V6: &[(Ipv6Addr, u32, &str)] = &[
    (Ipv6Addr::UNSPECIFIED, 128, "unspecified, RFC 4291"),
    (Ipv6Addr::LOCALHOST, 128, "loopback, RFC 4291"),
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48, "local IPv4 translation, RFC 8215"),
    (Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 64, "discard, RFC 6666"),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, "IETF protocol assignments, RFC 2928"),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, "documentation, RFC 3849"),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, "documentation, RFC 9637"),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, "unique local, RFC 4193"),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, "link-local, RFC 4291"),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10, "site-local, RFC 3879"),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, "multicast, RFC 4291"),
];

/// All public IPv6 addresses are in this block.
const GLOBAL_UNICAST: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

fn special_purpose_v4(address: Ipv4Addr) -> Option<&'static str> {
    let within = |base: Ipv4Addr, bits| (address.to_bits() ^ base.to_bits()).leading_zeros() >= bits;
    SPECIAL_V4.iter().find(|(base, bits, _)| within(*base, *bits)).map(|(_, _, purpose)| *purpose)
}

fn special_purpose_v6(address: Ipv6Addr) -> Option<&'static str> {
    let within = |base: Ipv6Addr, bits| (address.to_bits() ^ base.to_bits()).leading_zeros() >= bits;
    let carried = carried(address);
    if !carried.is_empty() {
        return carried.into_iter().find_map(special_purpose_v4);
    }
    let listed = SPECIAL_V6.iter().find(|(base, bits, _)| within(*base, *bits));
    listed.map(|(_, _, purpose)| *purpose).or_else(|| {
        let (base, bits) = GLOBAL_UNICAST;
        (!within(base, bits)).then_some("outside the global unicast space, RFC 4291")
    })
}

/// The IPv4 addresses embedded in an IPv6 address.
fn carried(address: Ipv6Addr) -> Vec<Ipv4Addr> {
    let v4 = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match address.segments() {
        // IPv4-mapped, RFC 4291: the system opens an IPv4 connection.
        [0, 0, 0, 0, 0, 0xffff, high, low] => vec![v4(high, low)],
        // NAT64, RFC 6052: a translator in the network opens the IPv4 connection.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => vec![v4(high, low)],
        // 6to4, RFC 3056: the packet is tunnelled to the embedded IPv4 address.
        [0x2002, high, low, ..] => vec![v4(high, low)],
        // Teredo, RFC 4380: the server's address, and the client's with its bits inverted.
        [0x2001, 0, server_high, server_low, _, _, high, low] => {
            vec![v4(server_high, server_low), v4(!high, !low)]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(address: &str, expect: &str) {
        let purpose = special_purpose(address.parse().expect(address)).unwrap_or("public");
        assert!(purpose.starts_with(expect), "{address} is {purpose}");
    }

    #[test]
    fn special_purposes_of_ipv4() {
        for (first, last, purpose) in [
            ("0.0.0.0", "0.255.255.255", "this network"),
            ("10.0.0.0", "10.255.255.255", "private"),
            ("100.64.0.0", "100.127.255.255", "shared"),
            ("127.0.0.0", "127.255.255.255", "loopback"),
            ("169.254.0.0", "169.254.255.255", "link-local"),
            ("172.16.0.0", "172.31.255.255", "private"),
            ("192.0.0.0", "192.0.0.255", "IETF"),
            ("192.0.2.0", "192.0.2.255", "documentation"),
            ("192.88.99.0", "192.88.99.255", "6to4"),
            ("192.168.0.0", "192.168.255.255", "private"),
            ("198.18.0.0", "198.19.255.255", "benchmarking"),
            ("198.51.100.0", "198.51.100.255", "documentation"),
            ("203.0.113.0", "203.0.113.255", "documentation"),
            ("224.0.0.0", "239.255.255.255", "multicast"),
            ("240.0.0.0", "255.255.255.254", "reserved"),
            ("255.255.255.255", "255.255.255.255", "broadcast"),
        ] {
            check(first, purpose);
            check(last, purpose);
        }
    }

    #[test]
    fn addresses_just_outside_the_blocks_are_public() {
        for address in [
            "1.0.0.0",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.0.3.0",
            "192.88.98.255",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "203.0.112.255",
            "203.0.114.0",
            "223.255.255.255",
            "2001:200::",
            "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff",
            "2001:db9::",
            "2606:4700:4700::1111",
            "2a00:1450:4001:80b::200e",
            "3ffe:ffff::1",
        ] {
            check(address, "public");
        }
    }

    #[test]
    fn special_purposes_of_ipv6() {
        for (address, purpose) in [
            ("::", "unspecified"),
            ("::1", "loopback"),
            ("::2", "outside"),
            ("::127.0.0.1", "outside"),
            ("64:ff9b:1::1", "local IPv4 translation"),
            ("64:ff9b:2::1", "outside"),
            ("100::1", "discard"),
            ("100:0:0:1::1", "outside"),
            ("2001:2::1", "IETF"),
            ("2001:1ff::1", "IETF"),
            ("2001:db8::1", "documentation"),
            ("3fff:fff::1", "documentation"),
            ("4000::1", "outside"),
            ("5f00::1", "outside"),
            ("fc00::1", "unique local"),
            ("fdff:ffff::1", "unique local"),
            ("fe80::1", "link-local"),
            ("febf:ffff::1", "link-local"),
            ("fec0::1", "site-local"),
            ("ff02::1", "multicast"),
        ] {
            check(address, purpose);
        }
    }

    #[test]
    fn an_ipv4_address_within_an_ipv6_address_is_what_counts() {
        for (address, purpose) in [
            ("::ffff:127.0.0.1", "loopback"),
            ("::ffff:169.254.169.254", "link-local"),
            ("::ffff:8.8.8.8", "public"),
            ("64:ff9b::10.0.0.1", "private"),
            ("64:ff9b::8.8.8.8", "public"),
            ("2002:7f00:1::1", "loopback"),
            ("2002:c0a8:101::1", "private"),
            ("2002:808:808::1", "public"),
            // Teredo, as server and client: public and 192.168.1.1; private and public; public and
            // public.
            ("2001:0:808:808:0:0:3f57:fefe", "private"),
            ("2001:0:a00:1:0:0:f7f7:f7f7", "private"),
            ("2001:0:808:808:0:0:f7f7:f7f7", "public"),
        ] {
            check(address, purpose);
        }
    }

    #[test]
    fn only_the_public_addresses_of_a_host_are_dialled() {
        let (private, public): (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [8, 8, 8, 8].into());
        assert_eq!(Reach::PublicOnly.of(vec![private, public]), Ok(vec![public]));
        assert_eq!(Reach::Anywhere.of(vec![private, public]), Ok(vec![private, public]));
        let refused = Reach::PublicOnly.of(vec![private]).expect_err("private");
        assert_eq!(refused, NotPublic { address: private, purpose: "private use, RFC 1918" });
        assert_eq!(Reach::PublicOnly.of(Vec::new()), Ok(Vec::new()));
    }

    #[test]
    fn address_families_are_interleaved() {
        let v4 = |n| IpAddr::from([8, 8, 8, n]);
        let v6 = |n| IpAddr::from([0x2606, 0, 0, 0, 0, 0, 0, n]);
        assert_eq!(interleaved(vec![v6(1), v6(2), v4(1)]), [v6(1), v4(1), v6(2)]);
        assert_eq!(interleaved(vec![v4(1), v4(2), v6(1), v6(2)]), [v4(1), v6(1), v4(2), v6(2)]);
        assert_eq!(interleaved(vec![v4(1), v6(1), v6(2), v6(3)]), [v4(1), v6(1), v6(2), v6(3)]);
        assert_eq!(interleaved((0..200).map(v4).collect()).len(), ADDRESSES_TRIED_MAX);
        assert!(interleaved(Vec::new()).is_empty());
    }
}
