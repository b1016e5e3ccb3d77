//! NIP-42: relays that serve only authenticated clients.

use moltrade_relayer::config::Config;
use moltrade_relayer::relay::{Gap, GapReason};
use relay_sim::{Count, Doubt, Fault, Sim};

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
    let gateway = Gateway::configured(&sim, with_key).await;
    for relay in 0..3 {
        gateway.until_in(relay, "live").await;
    }
    sim.go();
    gateway.until_logged(sim.ids()).await;
    gateway.assert_holds_exactly(&sim.events());
    let proven = [0, 1, 2].map(|relay| sim.stats().of(relay, Count::Authenticated));
    assert_eq!(proven, [1, 1, 1], "every challenge is answered, whether or not the relay insists");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_leave_no_key_is_proven_and_the_relay_waits_for_it() {
    let sim = Sim::builder().seed(31).relays(2).events(20).stored(1.0);
    let sim = sim.fault(Fault::AuthRequired, only(0), 1.0).fault(Fault::AuthLate, only(1), 1.0);
    let sim = sim.start().await.expect("starts");
    let mut gateway = Gateway::configured(&sim, |config| {
        with_key(config);
        config.relay.authenticate = false;
    })
    .await;
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
    let gateway = Gateway::configured(&sim, with_key).await;
    let reason = gateway.until_in(0, "refused").await;
    assert_eq!(reason, "restricted: not on the list");
    assert_eq!(sim.stats().of(0, Count::Authenticated), 1);
    gateway.until("it is left", |_| sim.open_connections(0) == 0).await;
}

/// One relay is silent until we authenticate, one answers as if it had no events, one sends no OK,
/// and two temporarily reject the first answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_challenge_is_answered_when_it_comes_and_what_came_before_proves_nothing() {
    let sim = Sim::builder().seed(33).relays(5).events(150).copies(1).stored(0.5).hold();
    let sim = sim.fault(Fault::AuthHeld, only(0), 1.0).fault(Fault::AuthEmpty, only(1), 1.0);
    let sim = sim.fault(Fault::AuthUnconfirmed, only(2), 1.0).fault(Fault::AuthRequired, only(3), 1.0);
    let sim = sim.fault(Fault::AuthRequired, only(4), 1.0);
    let sim = sim.doubts(only(3), Doubt::times(1, "rate-limited: slow down"));
    let sim = sim.doubts(only(4), Doubt::times(1, "error: database is locked"));
    let sim = sim.start().await.expect("starts");
    let gateway = Gateway::configured(&sim, with_key).await;
    for relay in 0..5 {
        gateway.until_in(relay, "live").await;
    }
    sim.go();
    gateway.until_logged(sim.ids()).await;
    gateway.assert_holds_exactly(&sim.events());
    let connections = [0, 1, 2, 3, 4].map(|relay| gateway.peer(relay).stats.connections.get());
    assert_eq!(connections, [1; 5], "none was left for it");
}

/// A relay that requires a key gives an empty answer. Without `[relay] authenticate`, this answer
/// leaves a gap that shows the reason.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_answer_of_a_relay_that_asks_who_we_are_proves_nothing() {
    let sim = Sim::builder().seed(34).relays(1).events(20).stored(1.0);
    let sim = sim.fault(Fault::AuthEmpty, only(0), 1.0).start().await.expect("starts");
    let gateway = Gateway::on(&sim).await;
    gateway.until_in(0, "live").await;
    let gaps =
        |gateway: &Gateway| gateway.peer(0).coverage().map(|known| known.gaps().to_vec()).unwrap_or_default();
    let is_shown = |gateway: &Gateway| {
        let is_refused =
            |gap: &Gap| matches!(&gap.reason, GapReason::Refused(text) if text.starts_with("auth-required:"));
        gaps(gateway).iter().any(is_refused)
    };
    gateway.until("the gap is shown", is_shown).await;
    assert_eq!(gateway.peer(0).coverage().and_then(|known| known.proven_until()), None);
}
