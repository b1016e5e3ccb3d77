//! One second with more events than the relay's cap: a visible gap, unless NIP-77 is supported.

use moltrade_relayer::relay::{Gap, GapReason};
use relay_sim::{Cap, Count, Negentropy, Reconciling, Sim, SimBuilder, Who};

use crate::gateway::Gateway;
use crate::proof::{an_hour_back, assert_claims_are_true, is_complete, now, until_complete};

const BURST: usize = 2_000;
const CAP: usize = 500;
const SECS_AGO: u64 = 900;

/// A relay with 1,000 events in half an hour, and 2,000 further events in one second.
fn with_a_full_second(base: u64) -> SimBuilder {
    let sim = Sim::builder().seed(63).relays(1).events(1_000).copies(1).stored(1.0).base(base);
    sim.caps(Who::All, Cap::clamping(CAP)).burst_second(0, SECS_AGO, BURST)
}

/// Waits until all spans have been requested, and returns the remaining gaps.
async fn gaps(gateway: &Gateway) -> Vec<Gap> {
    gateway.until("it is live", |gateway| gateway.peer(0).state().label() == "live").await;
    let is_decided = |gap: &Gap| !matches!(gap.reason, GapReason::NotAsked | GapReason::MayBeLate);
    let coverage = || gateway.peer(0).coverage().expect("known");
    gateway.until("all is committed", |_| coverage().gaps().iter().all(is_decided)).await;
    coverage().gaps().to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_6_a_second_beyond_the_cap_is_a_gap_with_its_reason_and_all_else_arrives() {
    let base = now();
    let sim = with_a_full_second(base).start().await.expect("starts");
    let gateway = Gateway::configured(&sim, an_hour_back).await;
    let gaps = gaps(&gateway).await;
    let second = base - SECS_AGO;
    let reason = GapReason::BeyondCap { got: CAP as u32 };
    assert_eq!(gaps, [Gap { since: second, until: second, reason }]);
    assert_eq!(gateway.peer(0).coverage().and_then(|coverage| coverage.proven_until()), Some(second - 1));
    assert_claims_are_true(&gateway, &sim, 0);
    let of_the_second = sim.holds_between(0, second, second).len();
    let missing = sim.events().len() - gateway.log.head().get() as usize;
    assert_eq!(missing, of_the_second - CAP, "only what is beyond the cap");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_nip_77_a_second_beyond_the_cap_is_repaired() {
    let sim = with_a_full_second(now()).negentropy(Who::All, Negentropy::served());
    let sim = sim.start().await.expect("starts");
    let gateway = Gateway::configured(&sim, an_hour_back).await;
    gateway.until_logged(sim.ids()).await;
    until_complete(&gateway, &[0], sim.events().iter().map(|event| event.created_at()).max().unwrap()).await;
    gateway.assert_holds_exactly(&sim.events());
    assert!(sim.stats().get(Count::NegOpens) > 0);
}

/// If a relay refuses NIP-77 for any reason, at once or midway, the window is requested by REQ.
#[tokio::test(flavor = "multi_thread")]
async fn where_nip_77_fails_the_relay_is_asked_in_pages() {
    let refused = |reason: &str| Negentropy::Refused(reason.to_owned());
    let failing = [
        refused("blocked: this query is too big"),
        refused("error: no such thing"),
        refused("closed: try later"),
        Negentropy::Served(Reconciling::new().records_max(100)),
        Negentropy::Served(Reconciling::new().frame_bytes(4_096).rounds_max(1)),
    ];
    let mut sim = Sim::builder().seed(64).relays(failing.len()).events(600 * failing.len()).copies(1);
    sim = sim.stored(1.0).caps(Who::All, Cap::clamping(CAP));
    for (relay, negentropy) in failing.iter().enumerate() {
        sim = sim.negentropy(Who::These(vec![relay]), negentropy.clone());
    }
    let sim = sim.start().await.expect("starts");
    let started = now();
    let gateway = Gateway::configured(&sim, an_hour_back).await;
    gateway.until_logged(sim.ids()).await;
    until_complete(&gateway, &(0..failing.len()).collect::<Vec<_>>(), started).await;
    for relay in 0..failing.len() {
        assert!(sim.stats().of(relay, Count::NegOpens) > 0, "relay {relay} was not asked to reconcile");
        assert!(is_complete(&gateway, relay));
    }
    assert!(sim.stats().get(Count::NegErrors) >= failing.len() as u64 - 1);
}
