//! Connections to relays: which addresses are dialled, which certificates are trusted, and which
//! responses are accepted.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod authority;
mod families;
mod information;
mod reach;
mod server;
mod silence;
mod tls;
mod upgrade;

use std::io;
use std::net::IpAddr;

use moltrade_relayer::config::RelayUrl;
use moltrade_relayer::net::resolver::Resolver;
use moltrade_relayer::relay::{DialOptions, Dialer, InstanceId};

fn options() -> DialOptions {
    DialOptions {
        frame_bytes_max: 100_000,
        user_agent: "relayer-test/1 (+https://operator.example)".to_owned(),
        extra_ca_file: None,
        resolver: names(&[("relay.example", &["127.0.0.1"])]),
        instance: InstanceId::random(),
        tls_sessions_max: 100,
    }
}

fn dialer() -> Dialer {
    Dialer::new(options()).expect("nothing is wrong with the options")
}

/// A resolver that knows only the names in this table.
fn names(table: &[(&'static str, &[&str])]) -> Resolver {
    let parse = |addresses: &[&str]| -> Vec<IpAddr> {
        addresses.iter().map(|address| address.parse().expect("an address")).collect()
    };
    let table: Vec<_> = table.iter().map(|(name, addresses)| (*name, parse(addresses))).collect();
    Resolver::from_fn(move |host| {
        let found = table.iter().find(|(name, _)| *name == host);
        found.map(|(_, addresses)| addresses.clone()).ok_or(io::ErrorKind::NotFound.into())
    })
}

fn url(text: impl AsRef<str>) -> RelayUrl {
    text.as_ref().parse().expect("a URL")
}
