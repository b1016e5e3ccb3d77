//! The shared handle to everything that is known about one relay.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Serialize;

use super::capabilities::Capabilities;
use super::coverage::Coverage;
use super::coverage_commits::CoverageCommits;
use super::metrics::Metrics;
use super::offences::Offences;
use super::state::{ConnectionState, PastState, StateHistory, StateName};
use super::stats::Stats;
use crate::clock::{Now, unix_ms};
use crate::config::RelayUrl;
use crate::event_log::{Mark, RelayTable};
use crate::ingest::{DropReason, Source};
use crate::net::address::Reach;

/// A relay that has, or waits for, a connection.
#[derive(Debug)]
pub struct Peer {
    /// The normalised URL.
    pub url: RelayUrl,
    /// Counts of what the relay sent.
    pub stats: Stats,
    pub offences: Offences,
    /// Whether the relay may have a private address, because the configuration names it.
    is_trusted: AtomicBool,
    states: Mutex<StateHistory>,
    coverage: Mutex<CoverageCommits>,
    capabilities: Mutex<Capabilities>,
    repair: Mutex<Option<RepairProgress>>,
    /// Whether the relay is connected but sends no events while several other relays do.
    is_silent: AtomicBool,
    /// The round trip of the last ping in microseconds, plus one; 0 for none.
    rtt_us: AtomicU64,
}

impl Source for Peer {
    fn url(&self) -> Arc<str> {
        self.url.to_arc()
    }

    fn is_live(&self) -> bool {
        self.is_live()
    }

    fn was_first(&self) {
        self.stats.first.add(1);
    }

    fn sent_copy(&self, late: Option<Duration>) {
        self.stats.copies.add(1);
        if let Some(late) = late {
            self.stats.late(late);
        }
    }

    fn sent_refused(&self, reason: DropReason) {
        self.refuse(reason);
    }
}

/// The progress of a backfill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RepairProgress {
    /// The first second of the window that is requested now, in Unix seconds.
    pub since: u64,
    /// The last second of the window; `None` if the window has no end.
    pub until: Option<u64>,
    /// The protocol: `req` (NIP-01) or `negentropy` (NIP-77).
    pub by: &'static str,
    /// The requests so far.
    pub requests: u64,
    /// The events in the answers, including known events.
    pub events: u64,
}

impl RepairProgress {
    /// The progress before the first request.
    pub(crate) const NONE: Self = Self { since: 0, until: None, by: "req", requests: 0, events: 0 };
}

impl Peer {
    /// A relay of the configuration, without an offence budget.
    pub fn new(url: RelayUrl) -> Self {
        Self::with(url, true, None)
    }

    /// A relay that was never dialled. An untrusted relay must have a public address.
    pub(crate) fn with(url: RelayUrl, is_trusted: bool, offences_an_hour_max: Option<u32>) -> Self {
        Self {
            url,
            stats: Stats::default(),
            offences: Offences::new(offences_an_hour_max),
            is_trusted: AtomicBool::new(is_trusted),
            states: Mutex::new(StateHistory::new()),
            coverage: Mutex::default(),
            capabilities: Mutex::default(),
            repair: Mutex::default(),
            is_silent: AtomicBool::new(false),
            rtt_us: AtomicU64::new(0),
        }
    }

    pub(crate) fn reach(&self) -> Reach {
        if self.is_trusted.load(Ordering::Relaxed) { Reach::Anywhere } else { Reach::PublicOnly }
    }

    /// Sets whether the relay is trusted, and returns the previous value. The next dial uses the
    /// new value.
    pub(crate) fn set_trusted(&self, is_trusted: bool) -> bool {
        self.is_trusted.swap(is_trusted, Ordering::Relaxed)
    }

    pub fn state(&self) -> ConnectionState {
        self.states.lock().now.clone()
    }

    /// The state without its data.
    pub fn state_name(&self) -> StateName {
        self.status().0
    }

    /// The name of the state, and whether a WebSocket is open.
    pub(super) fn status(&self) -> (StateName, bool) {
        let states = self.states.lock();
        (StateName::from(&states.now), states.now.is_connected())
    }

    /// Whether a WebSocket is open.
    pub(crate) fn is_connected(&self) -> bool {
        self.status().1
    }

    /// Whether the relay is connected and nothing is left to backfill.
    pub fn is_live(&self) -> bool {
        matches!(self.states.lock().now, ConnectionState::Live { .. })
    }

    /// Changes the state, and keeps the previous state in the history.
    pub fn set_state(&self, state: ConnectionState) {
        self.states.lock().set(state);
    }

    /// Sets the state to backfilling if it was live.
    pub(crate) fn set_backfilling(&self) {
        if matches!(self.state(), ConnectionState::Live { .. }) {
            self.set_state(ConnectionState::Backfilling { since_ms: unix_ms() });
        }
    }

    /// Sets the state to live if it was not.
    pub(crate) fn set_live(&self) {
        if !matches!(self.state(), ConnectionState::Live { .. }) {
            self.set_state(ConnectionState::Live { since_ms: unix_ms() });
        }
    }

    /// The recent states, the current one last.
    pub fn history(&self) -> Vec<PastState> {
        self.states.lock().recent.iter().cloned().collect()
    }

    /// The total connected time of all connections.
    pub fn uptime(&self) -> Duration {
        self.states.lock().uptime()
    }

    /// Counts a refused event or message of the relay.
    pub fn refuse(&self, reason: DropReason) {
        self.stats.refuse(reason);
        self.offences.note(reason, self.stats.events.get(), Instant::now());
    }

    /// Whether the relay is connected but sends no events while several other relays do.
    pub fn is_silent(&self) -> bool {
        self.is_silent.load(Ordering::Relaxed)
    }

    /// Sets whether the relay is silent, and returns the previous value.
    pub(crate) fn set_silent(&self, is_silent: bool) -> bool {
        self.is_silent.swap(is_silent, Ordering::Relaxed)
    }

    /// The round trip of the last ping that was answered.
    pub fn rtt(&self) -> Option<Duration> {
        self.rtt_us.load(Ordering::Relaxed).checked_sub(1).map(Duration::from_micros)
    }

    pub(crate) fn set_rtt(&self, rtt: Duration) {
        let micros = u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX);
        self.rtt_us.store(micros.saturating_add(1), Ordering::Relaxed);
    }

    /// The coverage that is proven and committed to the log; `None` before first contact.
    pub fn coverage(&self) -> Option<Coverage> {
        self.with_coverage(Coverage::clone)
    }

    /// Reads [`coverage`](Self::coverage) without copying it.
    pub(super) fn with_coverage<T>(&self, read: impl FnOnce(&Coverage) -> T) -> Option<T> {
        self.coverage.lock().committed().map(read)
    }

    /// Restores the coverage that the log had when the process started.
    pub fn restore_coverage(&self, coverage: Coverage, now: Now) {
        self.coverage.lock().restore(coverage.on_clock(now));
    }

    /// Handles a clock step: claims that rest on the previous clock are no longer shown. The
    /// conversation corrects the coverage proven by what was read, after it has ended the requests
    /// that used the previous clock.
    pub(crate) fn clock_was_set(&self, now: Now) {
        self.coverage.lock().clock_was_set(now);
    }

    /// The coverage proven by the messages read so far. The log may not have their events yet.
    pub(crate) fn read_coverage(&self) -> Option<Coverage> {
        self.coverage.lock().read().cloned()
    }

    /// Changes [`read_coverage`](Self::read_coverage), and returns the mark that must follow the
    /// events into the log.
    pub(crate) fn change_coverage(
        &self,
        change: impl FnOnce(Option<Coverage>) -> Option<Coverage>,
    ) -> Option<Mark> {
        let mut commits = self.coverage.lock();
        let coverage = commits.change(change)?.clone();
        let (mark, receipt) = Mark::new(RelayTable::Coverage, self.url.to_arc(), coverage.to_row());
        commits.sent(receipt, coverage);
        Some(mark)
    }

    /// Reads or changes what the relay supports.
    pub fn capabilities<T>(&self, access: impl FnOnce(&mut Capabilities) -> T) -> T {
        access(&mut self.capabilities.lock())
    }

    /// Slows down the requests, because the relay said that we ask too often.
    pub(crate) fn rate_limited(&self, metrics: &Metrics) {
        self.stats.rate_limited.add(1);
        metrics.rate_limited.inc();
        self.capabilities(|capabilities| capabilities.pace.slow_down(tokio::time::Instant::now()));
    }

    /// The progress of the backfill; `None` if no backfill is running.
    pub fn repair(&self) -> Option<RepairProgress> {
        self.repair.lock().clone()
    }

    pub(super) fn is_repairing(&self) -> bool {
        self.repair.lock().is_some()
    }

    pub(crate) fn set_repair(&self, progress: Option<RepairProgress>) {
        *self.repair.lock() = progress;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn coverage_committed_after_a_clock_step_does_not_rest_on_the_previous_clock() {
        let (clock, manual_clock) = Clock::manual();
        let peer = Arc::new(Peer::with("wss://relay.example".parse().expect("a URL"), false, None));
        let before = clock.now();
        let mark = peer.change_coverage(|_| Some(Coverage::resumed(None, [], before.secs(), before, 0)));
        manual_clock.step_secs(-7_200);
        peer.clock_was_set(clock.now());
        mark.expect("a mark").confirm();
        let shown = peer.coverage().expect("contact");
        assert!(shown.is_empty(), "{shown:?}");
    }

    /// The writer confirms marks concurrently, so the newer of two may be seen as confirmed before
    /// the older one.
    #[test]
    fn an_older_mark_that_is_confirmed_late_takes_nothing_back() {
        let (clock, _) = Clock::manual();
        let peer = Arc::new(Peer::with("wss://relay.example".parse().expect("a URL"), false, None));
        let now = clock.now();
        let until = |end: u64| Some(Coverage::resumed(None, [], end, now, 0));
        let older = peer.change_coverage(|_| until(now.secs() - 100)).expect("a mark");
        let newer = peer.change_coverage(|_| until(now.secs())).expect("a mark");
        newer.confirm();
        let shown = peer.coverage();
        assert!(shown.is_some());
        older.confirm();
        assert_eq!(peer.coverage(), shown);
    }
}
