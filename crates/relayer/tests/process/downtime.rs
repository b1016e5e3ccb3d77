//! While the gateway is down, many events are published at relays that limit their answers. After a
//! restart all events are delivered, and each relay's reported coverage is true at all times.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use relay_sim::{Cap, Checker, Consumer, Count, Information, Sim, Who};
use serde_json::Value;
use wire::{ClaimedId, VerifiedEvent};

use crate::program::{PATIENCE, Running, Site};

const RELAYS: usize = 4;
const CAP: usize = 500;
/// The events are dated within this span before now.
const SPAN_SECS: u64 = 3_000;

/// The number of events published during the downtime; set by `DOWNTIME_EVENTS`.
fn events() -> usize {
    std::env::var("DOWNTIME_EVENTS").ok().and_then(|events| events.parse().ok()).unwrap_or(5_000)
}

/// Relays 0 and 1 truncate answers, relay 1 without stating its cap. Relay 2 refuses large limits,
/// and relay 3 large answers.
async fn relays(seed: u64) -> Sim {
    let sim = Sim::builder().seed(seed).relays(RELAYS).events(0);
    let sim = sim
        .caps(Who::All, Cap::clamping(CAP))
        .information(Who::These(vec![1]), Information::without_limits());
    let sim = sim.caps(Who::These(vec![2]), Cap::refusing(CAP)).caps(Who::These(vec![3]), Cap::too_many(CAP));
    sim.start().await.expect("starts")
}

fn now() -> u64 {
    moltrade_relayer::clock::unix_secs()
}

/// Publishes each event at two relays. The dates are spread evenly over the last [`SPAN_SECS`].
async fn publish(sim: &Sim, events: usize) {
    let newest = now();
    let dates: Vec<u64> =
        (0..events as u64).map(|number| newest - SPAN_SECS * number / events as u64).collect();
    let relays: Vec<usize> = (0..RELAYS).collect();
    tokio::task::block_in_place(|| sim.publish_many(&relays, 2, &dates));
}

/// The response to `/api/relays/{url}`.
async fn shown_relay(running: &Running, sim: &Sim, relay: usize) -> Value {
    let url: String = sim.url(relay).bytes().map(|byte| format!("%{byte:02X}")).collect();
    running.json(&format!("/api/relays/{url}")).await
}

/// The spans that the API reports as proven.
fn claims(said: &Value) -> Vec<(u64, u64)> {
    let Some(mut since) = said["proven_from"].as_u64() else { return Vec::new() };
    let mut spans = Vec::new();
    for gap in said["open_gaps"].as_array().expect("gaps") {
        let (first, last) = (gap["since"].as_u64().expect("a time"), gap["until"].as_u64().expect("a time"));
        spans.extend((first > since).then(|| (since, first - 1)));
        since = last + 1;
    }
    let until = said["covered_until"].as_u64().expect("an end");
    spans.extend((since <= until).then_some((since, until)));
    let proven_until = spans.first().filter(|(since, _)| Some(*since) == said["proven_from"].as_u64());
    assert_eq!(said["proven_until"].as_u64(), proven_until.map(|(_, until)| *until), "{said}");
    spans
}

/// A client that checks that each sequence and each event arrives once.
struct Received {
    consumer: Consumer,
    checker: Checker,
    ids: HashSet<ClaimedId>,
}

impl Received {
    async fn from_the_start(site: &Site) -> Self {
        let consumer = site.consumer("?cursor=0").await;
        Self { consumer, checker: Checker::new(), ids: HashSet::new() }
    }

    /// Receives all events up to this head.
    async fn take_until(&mut self, head: u64) {
        while (self.ids.len() as u64) < head {
            let next = tokio::time::timeout(PATIENCE, self.consumer.next()).await;
            let delivery = next.expect("in time").expect("delivered");
            self.checker.check(&delivery).unwrap_or_else(|wrong| panic!("{wrong}"));
            let event: Value = serde_json::from_slice(&delivery.event).expect("JSON");
            let id: ClaimedId = event["id"].as_str().expect("an id").parse().expect("an id");
            assert!(self.ids.insert(id), "{id} came twice");
        }
    }
}

/// Waits until all events are proven, and continuously checks that the log has every event in the
/// claimed spans.
async fn watch_until_complete(running: &Running, site: &Site, sim: &Sim) {
    let mut received = Received::from_the_start(site).await;
    let (started, mut slowest) = (Instant::now(), Duration::ZERO);
    let held: Vec<Vec<VerifiedEvent>> =
        (0..RELAYS).map(|relay| sim.holds_between(relay, 0, u64::MAX)).collect();
    let (mut partial, mut complete) = (0, 0);
    let deadline = Duration::from_secs(60 + events() as u64 / 50);
    while complete < RELAYS || received.ids.len() < sim.ids().len() {
        assert!(started.elapsed() < deadline, "{complete} relays; {} events", received.ids.len());
        complete = 0;
        let mut said = Vec::new();
        for relay in 0..RELAYS {
            said.push(shown_relay(running, sim, relay).await);
        }
        // The log is read after the claims, so it must contain all claimed events.
        let head = running.json("/status").await["log"]["head"].as_u64().expect("a number");
        received.take_until(head).await;
        for (relay, said) in said.iter().enumerate() {
            let claims = claims(said);
            let is_claimed = |event: &&VerifiedEvent| {
                claims.iter().any(|(since, until)| (*since..=*until).contains(&event.created_at()))
            };
            let claimed = held[relay].iter().filter(is_claimed);
            let missing = claimed.filter(|event| !received.ids.contains(&event.id().into())).count();
            assert_eq!(missing, 0, "of relay {relay}, {claims:?} are claimed; {said}");
            let is_complete = said["gaps"] == 0 && said["proven_until"].as_u64() >= held_until(&held[relay]);
            complete += usize::from(is_complete);
            partial += usize::from(!is_complete && !claims.is_empty());
            if !is_complete {
                slowest = started.elapsed();
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(partial > 3, "no partial state was seen");
    let least: usize = held.iter().map(|held| held.len().div_ceil(CAP)).sum();
    let requests: Vec<u64> = (0..RELAYS).map(|relay| sim.stats().of(relay, Count::Requests)).collect();
    println!(
        "{} events after {slowest:?}; requests {requests:?}, at least {least} in all",
        received.ids.len()
    );
}

fn held_until(held: &[VerifiedEvent]) -> Option<u64> {
    held.iter().map(VerifiedEvent::created_at).max()
}

#[derive(Clone, Copy)]
enum Down {
    Stopped,
    Killed,
}

async fn is_down_while_much_is_published(seed: u64, down: Down) {
    let sim = relays(seed).await;
    let site = Site::on(&sim);
    publish(&sim, 200).await;
    let mut running = site.start().await;
    let deadline = Instant::now() + PATIENCE;
    for relay in 0..RELAYS {
        while shown_relay(&running, &sim, relay).await["status"] != "live" {
            assert!(Instant::now() < deadline, "relay {relay} does not become live");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    match down {
        Down::Stopped => {
            running.signal("TERM");
            assert!(running.ended().await.success());
        }
        Down::Killed => running.kill(),
    }
    publish(&sim, events()).await;
    set_back_what_is_proven(&site);
    let running = site.start().await;
    watch_until_complete(&running, &site, &sim).await;
}

/// Resets the stored coverage, as if the gateway had been down for the whole span of the events,
/// nearly an hour.
fn set_back_what_is_proven(site: &Site) {
    use moltrade_relayer::event_log::{EventLog, RelayTable, StoreOptions};
    use moltrade_relayer::relay::Coverage;
    let log =
        EventLog::open(&site.log_path(), StoreOptions { fsync: true, ..StoreOptions::default() }, 1 << 20)
            .expect("opens");
    for (relay, row) in log.relay_rows(RelayTable::Coverage).expect("readable") {
        let known = Coverage::from_row(&row).expect("a row");
        let then = now() - SPAN_SECS - 60;
        let mut coverage = Coverage::first_contact([], known.from().min(then), then);
        coverage.prove(0, then);
        log.set_relay_row(RelayTable::Coverage, &relay, Some(&coverage.to_row())).expect("written");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_6_after_a_stop_everything_is_delivered_and_what_is_said_meanwhile_is_true() {
    is_down_while_much_is_published(81, Down::Stopped).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_6_after_a_kill_everything_is_delivered_and_what_is_said_meanwhile_is_true() {
    is_down_while_much_is_published(82, Down::Killed).await;
}
