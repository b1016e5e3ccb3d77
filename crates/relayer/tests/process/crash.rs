//! Invariants 2, 3 and 6 under `kill -9`: a client that resumes with its cursor sees every event
//! exactly once, no sequence names two events, every event that relays still have arrives, and the
//! gateway claims coverage only for events in the log.

use std::collections::BTreeMap;
use std::time::Duration;

use moltrade_relayer::event_log::{EventLog, RelayTable, StoreOptions};
use moltrade_relayer::relay::Coverage;
use relay_sim::rng::Rng;
use relay_sim::{Cap, Checker, Consumer, Count, Sim, Who};

use crate::program::{PATIENCE, Site};

/// The events that a client has seen, by sequence number.
type Seen = BTreeMap<u64, Vec<u8>>;

/// Receives every event that the relays ever had, across all crashes.
async fn receive_all(mut consumer: Consumer, sim: &Sim, events: usize) -> (Checker, Seen) {
    let (mut checker, mut seen) = (Checker::new().expect_count(events), Seen::new());
    while !checker.is_complete() {
        let next = tokio::time::timeout(2 * PATIENCE, consumer.next()).await;
        let delivery = match next {
            Ok(delivery) => delivery.expect("the gateway comes back"),
            Err(_) => panic!("{}; {} were made", checker.verdict(), sim.events().len()),
        };
        if let Err(wrong) = checker.check(&delivery) {
            panic!("{wrong}");
        }
        seen.insert(delivery.seq.expect("an envelope"), delivery.event.to_vec());
    }
    (checker, seen)
}

/// Asserts that a client that reads from the start sees the same events at the same sequences.
async fn assert_same_from_the_start(site: &Site, seen: &Seen) {
    let mut consumer = site.consumer("?cursor=0").await;
    for (seq, event) in seen {
        let delivery =
            tokio::time::timeout(PATIENCE, consumer.next()).await.expect("in time").expect("delivered");
        assert_eq!((delivery.seq, delivery.event.to_vec()), (Some(*seq), event.clone()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_2_twenty_kills_under_load_lose_and_repeat_nothing() {
    const EVENTS: usize = 8_000;
    const KILLS: usize = 20;
    let seed = std::env::var("CRASH_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(11);
    println!("CRASH_SEED={seed}");
    let mut rng = Rng::new(&[seed]);
    let sim = Sim::builder().seed(seed).relays(8).events(EVENTS).copies(3).per_second(700.0);
    let sim = sim.start().await.expect("starts");
    let site = Site::on(&sim);
    let mut running = site.start().await;
    let received = tokio::spawn({
        let consumer = site.consumer("?cursor=0").await;
        async move { receive_all(consumer, &sim, EVENTS).await }
    });
    for _ in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(rng.between(20, 700) as u64)).await;
        running.kill();
        running = site.start().await;
    }
    let (checker, seen) = received.await.expect("nothing is lost");
    assert!(checker.verdict().passed(), "{}", checker.verdict());
    assert_eq!(seen.keys().copied().collect::<Vec<_>>(), (1..=EVENTS as u64).collect::<Vec<_>>());
    assert_same_from_the_start(&site, &seen).await;
    drop(running);
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_2_crashes_around_the_commit_lose_and_repeat_nothing() {
    const EVENTS: usize = 600;
    let sim = Sim::builder().seed(12).relays(4).events(EVENTS).copies(2).per_second(300.0);
    let sim = sim.start().await.expect("starts");
    // Small batches give enough commits to crash at, even on a busy machine.
    let site = Site::on(&sim).set("RELAYER_OUTPUT__BATCH_SIZE", "5");
    let crash_at = |point: &str, time: u32| [("MOLTRADE_CRASH_POINT", format!("{point}:{time}"))];
    let mut running = site.start_with(&crash_at("before_commit", 1)).await;
    let url = site.ws("?cursor=0");
    // The client connects whenever the gateway is running.
    let received = tokio::spawn(async move {
        let consumer = Consumer::connect_within(&url, PATIENCE).await.expect("connects").reconnect(PATIENCE);
        receive_all(consumer, &sim, EVENTS).await
    });
    for (point, time) in [
        ("after_commit", 1),
        ("before_commit", 5),
        ("after_commit", 5),
        ("before_commit", 20),
        ("after_commit", 20),
    ] {
        let status = running.ended().await;
        assert!(!status.success(), "it dies where it is told to");
        running = site.start_with(&crash_at(point, time)).await;
    }
    assert!(!running.ended().await.success());
    let running = site.start().await;
    let (checker, seen) = received.await.expect("nothing is lost");
    assert!(checker.verdict().passed(), "{}", checker.verdict());
    assert_same_from_the_start(&site, &seen).await;
    drop(running);
}

/// Reads the coverage from a killed gateway's folder, and asserts that the log has all events in
/// the claimed spans. Returns the total of claimed seconds.
fn assert_claims_are_true(site: &Site, sim: &Sim) -> u64 {
    let log =
        EventLog::open(&site.log_path(), StoreOptions { fsync: true, ..StoreOptions::default() }, 1 << 20)
            .expect("opens");
    let rows = log.relay_rows(RelayTable::Coverage).expect("readable");
    let mut seconds = 0;
    for (relay, url) in sim.urls().iter().enumerate() {
        let Some((_, row)) = rows.iter().find(|(relay, _)| relay == url) else { continue };
        let coverage = Coverage::from_row(row).expect("a row");
        // The last second was not over, so its events do not count.
        let claimed = coverage.from()..coverage.until();
        for event in sim.holds_between(relay, coverage.from(), coverage.until()) {
            let at = event.created_at();
            let is_open = coverage.gaps().iter().any(|gap| (gap.since..=gap.until).contains(&at));
            let is_logged = log.contains(&event.id().into()).expect("readable");
            assert!(is_logged || is_open || !claimed.contains(&at), "{at} is missing at {url}: {coverage:?}");
        }
        let open: u64 = coverage.gaps().iter().map(|gap| gap.until - gap.since + 1).sum();
        seconds += coverage.until() + 1 - coverage.from() - open;
    }
    seconds
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_6_ten_kills_during_repairs_leave_no_claim_that_is_not_so() {
    const STORED: usize = 6_000;
    const KILLS: usize = 10;
    let seed = std::env::var("CRASH_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(16);
    println!("CRASH_SEED={seed}");
    let mut rng = Rng::new(&[seed]);
    let sim = Sim::builder().seed(seed).relays(4).events(STORED).copies(2).stored(1.0);
    let sim = sim.stored_span_secs(3_000).caps(Who::All, Cap::clamping(50)).start().await.expect("starts");
    let site = Site::on(&sim);
    let mut claimed = Vec::new();
    for _ in 0..KILLS {
        let running = site.start().await;
        tokio::time::sleep(Duration::from_millis(rng.between(20, 1_500) as u64)).await;
        running.kill();
        claimed.push(assert_claims_are_true(&site, &sim));
    }
    println!("seconds claimed after each kill: {claimed:?}");
    assert!(
        claimed.iter().any(|seconds| (1..4 * 3_000).contains(seconds)),
        "never in the middle: {claimed:?}"
    );
    let running = site.start().await;
    let consumer = site.consumer("?cursor=0").await;
    let (checker, _) = receive_all(consumer, &sim, STORED).await;
    assert!(checker.verdict().passed(), "{}", checker.verdict());
    println!("{} requests", sim.stats().get(Count::Requests));
    running.kill();
    assert_claims_are_true(&site, &sim);
}
