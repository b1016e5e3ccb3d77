//! NIP-42: relays that serve only whom they know.

use moltrade_relayer::config::Config;
use relay_sim::{Count, Fault, Sim};

use crate::gateway::Gateway;
use crate::only;

fn with_key(config: &mut Config) {
    config.relay.authenticate = true;
    config.nostr.secret_key = Some("7".repeat(64).parse().expect("a key"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_proven_to_relays_that_ask_for_it_and_they_deliver() {
    let sim = Sim::builder().seed(30).relays(3).events(90).copies(1).stored(0.5).hold();
    let sim = sim.fault(Fault::AuthRequired, only(0), 1.0).fault(Fault::AuthLate, only(1), 1.0);
    let sim = sim.fault(Fault::Auth, only(2), 1.0).start().await.expect("starts");
    let gateway = Gateway::configured(&sim, with_key);
    for relay in 0..3 {
        gateway.until_in(relay, "live").await;
    }
    sim.go();
    gateway.until_logged(sim.ids()).await;
    gateway.assert_holds_exactly(&sim.events());
    let proven = [0, 1, 2].map(|relay| sim.stats().of(relay, Count::Authenticated));
    assert_eq!(proven, [1, 1, 0], "who only offers it is not told who we are");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_leave_no_key_is_proven_and_the_relay_waits_for_it() {
    let sim = Sim::builder().seed(31).relays(2).events(20).stored(1.0);
    let sim = sim.fault(Fault::AuthRequired, only(0), 1.0).fault(Fault::AuthLate, only(1), 1.0);
    let sim = sim.start().await.expect("starts");
    let mut gateway = Gateway::configured(&sim, |config| {
        with_key(config);
        config.relay.authenticate = false;
    });
    for relay in [0, 1] {
        let reason = gateway.until_in(relay, "needs_authentication").await;
        assert!(reason.starts_with("auth-required: this relay serves nobody unknown"), "{reason}");
        assert!(reason.contains("[relay] authenticate = true"), "it says what to do: {reason}");
        assert_eq!(sim.stats().of(relay, Count::Authenticated), 0);
    }
    gateway.restart(with_key).await;
    gateway.until_logged(sim.ids()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_knows_us_and_does_not_serve_us_is_left_alone() {
    let sim = Sim::builder().seed(32).relays(1).events(20).stored(1.0);
    let sim = sim.fault(Fault::AuthRestricted, only(0), 1.0).start().await.expect("starts");
    let gateway = Gateway::configured(&sim, with_key);
    let reason = gateway.until_in(0, "refused").await;
    assert_eq!(reason, "restricted: not on the list");
    assert_eq!(sim.stats().of(0, Count::Authenticated), 1);
    gateway.until("it is left", |_| sim.open_connections(0) == 0).await;
}
