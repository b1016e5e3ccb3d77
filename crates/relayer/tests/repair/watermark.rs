//! The watermark while a relay is live, and the requests after a reconnect.

use std::time::Duration;

use moltrade_relayer::config::Config;
use relay_sim::wait::until;
use relay_sim::{Behaviour, Information, Sim, Who};
use wire::Signer;

use crate::gateway::Gateway;
use crate::proof::{an_hour_back, assert_claims_are_true, is_complete, now, until_complete, windows};

fn often_checked(config: &mut Config) {
    an_hour_back(config);
    config.relay.health_check_interval = Duration::from_millis(50);
}

fn proven_until(gateway: &Gateway) -> u64 {
    gateway.peer(0).coverage().and_then(|coverage| coverage.proven_until()).expect("something is proven")
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_6_pongs_move_the_watermark_and_a_reconnect_asks_from_there() {
    let sim = Sim::builder().seed(67).relays(1).events(100).copies(1).stored(1.0);
    let sim = sim.start().await.expect("starts");
    let mut overlap = 0;
    let gateway = Gateway::configured(&sim, |config| {
        often_checked(config);
        overlap = config.relay.overlap.as_secs();
    })
    .await;
    until_complete(&gateway, &[0], now()).await;
    // The watermark also advances without events and requests.
    let asked = windows(&sim, 0).len();
    until_complete(&gateway, &[0], now() + 2).await;
    assert_eq!(windows(&sim, 0).len(), asked);

    // While the relay is disconnected, it receives two events: one dated now, and a late one.
    let before = proven_until(&gateway);
    sim.behave(0, Behaviour::Refusing);
    sim.drop_connections(0);
    gateway.until("it is lost", |gateway| !gateway.peer(0).state().is_connected()).await;
    let after = proven_until(&gateway);
    for created_at in [now(), now() - overlap / 2] {
        let event = Signer::from_seed(created_at).sign(created_at, 1, &[] as &[Vec<String>], "meanwhile");
        sim.publish([0], event.json().clone());
    }
    let returned = now();
    sim.behave(0, Behaviour::Normal);
    gateway.until_logged(sim.ids()).await;
    until_complete(&gateway, &[0], returned).await;
    assert_claims_are_true(&gateway, &sim, 0);
    let windows = windows(&sim, 0);
    let [(Some(since), None)] = windows[asked..] else { panic!("asked for {:?}", &windows[asked..]) };
    assert!((before + 1 - overlap..=after + 1 - overlap).contains(&since), "{since} after {before}");
}

/// The relay reconnects within its last proven second, and was disconnected for a part of that
/// second.
#[tokio::test(flavor = "multi_thread")]
async fn invariant_6_what_comes_in_the_second_of_a_reconnect_is_not_missing() {
    const RELAYS: usize = 30;
    let relays: Vec<usize> = (0..RELAYS).collect();
    let sim = Sim::builder().seed(68).relays(RELAYS).events(0).start().await.expect("starts");
    let gateway = Gateway::configured(&sim, often_checked).await;
    for round in 0..2 {
        let second = now() + 1;
        until_complete(&gateway, &relays, second).await;
        for relay in &relays {
            sim.behave(*relay, Behaviour::Refusing);
            sim.drop_connections(*relay);
        }
        let is_lost = |relay: &usize| sim.open_connections(*relay) == 0;
        gateway.until("all are lost", |_| relays.iter().all(is_lost)).await;
        for relay in &relays {
            let signer = Signer::from_seed((round * RELAYS + relay) as u64);
            let event = signer.sign(now(), 1, &[] as &[Vec<String>], "in between");
            sim.publish([*relay], event.json().clone());
            sim.behave(*relay, Behaviour::Normal);
        }
        gateway.until_logged(sim.ids()).await;
    }
}

/// Before we connect, the relay has an event dated in the future. Until the NIP-11 fetch ends and
/// the backfill begins, pongs must not prove the second of that event.
#[tokio::test(flavor = "multi_thread")]
async fn invariant_6_pongs_do_not_claim_what_was_dated_ahead_before_we_came() {
    let sim = Sim::builder().seed(72).relays(1).events(0).information(Who::All, Information::Hanging);
    let sim = sim.start().await.expect("starts");
    let ahead = now() + 4;
    let event = Signer::from_seed(1).sign(ahead, 1, &[] as &[Vec<String>], "ahead");
    sim.publish([0], event.json().clone());
    let gateway = Gateway::configured(&sim, often_checked).await;
    let is_proven = || {
        assert_claims_are_true(&gateway, &sim, 0);
        is_complete(&gateway, 0) && proven_until(&gateway) > ahead
    };
    until("all is proven", is_proven).await;
    gateway.until_logged(sim.ids()).await;
}
