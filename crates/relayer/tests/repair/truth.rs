//! During a backfill, the proven spans never contain an event that the log lacks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use moltrade_relayer::event_log::RelayTable;
use relay_sim::wait::until;
use relay_sim::{Cap, Count, RateLimit, Sim, Who};

use crate::gateway::Gateway;
use crate::proof::{an_hour_back, assert_claims_are_true, assert_true, claims, is_complete, past_requests};

/// Two relays, each with 800 events and a cap of 50. The second also limits the rate of requests.
#[tokio::test(flavor = "multi_thread")]
async fn invariant_6_at_every_moment_of_a_repair_what_is_claimed_is_in_the_log() {
    let slowly = RateLimit::new(12, Duration::from_secs(1));
    let sim = Sim::builder().seed(65).relays(2).events(1_600).copies(1).stored(1.0);
    let sim = sim.caps(Who::All, Cap::clamping(50)).rate_limits(Who::These(vec![1]), slowly);
    let sim = sim.start().await.expect("starts");
    let gateway = Gateway::configured(&sim, an_hour_back).await;
    let (mut partial, mut shown) = (0, 0);
    let mut requests = [0; 2];
    let looking = || {
        for (relay, requests) in requests.iter_mut().enumerate() {
            assert_claims_are_true(&gateway, &sim, relay);
            let peer = gateway.peer(relay);
            let coverage = peer.coverage();
            if coverage.is_some_and(|coverage| !coverage.gaps().is_empty() && !claims(&coverage).is_empty()) {
                partial += 1;
            }
            if let Some(progress) = peer.repair() {
                assert!(progress.requests >= *requests, "it counts up");
                assert_eq!(progress.by, "req");
                assert!(progress.until.is_none_or(|until| until >= progress.since));
                *requests = progress.requests;
                shown += 1;
            }
        }
        (0..2).all(|relay| is_complete(&gateway, relay))
    };
    until("all is proven", looking).await;
    assert!(partial > 10, "what was proven grew bit by bit: {partial}");
    assert!(shown > 10, "the repair was shown: {shown}");
    gateway.assert_holds_exactly(&sim.events());
    gateway.until("no repair is shown any more", |gateway| gateway.peer(0).repair().is_none()).await;
    println!("{} requests, and {}", past_requests(&sim, 0), past_requests(&sim, 1));
}

/// While the log waits for disk space, answers prove nothing, because their events are not
/// committed.
#[tokio::test(flavor = "multi_thread")]
async fn invariant_6_what_is_read_and_not_committed_is_not_claimed() {
    let sim = Sim::builder().seed(66).relays(1).events(400).copies(1).stored(1.0);
    let sim = sim.caps(Who::All, Cap::clamping(50)).start().await.expect("starts");
    let free = Arc::new(AtomicU64::new(0));
    let gateway = Gateway::on_disk(&sim, Arc::clone(&free)).await;
    let rows = || gateway.log.relay_rows(RelayTable::Coverage).expect("readable");
    gateway.until("pages come", |_| sim.stats().get(Count::Eose) >= 8).await;
    assert_eq!(gateway.log.head().get(), 0);
    assert_eq!(gateway.peer(0).coverage(), None, "nothing is claimed");
    assert_eq!(rows(), [], "and nothing is on the disk");
    free.store(u64::MAX, Ordering::Relaxed);
    gateway.until_logged(sim.ids()).await;
    gateway.until("all is proven", |gateway| is_complete(gateway, 0)).await;
    let row = moltrade_relayer::relay::Coverage::from_row(&rows()[0].1).expect("a row");
    assert_true(&row, &sim, 0, &gateway.log);
}
