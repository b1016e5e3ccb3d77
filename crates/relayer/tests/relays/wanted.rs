//! Relays that are added or removed while the gateway runs.

use moltrade_relayer::config::RelayUrl;
use moltrade_relayer::relay::{Added, PoolError, Removed};
use relay_sim::{Count, Sim};

use crate::gateway::Gateway;

fn url(sim: &Sim, relay: usize) -> RelayUrl {
    sim.url(relay).parse().expect("a URL")
}

fn wanted(gateway: &Gateway) -> Vec<RelayUrl> {
    gateway.pool.peers().iter().map(|peer| peer.url.clone()).collect()
}

/// A gateway with two of the three relays, which have private addresses.
async fn on_two(sim: &Sim) -> Gateway {
    Gateway::configured(sim, |config| {
        config.relay.bootstrap_relays.truncate(2);
        config.relay.allow_private_addresses = true;
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn adding_and_removing_touches_no_other_relay_and_outlasts_a_restart() {
    let sim = Sim::builder().seed(80).relays(3).events(90).copies(1).stored(1.0);
    let sim = sim.start().await.expect("starts");
    let mut gateway = on_two(&sim).await;
    let pool = &gateway.pool;
    gateway.until_in(0, "live").await;
    gateway.until_in(1, "live").await;
    assert_eq!(pool.add(url(&sim, 2)).await.expect("added"), Added::New);
    assert_eq!(pool.add(url(&sim, 2)).await.expect("known"), Added::AlreadyWanted);
    gateway.until_logged(sim.ids()).await;
    assert_eq!(pool.remove(&url(&sim, 1)).await.expect("removed"), Removed::Gone);
    assert_eq!(pool.remove(&url(&sim, 1)).await.expect("unknown"), Removed::NotWanted);
    gateway.until("it is left", |_| sim.open_connections(1) == 0).await;
    let connections = || [0, 1, 2].map(|relay| sim.stats().of(relay, Count::Connections));
    assert_eq!(connections(), [1, 1, 1], "each was connected to once");
    assert_eq!(sim.open_connections(0), 1);
    assert_eq!(wanted(&gateway), [url(&sim, 0), url(&sim, 2)]);

    gateway.restart(|_| {}).await;
    assert_eq!(wanted(&gateway), [url(&sim, 0), url(&sim, 2)], "also the removal of a configured one");
    gateway.until_in(0, "live").await;
    gateway.until_in(1, "live").await;
    assert_eq!(connections(), [2, 1, 2]);
    let pool = &gateway.pool;
    // A removed relay can be added again, and an added relay can be removed.
    assert_eq!(pool.add(url(&sim, 1)).await.expect("added"), Added::New);
    assert_eq!(pool.remove(&url(&sim, 2)).await.expect("removed"), Removed::Gone);
    gateway.restart(|_| {}).await;
    assert_eq!(wanted(&gateway), [url(&sim, 0), url(&sim, 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_relays_are_added_than_may_be_connected() {
    let sim = Sim::builder().seed(81).scripted(3).start().await.expect("starts");
    let gateway = Gateway::configured(&sim, |config| {
        config.relay.bootstrap_relays.truncate(2);
        config.relay.allow_private_addresses = true;
        config.relay.max_connections = 2.try_into().expect("not zero");
    })
    .await;
    let pool = &gateway.pool;
    let error = pool.add(url(&sim, 2)).await.expect_err("it is full");
    assert!(matches!(error, PoolError::Full { max: 2 }), "{error}");
    assert_eq!(
        pool.add(url(&sim, 1)).await.expect("known"),
        Added::AlreadyWanted,
        "that it is full is no matter"
    );
    pool.remove(&url(&sim, 0)).await.expect("removed");
    assert_eq!(pool.add(url(&sim, 2)).await.expect("there is room"), Added::New);
    gateway.until("it is connected", |_| sim.open_connections(2) == 1).await;
    gateway.until("the other is gone", |_| sim.open_connections(0) == 0).await;
}
