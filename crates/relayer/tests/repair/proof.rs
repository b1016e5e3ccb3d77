//! Compares a relay's coverage with the relay's events and with the log.

use std::time::Duration;

use moltrade_relayer::config::Config;
use moltrade_relayer::event_log::EventLog;
use moltrade_relayer::relay::Coverage;
use relay_sim::{Count, Sim};
use wire::ClaimedId;

use crate::gateway::Gateway;

/// The current time in Unix seconds.
pub fn now() -> u64 {
    moltrade_relayer::clock::unix_secs()
}

/// Sets the first backfill to an hour, which reaches further back than the simulated events.
pub fn an_hour_back(config: &mut Config) {
    config.relay.backfill = Some(Duration::from_secs(3_600));
}

/// The proven spans, from the beginning of the coverage to the end, without the gaps.
pub fn claims(coverage: &Coverage) -> Vec<(u64, u64)> {
    let (mut spans, mut since) = (Vec::new(), coverage.from());
    for gap in coverage.gaps() {
        if gap.since > since {
            spans.push((since, gap.since - 1));
        }
        since = gap.until + 1;
    }
    if since <= coverage.until() {
        spans.push((since, coverage.until()));
    }
    spans
}

/// Asserts that the log has every event that the relay has in the proven spans.
#[track_caller]
pub fn assert_true(coverage: &Coverage, sim: &Sim, relay: usize, log: &EventLog) {
    for (since, until) in claims(coverage) {
        let held = sim.holds_between(relay, since, until);
        let is_logged = |id: ClaimedId| log.contains(&id).expect("the log answers");
        let missing = held.iter().filter(|event| !is_logged(event.id().into())).count();
        assert_eq!(missing, 0, "relay {relay}: {since}..={until} is claimed; of {} are missing", held.len());
    }
}

/// Asserts that the current claims about a relay are true.
#[track_caller]
pub fn assert_claims_are_true(gateway: &Gateway, sim: &Sim, relay: usize) {
    if let Some(coverage) = gateway.peer(relay).coverage() {
        assert_true(&coverage, sim, relay, &gateway.log);
    }
}

/// Whether a relay has no gaps.
pub fn is_complete(gateway: &Gateway, relay: usize) -> bool {
    let coverage = gateway.peer(relay).coverage();
    coverage.is_some_and(|coverage| coverage.gaps().is_empty() && coverage.proven_until().is_some())
}

/// Waits until these relays have no gaps and are proven at least up to `second`.
pub async fn until_complete(gateway: &Gateway, relays: &[usize], second: u64) {
    let is_complete = |relay: &usize| {
        let coverage = gateway.peer(*relay).coverage();
        is_complete(gateway, *relay) && coverage.and_then(|known| known.proven_until()) >= Some(second)
    };
    gateway.until("all is proven", |_| relays.iter().all(is_complete)).await;
}

/// The number of backfill requests on one connection, which are all but the live subscription.
pub fn past_requests(sim: &Sim, relay: usize) -> u64 {
    sim.stats().of(relay, Count::Requests) - 1
}

/// The window of a request to a relay: `since` and `until`.
pub type Window = (Option<u64>, Option<u64>);

/// The windows of the requests to a relay, in order.
pub fn windows(sim: &Sim, relay: usize) -> Vec<Window> {
    let requests = sim.requests(relay);
    let windows = requests.iter().filter_map(|request| {
        let request: serde_json::Value = serde_json::from_str(request).expect("JSON");
        let is_past = request[1].as_str().expect("an id").starts_with('p');
        is_past.then(|| (request[2]["since"].as_u64(), request[2]["until"].as_u64()))
    });
    windows.collect()
}
