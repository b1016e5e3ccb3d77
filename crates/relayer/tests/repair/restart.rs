//! A gateway that is stopped during a backfill resumes the backfill.

use relay_sim::{Cap, Sim, Who};

use crate::gateway::Gateway;
use crate::proof::{an_hour_back, assert_claims_are_true, claims, now, until_complete, windows};

const CAP: usize = 50;

#[tokio::test(flavor = "multi_thread")]
async fn invariant_6_a_restart_in_the_middle_of_a_repair_goes_on_where_it_was() {
    let sim = Sim::builder().seed(69).relays(1).events(1_500).copies(1).stored(1.0);
    let sim = sim.caps(Who::All, Cap::clamping(CAP)).start().await.expect("starts");
    let mut overlap = 0;
    let mut gateway = Gateway::configured(&sim, |config| {
        an_hour_back(config);
        overlap = config.relay.overlap.as_secs();
    })
    .await;
    // The backfill starts with the newest events: the last ten minutes of the half hour are proven,
    // and the earlier ones are not.
    let is_begun = |gateway: &Gateway| {
        let coverage = gateway.peer(0).coverage();
        coverage.is_some_and(|coverage| claims(&coverage).iter().any(|(since, _)| *since < now() - 600))
    };
    gateway.until("a part is proven", is_begun).await;
    gateway.restart(|_| {}).await;
    // The relay has not had time to answer.
    let known = gateway.peer(0).coverage().expect("kept");
    let (Some(gap), 1) = (known.gaps().first(), known.gaps().len()) else { panic!("{known:?}") };
    assert!(gap.until < now() - 590, "{gap:?}");
    assert_claims_are_true(&gateway, &sim, 0);
    let asked = windows(&sim, 0).len();

    let restarted = now();
    gateway.until_logged(sim.ids()).await;
    until_complete(&gateway, &[0], restarted).await;
    gateway.assert_holds_exactly(&sim.events());
    let windows = &windows(&sim, 0)[asked..];
    let is_needed = |(since, until): &(Option<u64>, Option<u64>)| {
        until.is_some_and(|until| until <= gap.until) || *since >= Some(known.until() + 1 - overlap)
    };
    assert!(windows.iter().all(is_needed), "{windows:?} after {known:?}");
    let left = sim.holds_between(0, gap.since, gap.until).len();
    let again = sim.holds_between(0, known.until() + 1 - overlap, u64::MAX).len();
    let least = left.div_ceil(CAP) + again.div_ceil(CAP);
    println!("{} requests, at least {least}", windows.len());
    assert!(windows.len() <= least + least / 3 + 2, "{} requests for {least}", windows.len());
}
