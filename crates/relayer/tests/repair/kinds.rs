//! The kinds change at a restart: proven spans of the old kinds are kept, and the new kinds are
//! requested.

use moltrade_relayer::config::Config;
use relay_sim::{Cap, Sim, Who};
use wire::EventId;

use crate::gateway::Gateway;
use crate::proof::{an_hour_back, now, until_complete, windows};

fn kinds(kinds: impl IntoIterator<Item = u16>) -> impl FnOnce(&mut Config) {
    let kinds = kinds.into_iter().collect();
    |config| {
        an_hour_back(config);
        config.filters.allowed_kinds = kinds;
    }
}

fn of_kinds(sim: &Sim, kinds: &[u16]) -> Vec<EventId> {
    let events = sim.events().into_iter();
    events.filter(|event| kinds.contains(&event.kind())).map(|event| event.id()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_6_other_kinds_are_proven_as_far_as_the_old_ones_tell() {
    let sim = Sim::builder().seed(71).relays(1).events(400).copies(1).stored(1.0).kinds([1, 6, 7]);
    let sim = sim.caps(Who::All, Cap::clamping(100)).start().await.expect("starts");
    let mut gateway = Gateway::configured(&sim, kinds([1, 7])).await;
    until_complete(&gateway, &[0], now()).await;
    gateway.until_logged(of_kinds(&sim, &[1, 7])).await;
    let known = gateway.peer(0).coverage().expect("known");

    // Fewer kinds: the remaining kinds stay proven.
    let asked = windows(&sim, 0).len();
    let restarted = now();
    gateway.restart(kinds([7])).await;
    gateway.until("it is asked", |_| windows(&sim, 0).len() > asked).await;
    until_complete(&gateway, &[0], restarted).await;
    let narrowed = gateway.peer(0).coverage().expect("known");
    assert_eq!(narrowed.from(), known.from());
    let since = windows(&sim, 0)[asked..].iter().map(|(since, _)| *since).min().expect("asked");
    assert!(since > Some(known.from()), "it begins anew, from {since:?}");

    // More kinds: the new kinds are requested as at first contact, with the whole backfill.
    let restarted = now();
    gateway.restart(kinds([6, 7])).await;
    gateway.until_logged(of_kinds(&sim, &[6])).await;
    until_complete(&gateway, &[0], restarted).await;
    let widened = gateway.peer(0).coverage().expect("known");
    assert!((restarted - 3_600..=now() - 3_600).contains(&widened.from()), "{widened:?}");

    // All kinds.
    let restarted = now();
    gateway.restart(kinds([])).await;
    gateway.until_logged(sim.ids()).await;
    until_complete(&gateway, &[0], restarted).await;
    gateway.assert_holds_exactly(&sim.events());
}
