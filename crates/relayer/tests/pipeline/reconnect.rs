//! Lost connections are restored, and no event published in between is missing.

use moltrade_relayer::relay::ConnectionState;
use relay_sim::{Fault, Sim, Who};

use crate::gateway::Gateway;

#[tokio::test(flavor = "multi_thread")]
async fn relays_that_drop_their_connections_lose_nothing() {
    let sim = Sim::builder().seed(7).relays(10).events(400).copies(2).base(1_700_000_000);
    let sim = sim.fault(Fault::Drop, Who::All, 0.01).start().await.expect("starts");
    let gateway = Gateway::on(&sim).await;
    gateway.until_logged(sim.ids()).await;
    gateway.assert_holds_exactly(&sim.events());
    let connections: u64 = (0..10).map(|relay| gateway.peer(relay).stats.connections.get()).sum();
    assert!(connections > 10, "{connections} connections: nothing was dropped");
    assert!(gateway.metrics.relay.relay_connections.get() >= connections);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_closes_the_subscription_is_tried_again() {
    let sim = Sim::builder().seed(8).relays(1).scripted(1).events(0).start().await.expect("starts");
    let gateway = Gateway::on(&sim).await;
    gateway.until("it is subscribed", |_| sim.requests(1).len() == 1).await;
    sim.send_text(1, r#"["CLOSED","r","error: shutting down"]"#);
    gateway
        .until("the reason is shown", |gateway| {
            matches!(gateway.peer(1).state(),
                ConnectionState::BackingOff { reason, .. } if reason.contains("error: shutting down"))
        })
        .await;
    gateway.until("it is subscribed again", |_| sim.requests(1).len() == 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_open_connection_is_found_by_its_silence() {
    let sim = Sim::builder().seed(9).relays(1).events(0).start().await.expect("starts");
    let gateway = Gateway::configured(&sim, |config| {
        config.relay.health_check_interval = std::time::Duration::from_millis(100);
    })
    .await;
    gateway.until("it is live", |gateway| gateway.peer(0).state().label() == "live").await;
    sim.behave(0, relay_sim::Behaviour::Stalled);
    gateway
        .until("it is given up", |gateway| {
            matches!(gateway.peer(0).state(),
                ConnectionState::BackingOff { reason, .. } if reason.contains("ping"))
        })
        .await;
    sim.behave(0, relay_sim::Behaviour::Normal);
    gateway.until("it is live again", |gateway| gateway.peer(0).state().label() == "live").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_relay_is_not_a_dead_one() {
    let sim = Sim::builder().seed(10).relays(1).events(0).start().await.expect("starts");
    let gateway = Gateway::configured(&sim, |config| {
        config.relay.health_check_interval = std::time::Duration::from_millis(100);
    })
    .await;
    gateway.until("it is live", |gateway| gateway.peer(0).state().label() == "live").await;
    // After many health checks, the first connection is still open, because the relay answers
    // pings.
    tokio::time::sleep(std::time::Duration::from_millis(1_000)).await;
    assert_eq!(gateway.peer(0).state().label(), "live");
    assert_eq!(gateway.peer(0).stats.connections.get(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_relay_makes_us_do_is_counted_and_stays_so_without_it() {
    let sim = Sim::builder().seed(11).relays(0).scripted(1).events(0).start().await.expect("starts");
    let gateway = Gateway::configured(&sim, |config| {
        config.relay.max_offences_per_hour = std::num::NonZeroU32::new(1);
    })
    .await;
    gateway.until("it is subscribed", |_| sim.requests(0).len() == 1).await;
    sim.send_text(0, r#"["NOTICE","rate-limited: slow down"]"#);
    sim.send_text(0, r#"["CLOSED","r","rate-limited: slow down"]"#);
    gateway.until("it is asked again", |_| sim.requests(0).len() == 2).await;
    for _ in 0..2 {
        sim.send_text(0, "[garbage");
    }
    let peer = gateway.peer(0);
    gateway.until("it is quarantined", |_| peer.state().label() == "quarantined").await;
    gateway.pool.remove(&peer.url).await.expect("it is removed");
    let metrics = &gateway.metrics;
    assert_eq!(metrics.relay.rate_limited.get(), 2);
    assert_eq!(metrics.relay.quarantines.get(), 1);
    assert_eq!(metrics.relay.relay_connections.get(), 1);
    assert_eq!(metrics.relay.relay_requests.get(), peer.stats.requests.get());
    assert!(metrics.relay.relay_requests.get() >= 2);
}
