//! Relays added over the API are dialled only at public addresses.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use moltrade_relayer::net::ConnectError;
use moltrade_relayer::net::resolver::Resolver;
use moltrade_relayer::relay::{DialError, DialOptions, Dialer, InformationError, Reach};

use crate::server::{Server, upgrades};
use crate::{dialer, names, options, url};

#[tokio::test]
async fn what_is_beside_the_gateway_is_not_dialled() {
    let server = Server::start(upgrades).await;
    let port = server.port();
    let resolver = names(&[("inside.example", &["127.0.0.1", "::1", "10.0.0.1"])]);
    let dialer = Dialer::new(DialOptions { resolver, ..options() }).expect("set up");
    for host in [
        "127.0.0.1",
        "127.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "0.0.0.0",
        "inside.example",
    ] {
        let relay = url(format!("ws://{host}:{port}"));
        let refused = dialer.dial(&relay, Reach::PublicOnly).await.expect_err(host);
        assert!(matches!(refused, DialError::Connect(ConnectError::NotPublic { .. })), "{refused}");
        assert!(refused.is_permanent());
        let refused = dialer.information(&relay, Reach::PublicOnly).await.expect_err(host);
        assert!(
            matches!(refused, InformationError::Dial(DialError::Connect(ConnectError::NotPublic { .. }))),
            "{refused}"
        );
        let refused = dialer.check(&relay).await.expect_err(host);
        assert!(matches!(refused, DialError::Connect(ConnectError::NotPublic { .. })), "{refused}");
    }
    assert_eq!(server.connections(), 0);
    // Relays from the configuration may have private addresses.
    dialer.dial(&url(format!("ws://inside.example:{port}")), Reach::Anywhere).await.expect("dialled");
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_refusal_names_host_and_address_and_how_to_allow_it() {
    let relay = url("ws://169.254.169.254/");
    let refused = dialer().check(&relay).await.expect_err("link-local");
    assert_eq!(
        refused.to_string(),
        "169.254.169.254 is at 169.254.169.254, which is not a public address (link-local, RFC 3927); \
         to allow such relays, set `allow_private_addresses = true` under [relay]"
    );
    let refused = dialer().check(&url("ws://relay.example")).await.expect_err("loopback");
    assert!(refused.to_string().starts_with("relay.example is at 127.0.0.1, "), "{refused}");
    let gone = dialer().check(&url("ws://nobody.example")).await.expect_err("no such name");
    assert!(matches!(gone, DialError::Connect(ConnectError::NoSuchName(_))), "{gone}");
}

#[tokio::test]
async fn a_name_that_changes_between_check_and_dial_is_refused_at_the_dial() {
    let server = Server::start(upgrades).await;
    let asked = AtomicUsize::new(0);
    let resolver = Resolver::from_fn(move |_| {
        let address: IpAddr = match asked.fetch_add(1, Ordering::SeqCst) {
            0 => [8, 8, 8, 8].into(),
            _ => [127, 0, 0, 1].into(),
        };
        Ok(vec![address])
    });
    let dialer = Dialer::new(DialOptions { resolver, ..options() }).expect("set up");
    let relay = url(format!("ws://turncoat.example:{}", server.port()));
    dialer.check(&relay).await.expect("it is public when it is added");
    let refused = dialer.dial(&relay, Reach::PublicOnly).await.expect_err("it is not any more");
    assert!(
        matches!(&refused, DialError::Connect(ConnectError::NotPublic { host, address, .. })
            if host == "turncoat.example" && address.is_loopback()),
        "{refused}"
    );
    assert_eq!(server.connections(), 0);
}
