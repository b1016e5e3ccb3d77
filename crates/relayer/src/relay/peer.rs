//! What is known of one relay: its state, what it sent, what of it is proven, and how it is to be treated.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use enum_map::Enum;
use parking_lot::Mutex;
use serde::Serialize;
use strum::{EnumDiscriminants, IntoStaticStr, VariantNames};
use tokio::sync::oneshot::{self, error::TryRecvError};

use super::conduct::Conduct;
use super::coverage::Coverage;
use super::dial::Reach;
use super::manners::Manners;
use super::metrics::Metrics;
use super::tally::Tally;
use crate::clock::{Now, unix_ms};
use crate::config::RelayUrl;
use crate::event_log::{Mark, RelayTable};
use crate::ingest::{DropReason, Source};
use crate::limits::STATES_KEPT;

/// A relay that we want to be connected to.
#[derive(Debug)]
pub struct Peer {
    /// Its normalised URL.
    pub url: RelayUrl,
    /// What it sent.
    pub tally: Tally,
    /// How it behaves.
    pub conduct: Conduct,
    /// Whether it is one of the configuration, which may be anywhere.
    is_trusted: AtomicBool,
    states: Mutex<States>,
    coverage: Mutex<Coverages>,
    manners: Mutex<Manners>,
    repair: Mutex<Option<RepairProgress>>,
    /// Whether it is connected and sends nothing that others deliver.
    is_silent: AtomicBool,
    /// The last ping's round trip, in microseconds, one more than measured; 0 for none.
    rtt_us: AtomicU64,
}

/// How a relay's connection stands.
#[derive(EnumDiscriminants, Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "status", rename_all = "snake_case")]
#[strum_discriminants(
    name(StateName),
    derive(Enum, IntoStaticStr, VariantNames),
    strum(serialize_all = "snake_case"),
    doc = "The name of a state."
)]
pub enum ConnectionState {
    /// A handshake is under way, or waits for its turn.
    Connecting,
    /// It is live, and what is missing of the past is asked for.
    Backfilling {
        /// Unix milliseconds.
        since_ms: u64,
    },
    /// Everything has been asked for; now events come as they appear.
    Live {
        /// Unix milliseconds.
        since_ms: u64,
    },
    /// The relay is tried again later.
    BackingOff {
        /// Unix milliseconds.
        until_ms: u64,
        /// Why the last connection ended, or did not begin.
        reason: String,
    },
    /// The relay serves only whom it knows, and we may not say who we are. It is tried again now and then.
    NeedsAuthentication {
        /// Unix milliseconds.
        until_ms: u64,
        /// What it said.
        reason: String,
    },
    /// The relay does not serve us, or we do not want to be connected to it. It is tried again now and then.
    Refused {
        /// Unix milliseconds.
        until_ms: u64,
        /// What it said, or what is wrong.
        reason: String,
    },
    /// The relay sent too much that is forged or broken.
    Quarantined {
        /// Unix milliseconds.
        until_ms: u64,
        /// What it sent.
        reason: String,
    },
    /// The gateway is stopping, or the relay is not wanted any more.
    Stopped,
}

impl ConnectionState {
    /// The state's name, as in metrics.
    pub fn label(&self) -> &'static str {
        StateName::from(self).into()
    }

    /// Whether a WebSocket is open.
    pub const fn is_connected(&self) -> bool {
        matches!(self, Self::Backfilling { .. } | Self::Live { .. })
    }

    /// Why it is not connected.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::BackingOff { reason, .. }
            | Self::NeedsAuthentication { reason, .. }
            | Self::Refused { reason, .. }
            | Self::Quarantined { reason, .. } => Some(reason),
            Self::Connecting | Self::Backfilling { .. } | Self::Live { .. } | Self::Stopped => None,
        }
    }
}

#[derive(Debug)]
struct States {
    now: ConnectionState,
    /// The states before, oldest first.
    before: VecDeque<PastState>,
    /// When the present connection was opened.
    connected: Option<Instant>,
    /// How long earlier connections were open.
    connected_before: Duration,
}

/// A state that a relay was in.
#[derive(Debug, Clone, Serialize)]
pub struct PastState {
    /// When it began, in Unix milliseconds.
    pub at_ms: u64,
    /// The state's name.
    pub status: &'static str,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Box<str>>,
}

#[derive(Debug, Default)]
struct Coverages {
    /// What is proven by what has been read.
    read: Option<Coverage>,
    /// What is proven by what is in the log, as far as it has been taken up from `under_way`.
    committed: Option<Coverage>,
    /// What the log will prove once their marks are committed, oldest first.
    under_way: VecDeque<(oneshot::Receiver<()>, Coverage)>,
    /// The clock when it was set last: what rests on another one is not shown.
    set: Option<Now>,
}

impl Source for Peer {
    fn url(&self) -> Arc<str> {
        self.url.to_arc()
    }

    fn is_live(&self) -> bool {
        self.is_live()
    }

    fn was_first(&self) {
        self.tally.first.add(1);
    }

    fn sent_copy(&self, late: Option<Duration>) {
        self.tally.copies.add(1);
        if let Some(late) = late {
            self.tally.late(late);
        }
    }

    fn sent_refused(&self, reason: DropReason) {
        self.refuse(reason);
    }
}

impl Coverages {
    /// Takes up what has been committed since the last call. The marks of one relay are committed
    /// in their order, or given up.
    fn take_up(&mut self) {
        for (mut receipt, coverage) in std::mem::take(&mut self.under_way) {
            match receipt.try_recv() {
                Ok(()) => {
                    // Older marks may have been confirmed since they were looked at.
                    self.under_way.clear();
                    self.committed = Some(match self.set {
                        Some(now) => coverage.on_clock(now),
                        None => coverage,
                    });
                }
                Err(TryRecvError::Empty) => self.under_way.push_back((receipt, coverage)),
                Err(TryRecvError::Closed) => {}
            }
        }
    }
}

/// How far a repair is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RepairProgress {
    /// The span that is asked for now, in Unix seconds; no end for what is newest.
    pub since: u64,
    /// See `since`.
    pub until: Option<u64>,
    /// How it is asked for: `req` (NIP-01) or `negentropy` (NIP-77).
    pub by: &'static str,
    /// Requests so far.
    pub requests: u64,
    /// Events that came in answers so far, known ones included.
    pub events: u64,
}

impl Peer {
    /// A relay of the configuration, without a budget of offences.
    pub fn new(url: RelayUrl) -> Self {
        Self::with(url, true, None)
    }

    /// A relay that has not been dialled. One that is not trusted must have a public address.
    pub fn with(url: RelayUrl, is_trusted: bool, offences_an_hour_max: Option<u32>) -> Self {
        let states = States {
            now: ConnectionState::Connecting,
            before: VecDeque::new(),
            connected: None,
            connected_before: Duration::ZERO,
        };
        Self {
            url,
            tally: Tally::default(),
            conduct: Conduct::new(offences_an_hour_max),
            is_trusted: AtomicBool::new(is_trusted),
            states: Mutex::new(states),
            coverage: Mutex::default(),
            manners: Mutex::default(),
            repair: Mutex::default(),
            is_silent: AtomicBool::new(false),
            rtt_us: AtomicU64::new(0),
        }
    }

    /// Where it may be.
    pub fn reach(&self) -> Reach {
        if self.is_trusted.load(Ordering::Relaxed) { Reach::Anywhere } else { Reach::PublicOnly }
    }

    /// Says whether it may be anywhere, from the next dial on, and gives what it was.
    pub(super) fn set_trusted(&self, is_trusted: bool) -> bool {
        self.is_trusted.swap(is_trusted, Ordering::Relaxed)
    }

    /// How its connection stands.
    pub fn state(&self) -> ConnectionState {
        self.states.lock().now.clone()
    }

    /// Whether it is connected and asked for nothing of its past.
    pub fn is_live(&self) -> bool {
        matches!(self.states.lock().now, ConnectionState::Live { .. })
    }

    /// Notes how its connection stands.
    pub fn set_state(&self, state: ConnectionState) {
        let mut states = self.states.lock();
        let (was, is) = (states.now.is_connected(), state.is_connected());
        if is && !was {
            states.connected = Some(Instant::now());
        } else if was && !is {
            let open = states.connected.take().map_or(Duration::ZERO, |since| since.elapsed());
            states.connected_before += open;
        }
        let past =
            PastState { at_ms: unix_ms(), status: state.label(), reason: state.reason().map(Box::from) };
        if states.before.len() == STATES_KEPT {
            states.before.pop_front();
        }
        states.before.push_back(past);
        states.now = state;
    }

    /// Notes that its past is asked for, if that is news.
    pub(super) fn set_backfilling(&self) {
        if matches!(self.state(), ConnectionState::Live { .. }) {
            self.set_state(ConnectionState::Backfilling { since_ms: unix_ms() });
        }
    }

    /// Notes that everything has been asked for, if that is news.
    pub(super) fn set_live(&self) {
        if !matches!(self.state(), ConnectionState::Live { .. }) {
            self.set_state(ConnectionState::Live { since_ms: unix_ms() });
        }
    }

    /// The states that it was in lately, the present one last.
    pub fn history(&self) -> Vec<PastState> {
        self.states.lock().before.iter().cloned().collect()
    }

    /// How long it has been connected, all connections together.
    pub fn uptime(&self) -> Duration {
        let states = self.states.lock();
        states.connected_before + states.connected.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Counts something that it sent and that is refused.
    pub fn refuse(&self, reason: DropReason) {
        self.tally.refuse(reason);
        self.conduct.note(reason, self.tally.events.get(), Instant::now());
    }

    /// Whether it is connected and sends nothing that others deliver.
    pub fn is_silent(&self) -> bool {
        self.is_silent.load(Ordering::Relaxed)
    }

    /// Says whether it is silent, and gives what it was.
    pub(super) fn set_silent(&self, is_silent: bool) -> bool {
        self.is_silent.swap(is_silent, Ordering::Relaxed)
    }

    /// The round trip of the last ping that was answered.
    pub fn rtt(&self) -> Option<Duration> {
        self.rtt_us.load(Ordering::Relaxed).checked_sub(1).map(Duration::from_micros)
    }

    /// Notes a round trip.
    pub fn set_rtt(&self, rtt: Duration) {
        let micros = u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX);
        self.rtt_us.store(micros.saturating_add(1), Ordering::Relaxed);
    }

    /// What is proven and in the log; `None` before first contact.
    pub fn coverage(&self) -> Option<Coverage> {
        let mut coverages = self.coverage.lock();
        coverages.take_up();
        coverages.committed.clone()
    }

    /// Takes up what the log had when the process started.
    pub fn restore_coverage(&self, coverage: Coverage, now: Now) {
        let coverage = coverage.on_clock(now);
        let mut coverages = self.coverage.lock();
        (coverages.read, coverages.committed) = (Some(coverage.clone()), Some(coverage));
    }

    /// The clock was set: from now on nothing is shown as proven that rested on the clock before.
    /// What has been read is left to the conversation, which first ends what it asked by that
    /// clock.
    pub(super) fn clock_was_set(&self, now: Now) {
        let mut coverages = self.coverage.lock();
        coverages.take_up();
        coverages.set = Some(now);
        coverages.committed = coverages.committed.take().map(|coverage| coverage.on_clock(now));
    }

    /// What is proven by what has been read; the log may not have it yet.
    pub(super) fn read_coverage(&self) -> Option<Coverage> {
        self.coverage.lock().read.clone()
    }

    /// Changes what is proven by what has been read, and gives the mark that must follow the events into
    /// the log.
    pub(super) fn change_coverage(
        &self,
        change: impl FnOnce(Option<Coverage>) -> Option<Coverage>,
    ) -> Option<Mark> {
        let mut coverages = self.coverage.lock();
        coverages.read = change(coverages.read.take());
        let coverage = coverages.read.clone()?;
        let (mark, receipt) = Mark::new(RelayTable::Coverage, self.url.to_arc(), coverage.to_row());
        coverages.take_up();
        coverages.under_way.push_back((receipt, coverage));
        Some(mark)
    }

    /// Looks at, or changes, how it is to be treated.
    pub fn manners<T>(&self, look: impl FnOnce(&mut Manners) -> T) -> T {
        look(&mut self.manners.lock())
    }

    /// It says that we ask too much: from now on it is asked less often.
    pub(super) fn rate_limited(&self, metrics: &Metrics) {
        self.tally.rate_limited.add(1);
        metrics.rate_limited.inc();
        self.manners(|manners| manners.pace.slow_down(tokio::time::Instant::now()));
    }

    /// How far the repair of its past is; `None` if none is under way.
    pub fn repair(&self) -> Option<RepairProgress> {
        self.repair.lock().clone()
    }

    /// Notes how far the repair is.
    pub(super) fn set_repair(&self, progress: Option<RepairProgress>) {
        *self.repair.lock() = progress;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn what_is_committed_after_a_step_of_the_clock_is_not_shown_by_the_clock_before() {
        let (clock, hands) = Clock::manual();
        let peer = Arc::new(Peer::with("wss://relay.example".parse().expect("a URL"), false, None));
        let before = clock.now();
        let mark = peer.change_coverage(|_| Some(Coverage::resumed(None, [], before.secs(), before, 0)));
        hands.step_secs(-7_200);
        peer.clock_was_set(clock.now());
        mark.expect("a mark").confirm();
        let shown = peer.coverage().expect("contact");
        assert!(shown.is_empty(), "{shown:?}");
    }

    /// The writer confirms marks while they are being looked at, so the newer of two may be found
    /// confirmed before the older one is.
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
