//! Relays added over the API must have public addresses at every dial.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use moltrade_relayer::config::RelayUrl;
use moltrade_relayer::net::resolver::Resolver;
use relay_sim::{Count, Sim};

use crate::gateway::Gateway;

const PUBLIC: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(8, 8, 8, 8));
const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn url(text: &str) -> RelayUrl {
    text.parse().expect("a URL")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_public_is_not_added() {
    let sim = Sim::builder().seed(90).scripted(1).start().await.expect("starts");
    let resolver = Resolver::from_fn(|name| match name {
        "private.example" => Ok(vec![[10, 1, 2, 3].into()]),
        name => panic!("nobody asks for {name}"),
    });
    let gateway = Gateway::resolving(&sim, resolver, |config| config.relay.bootstrap_relays.clear()).await;
    for (relay, address) in [
        (sim.url(0), "127.0.0.1"),
        ("ws://169.254.169.254/".to_owned(), "169.254.169.254"),
        ("ws://[::1]:7777".to_owned(), "::1"),
        ("ws://[::ffff:10.0.0.1]".to_owned(), "10.0.0.1"),
        ("wss://private.example".to_owned(), "10.1.2.3"),
    ] {
        let refused = gateway.pool.add(url(&relay)).await.expect_err(&relay).to_string();
        assert!(refused.contains(address) && refused.contains("not a public address"), "{refused}");
        assert!(refused.contains("allow_private_addresses"), "it says what to do: {refused}");
    }
    assert!(gateway.pool.peers().is_empty());
    assert_eq!(sim.stats().get(Count::Connections), 0);
}

/// A resolver that returns a public address `public` times, and then this machine's address.
fn turning(public: usize) -> (Resolver, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let resolver = Resolver::from_fn(move |_| {
        let before = counted.fetch_add(1, Ordering::SeqCst);
        Ok(vec![if before < public { PUBLIC } else { LOOPBACK }])
    });
    (resolver, asked)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_turns_private_between_check_and_dial_is_refused_at_every_dial() {
    let sim = Sim::builder().seed(91).scripted(1).start().await.expect("starts");
    let (resolver, asked) = turning(1);
    let relay = url(&sim.url_with_host(0, "relay.example"));
    let mut gateway =
        Gateway::resolving(&sim, resolver, |config| config.relay.bootstrap_relays.clear()).await;
    gateway.pool.add(relay.clone()).await.expect("it is public, so far");
    let reason = gateway.until_in(0, "refused").await;
    assert!(reason.contains("relay.example is at 127.0.0.1"), "{reason}");
    assert_eq!(asked.load(Ordering::SeqCst), 2, "once for the check, once for the dial");
    gateway.restart(|_| {}).await;
    let reason = gateway.until_in(0, "refused").await;
    assert!(reason.contains("relay.example is at 127.0.0.1"), "{reason}");
    assert_eq!(sim.stats().get(Count::Connections), 0, "nobody knocked");
    // The operator can declare the relay trusted by naming it in the configuration.
    gateway.reload(|config| config.relay.bootstrap_relays = vec![relay]).await;
    gateway.until("it is connected", |_| sim.open_connections(0) == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn private_addresses_can_be_allowed() {
    let sim = Sim::builder().seed(92).scripted(2).start().await.expect("starts");
    let (resolver, _) = turning(0);
    let mut gateway = Gateway::resolving(&sim, resolver, |config| {
        config.relay.bootstrap_relays.clear();
        config.relay.allow_private_addresses = true;
    })
    .await;
    let pool = &gateway.pool;
    pool.add(url(&sim.url(0))).await.expect("allowed");
    pool.add(url(&sim.url_with_host(1, "relay.example"))).await.expect("allowed");
    gateway.until_in(0, "live").await;
    gateway.until_in(1, "live").await;
    // Without the setting, the gateway keeps the relays but does not dial them.
    gateway.restart(|config| config.relay.allow_private_addresses = false).await;
    for relay in [0, 1] {
        assert!(gateway.until_in(relay, "refused").await.contains("127.0.0.1"));
    }
    assert_eq!(sim.stats().get(Count::Connections), 2);
}
