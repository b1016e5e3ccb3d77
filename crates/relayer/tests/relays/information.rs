//! NIP-11 documents, which the gateway fetches once a day and trusts only in part, and our
//! User-Agent.

use std::path::Path;

use moltrade_relayer::config::Config;
use relay_sim::wait::within;
use relay_sim::{Count, Information, Negentropy, Refusal, Sim};

use crate::gateway::Gateway;
use crate::only;

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_is_asked_what_it_is_once_a_day() {
    let sim = Sim::builder().seed(50).relays(2).events(100).copies(2).stored(1.0).cap(40);
    let sim = sim.information(only(1), Information::NotFound).start().await.expect("starts");
    let mut gateway = Gateway::on(&sim).await;
    let asked = || [0, 1].map(|relay| sim.stats().of(relay, Count::Information));
    gateway.until_logged(sim.ids()).await;
    for relay in [0, 1] {
        gateway.until_in(relay, "live").await;
        sim.drop_connections(relay);
        gateway.until("it is back", |gateway| gateway.peer(relay).stats.connections.get() == 2).await;
        gateway.until("it is live again", |gateway| gateway.peer(relay).state().label() == "live").await;
    }
    assert_eq!(asked(), [1, 1]);
    gateway.restart(|_| {}).await;
    let stated =
        gateway.peer(0).capabilities(|capabilities| capabilities.information().cloned()).expect("it is kept");
    assert_eq!(stated.max_limit.map(u32::from), Some(40));
    for relay in [0, 1] {
        gateway.until_in(relay, "live").await;
    }
    assert_eq!(asked(), [1, 1], "that it says nothing is kept, too");
}

/// The relay that hangs delays the gateway by one time-out.
#[tokio::test(flavor = "multi_thread")]
async fn bad_documents_do_no_harm() {
    let bad = [Information::Garbage, Information::Endless, Information::NotFound, Information::Hanging];
    let mut sim = Sim::builder().seed(51).relays(4).events(200).copies(1).stored(0.5).hold().cap(40);
    for (relay, information) in bad.into_iter().enumerate() {
        sim = sim.information(only(relay), information);
    }
    let sim = sim.start().await.expect("starts");
    let gateway = Gateway::on(&sim).await;
    within("the relays are asked", sim.wait_subscribed(4)).await;
    sim.go();
    gateway.until_logged(sim.ids()).await;
    gateway.assert_holds_exactly(&sim.events());
    for relay in 0..4 {
        gateway.until_in(relay, "live").await;
        assert_eq!(sim.stats().of(relay, Count::Information), 1);
        assert_eq!(
            gateway.peer(relay).capabilities(|capabilities| capabilities.information().cloned()),
            None
        );
    }
    assert_eq!(gateway.pool.peers().len(), 4);
}

/// The relay's silence costs one answer time-out, and only once.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_tells_of_nip_77_and_is_silent_is_asked_to_reconcile_once() {
    let sim = Sim::builder().seed(53).relays(1).events(20).copies(1).stored(1.0);
    let sim = sim.negentropy(only(0), Negentropy::Mute).start().await.expect("starts");
    let gateway = Gateway::on(&sim).await;
    for connections in 1..=2 {
        let is_live = |gateway: &Gateway| {
            let peer = gateway.peer(0);
            peer.is_live() && peer.stats.connections.get() == connections
        };
        gateway.until("it is live", is_live).await;
        assert_eq!(sim.stats().of(0, Count::NegOpens), 1, "{connections} connections");
        sim.drop_connections(0);
    }
    gateway.until_logged(sim.ids()).await;
}

/// The last request to the first relay is for NIP-11. The second relay gets no NIP-11 request.
#[tokio::test(flavor = "multi_thread")]
async fn relays_see_who_we_are() {
    let sim = Sim::builder().seed(52).scripted(2).refusals(only(1), Refusal::always("blocked: go away"));
    let sim = sim.start().await.expect("starts");
    let text = "relay.user_agent = 'a-gateway/{version} (mailto:operator@example.org)'";
    let parsed = Config::parse(Some((Path::new("config.toml"), text)), []).expect("no fault in it").config;
    let expected = format!("a-gateway/{} (mailto:operator@example.org)", env!("CARGO_PKG_VERSION"));
    let gateway = Gateway::configured(&sim, |config| config.relay.user_agent = parsed.relay.user_agent).await;
    gateway.until_in(0, "live").await;
    gateway.until_in(1, "refused").await;
    assert_eq!([0, 1].map(|relay| sim.stats().of(relay, Count::Information)), [1, 0]);
    for relay in [0, 1] {
        assert_eq!(sim.user_agent(relay).as_deref(), Some(&*expected), "relay {relay}");
    }
}
