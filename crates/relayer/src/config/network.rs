//! Ranges of IP addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;

/// A range of IP addresses, written as one address or in CIDR notation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Network(IpNet);

/// The first IPv4 address that is mapped into IPv6.
const MAPPED: Ipv6Addr = Ipv4Addr::UNSPECIFIED.to_ipv6_mapped();

impl Network {
    /// Whether the address is in the range. An IPv4 address that is mapped into IPv6 counts as
    /// IPv4.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl FromStr for Network {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let network: IpNet = match text.parse::<IpAddr>() {
            Ok(address) => address.to_canonical().into(),
            Err(_) => text.parse().map_err(|_| "it is neither an address nor a range")?,
        };
        // Addresses are compared in their IPv4 form, so such a range would contain none.
        if let IpNet::V6(network) = network
            && (network.contains(&MAPPED) || network.addr().to_ipv4_mapped().is_some())
        {
            return Err("it has IPv4 addresses in IPv6 form; write a range of IPv4");
        }
        if network.prefix_len() == 0 {
            return Err("it is every address");
        }
        Ok(Self(network.trunc()))
    }
}

/// The form in which the range is configured.
impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() { self.0.addr().fmt(f) } else { self.0.fmt(f) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_contains_its_addresses() {
        for (network, within, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("10.0.0.0/8", "::ffff:10.0.0.1", "::10.0.0.1"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("::ffff:192.0.2.7", "192.0.2.7", "::192.0.2.7"),
            ("2001:db8::/32", "2001:db8:1::1", "2001:db9::1"),
            ("fd00::1", "fd00::1", "fd00::2"),
        ] {
            let network: Network = network.parse().unwrap();
            assert!(network.contains(address(within)), "{network}");
            assert!(!network.contains(address(outside)), "{network}");
        }
    }

    #[test]
    fn a_network_is_written_as_it_is_read() {
        for (text, shown) in [("10.1.2.3/8", "10.0.0.0/8"), ("127.0.0.1", "127.0.0.1"), ("::1/128", "::1")] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), shown);
        }
        for wrong in [
            "",
            "localhost",
            "10.0.0.0/33",
            "10.0.0/8",
            "10.0.0.0/-1",
            "0.0.0.0/0",
            "::/0",
            " ::1",
            "::ffff:10.0.0.0/104",
            "::/64",
        ] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
    }
}
