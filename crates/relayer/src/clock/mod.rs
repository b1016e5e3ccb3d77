//! The wall clock, and how far the clock can be trusted. No other module of this crate reads the
//! wall clock.
//!
//! The wall clock may be wrong, and may be set while we run or between two runs. Durations use
//! [`Instant`](std::time::Instant) instead. Decisions that need the wall clock are guarded by three
//! checks:
//!
//! - A *step* is a change of the wall clock relative to the time since boot. Stored times carry
//!   their [`Base`], so a later reader, even in another process, notices a step in between.
//! - At startup, the clock is compared with the newest event of the log.
//! - Authors date live events. If the dates of most relays' live events match our time, the clock
//!   [agrees](Clock::agrees).
//!
//! A clock that was stepped or does not fit the log is in *doubt*. Nothing is then deleted by age
//! until an hour has passed and live events agree, or until the operator confirms the clock.

mod base;
mod votes;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tokio::sync::watch;

pub use base::Base;
use base::{Reading, boot};
use votes::Votes;

use crate::limits::{CLOCK_AGREES_WITHIN, CLOCK_CHECK_INTERVAL, CLOCK_DOUBT_MIN, CLOCK_START_GAP_MAX};

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
pub fn system_time() -> SystemTime {
    SystemTime::now()
}

/// The system time in Unix milliseconds.
pub fn unix_ms() -> u64 {
    let since_epoch = system_time().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

/// The system time in Unix seconds, the unit of `created_at`.
pub fn unix_secs() -> u64 {
    unix_ms() / 1_000
}

/// A wall-clock time with its base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Unix milliseconds.
    pub ms: u64,
    pub base: Base,
    /// The number of steps since the process started. The base alone does not show a step that
    /// another step has undone.
    pub steps: u64,
}

impl Now {
    /// Unix seconds.
    pub const fn secs(self) -> u64 {
        self.ms / 1_000
    }
}

/// A step of the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// When the step was noticed, in Unix milliseconds of the clock after the step.
    pub at_ms: u64,
    /// By how many milliseconds the clock was set forward; negative if the clock was set back.
    pub by_ms: i64,
}

/// The state of the clock, for `/status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockStatus {
    /// Steps since the start.
    pub steps: u64,
    pub last_step: Option<Step>,
    /// Whether live events of the last 20 minutes match our time; `None` if there were none.
    pub agrees: Option<bool>,
    /// Whether events, ids and cursors may be deleted by age.
    pub deletes_by_age: bool,
}

/// The clock. Clones share their state.
#[derive(Clone)]
pub struct Clock(Arc<Inner>);

struct Inner {
    read: Box<dyn Fn() -> Reading + Send + Sync>,
    boot: u64,
    began: Reading,
    state: Mutex<State>,
    /// The newest `received_at` of the log, in Unix milliseconds.
    newest_received_ms: AtomicU64,
    relays_wanted: AtomicUsize,
    stepped: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    base: Base,
    steps: u64,
    last_step: Option<Step>,
    /// When the doubt began, as time since boot.
    doubt: Option<Duration>,
    votes: Votes,
}

/// Controls a clock of [`Clock::manual`].
#[derive(Debug, Clone, Default)]
pub struct ManualClock {
    wall_ms: Arc<AtomicI64>,
    passed_ms: Arc<AtomicU64>,
    reboots: Arc<AtomicU64>,
}

impl ManualClock {
    /// Sets the wall clock forward or back.
    pub fn step_secs(&self, seconds: i64) {
        self.wall_ms.fetch_add(seconds.saturating_mul(1_000), Ordering::SeqCst);
    }

    /// The clock of a process that starts now.
    pub fn clock(&self) -> Clock {
        let read = self.clone();
        Clock::reading(boot().wrapping_add(self.reboots.load(Ordering::SeqCst)), move || {
            let Reading { wall_ms, since_boot } = Reading::system();
            let passed_ms = read.passed_ms.load(Ordering::SeqCst);
            Reading {
                wall_ms: (wall_ms + passed_ms).saturating_add_signed(read.wall_ms.load(Ordering::SeqCst)),
                since_boot: since_boot + Duration::from_millis(passed_ms),
            }
        })
    }

    /// Simulates a reboot: clocks that are made after this call have another boot id.
    pub fn reboot(&self) {
        self.reboots.fetch_add(1, Ordering::SeqCst);
    }

    /// Advances the wall clock and the time since boot together.
    pub fn pass(&self, time: Duration) {
        let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.passed_ms.fetch_add(milliseconds, Ordering::SeqCst);
    }
}

impl Clock {
    pub fn system() -> Self {
        Self::reading(boot(), Reading::system)
    }

    /// The system clock with offsets that a test controls.
    pub fn manual() -> (Self, ManualClock) {
        let manual_clock = ManualClock::default();
        (manual_clock.clock(), manual_clock)
    }

    fn reading(boot: u64, read: impl Fn() -> Reading + Send + Sync + 'static) -> Self {
        let began = read();
        let state =
            State { base: began.base(boot), steps: 0, last_step: None, doubt: None, votes: Votes::default() };
        Self(Arc::new(Inner {
            read: Box::new(read),
            boot,
            began,
            state: Mutex::new(state),
            newest_received_ms: AtomicU64::new(0),
            relays_wanted: AtomicUsize::new(0),
            stepped: watch::Sender::new(0),
        }))
    }

    /// Compares the clock with the newest event when a log is opened. `has_history` says whether
    /// the log ever had an event.
    pub(crate) fn compare_with_log(&self, newest_received_ms: Option<u64>, has_history: bool) {
        let now_ms = self.now().ms;
        let newest_ms = newest_received_ms.unwrap_or(0);
        self.note_received(newest_ms);
        let gap_max = u64::try_from(CLOCK_START_GAP_MAX.as_millis()).unwrap_or(u64::MAX);
        let fits = match newest_received_ms {
            Some(newest) => newest <= now_ms && now_ms - newest <= gap_max,
            None => !has_history,
        };
        if fits {
            return;
        }
        let mut state = self.0.state.lock();
        state.doubt = Some((self.0.read)().since_boot);
        drop(state);
        tracing::warn!(
            name: "clock_in_doubt",
            clock = now_ms,
            newest_received_at = newest_ms,
            "the clock does not continue the log: nothing is deleted by age until an hour has passed \
             and live events match the clock; if the clock is right, end the wait with POST /api/clock/confirm"
        );
    }

    /// The time in Unix milliseconds, without a check for steps.
    pub fn unix_ms(&self) -> u64 {
        (self.0.read)().wall_ms
    }

    /// The time in Unix seconds, without a check for steps.
    pub fn unix_secs(&self) -> u64 {
        self.unix_ms() / 1_000
    }

    /// The time with its base. Detects steps.
    pub fn now(&self) -> Now {
        let reading = (self.0.read)();
        let base = reading.base(self.0.boot);
        let mut state = self.0.state.lock();
        if base.is_same(state.base) {
            return Now { ms: reading.wall_ms, base, steps: state.steps };
        }
        let by_ms = base.ahead_of(state.base);
        state.base = base;
        state.steps += 1;
        let steps = state.steps;
        state.last_step = Some(Step { at_ms: reading.wall_ms, by_ms });
        state.doubt = Some(reading.since_boot);
        state.votes = Votes::default();
        drop(state);
        self.0.stepped.send_modify(|told| *told = steps.max(*told));
        tracing::warn!(
            name: "clock_set",
            by_ms,
            now = reading.wall_ms,
            "the clock was set while the gateway runs: past events are requested from relays again, and \
             nothing is deleted by age until an hour has passed and live events match the clock; if the \
             clock is right, end the wait with POST /api/clock/confirm"
        );
        Now { ms: reading.wall_ms, base, steps }
    }

    /// Checks for steps every [`CLOCK_CHECK_INTERVAL`]. Never returns.
    pub async fn watch(self) {
        let mut looks = tokio::time::interval(CLOCK_CHECK_INTERVAL);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            self.now();
        }
    }

    /// Reports each step. The value is the number of steps since the start.
    pub fn steps(&self) -> watch::Receiver<u64> {
        self.0.stepped.subscribe()
    }

    /// The time since this clock was made. Steps do not affect it.
    pub fn uptime(&self) -> Duration {
        (self.0.read)().since_boot.saturating_sub(self.0.began.since_boot)
    }

    /// The time in Unix milliseconds, but never before the newest event of the log. Last-used times
    /// use this, so that a clock that is behind does not make them look too old.
    pub fn at_least_the_log_ms(&self) -> u64 {
        self.unix_ms().max(self.0.newest_received_ms.load(Ordering::Relaxed))
    }

    /// Records when an event of the log was received.
    pub(crate) fn note_received(&self, received_at_ms: u64) {
        self.0.newest_received_ms.fetch_max(received_at_ms, Ordering::Relaxed);
    }

    pub fn set_relays(&self, wanted: usize) {
        self.0.relays_wanted.store(wanted, Ordering::Relaxed);
    }

    /// Counts a genuine live event of a relay: `created_at` is in Unix seconds, `received_at_ms` in
    /// milliseconds.
    pub fn note_live_event(&self, relay: &Arc<str>, created_at: u64, received_at_ms: u64) {
        let apart = created_at.saturating_mul(1_000).abs_diff(received_at_ms);
        let agrees = u128::from(apart) <= CLOCK_AGREES_WITHIN.as_millis();
        let since_boot = (self.0.read)().since_boot;
        self.0.state.lock().votes.add(relay, agrees, since_boot);
    }

    /// Whether most relays' live events of the last 20 minutes match our time; `None` if there were
    /// none.
    pub fn agrees(&self) -> Option<bool> {
        let since_boot = (self.0.read)().since_boot;
        self.0.state.lock().votes.verdict(since_boot).majority()
    }

    /// False while the clock is in doubt.
    pub fn deletes_by_age(&self) -> bool {
        let since_boot = (self.0.read)().since_boot;
        let several = self.0.relays_wanted.load(Ordering::Relaxed).clamp(1, 2);
        let mut state = self.0.state.lock();
        let Some(since) = state.doubt else { return true };
        let verdict = state.votes.verdict(since_boot);
        let is_over = since_boot.saturating_sub(since) >= CLOCK_DOUBT_MIN
            && verdict.agreeing >= several
            && verdict.majority() == Some(true);
        if is_over {
            state.doubt = None;
            tracing::info!(name: "clock_trusted", "live events match the clock: deletion by age resumes");
        }
        is_over
    }

    /// Ends the doubt because the operator confirms the clock. Returns whether the clock was in
    /// doubt.
    pub fn confirm(&self) -> bool {
        let doubted = self.0.state.lock().doubt.take().is_some();
        if doubted {
            tracing::info!(
                name: "clock_trusted",
                "the operator confirmed the clock: deletion by age resumes"
            );
        }
        doubted
    }

    pub fn status(&self) -> ClockStatus {
        let (deletes_by_age, agrees) = (self.deletes_by_age(), self.agrees());
        let last_step = self.0.state.lock().last_step;
        ClockStatus { steps: *self.0.stepped.borrow(), last_step, agrees, deletes_by_age }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock").field("now_ms", &self.unix_ms()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn agree(clock: &Clock, relays: &[&str]) {
        for relay in relays {
            let now = clock.unix_ms();
            clock.note_live_event(&Arc::from(*relay), now / 1_000, now);
        }
    }

    #[test]
    fn a_step_is_noticed_either_way_and_the_passing_of_time_is_none() {
        let (clock, manual_clock) = Clock::manual();
        for seconds in [10, -10, 7_200, -86_400, 32 * 86_400] {
            let (before, steps) = (clock.now(), clock.status().steps);
            manual_clock.pass(HOUR);
            assert!(clock.now().base.is_same(before.base));
            manual_clock.step_secs(seconds);
            let after = clock.now();
            assert!(!after.base.is_same(before.base));
            let status = clock.status();
            assert_eq!(status.steps, steps + 1);
            let by_ms = status.last_step.expect("a step").by_ms;
            assert!(by_ms.abs_diff(seconds * 1_000) < 1_000, "{by_ms} ms for {seconds} s");
            assert!(clock.now().base.is_same(after.base));
            assert_eq!(clock.status().steps, steps + 1, "it is counted once");
        }
    }

    #[test]
    fn a_clock_that_was_stepped_deletes_nothing_for_an_hour_and_until_live_events_agree() {
        for seconds in [10, -10, 25 * 3_600, -25 * 3_600] {
            let (clock, manual_clock) = Clock::manual();
            clock.set_relays(5);
            clock.compare_with_log(Some(clock.unix_ms() - 1_000), true);
            assert!(clock.deletes_by_age());
            agree(&clock, &["a", "b", "c"]);
            manual_clock.step_secs(seconds);
            clock.now();
            assert!(!clock.deletes_by_age());
            manual_clock.pass(HOUR);
            assert!(!clock.deletes_by_age(), "votes from before the step do not count");
            agree(&clock, &["a"]);
            assert!(!clock.deletes_by_age(), "one relay of five is not enough");
            agree(&clock, &["b"]);
            assert!(clock.deletes_by_age());
        }
    }

    #[test]
    fn a_clock_that_was_stepped_deletes_nothing_before_the_hour_is_over_though_live_events_agree() {
        let (clock, manual_clock) = Clock::manual();
        clock.set_relays(2);
        manual_clock.step_secs(7_200);
        clock.now();
        manual_clock.pass(HOUR - Duration::from_secs(60));
        agree(&clock, &["a", "b"]);
        assert_eq!(clock.agrees(), Some(true));
        assert!(!clock.deletes_by_age());
        manual_clock.pass(Duration::from_secs(60));
        assert!(clock.deletes_by_age());
    }

    #[test]
    fn a_step_ends_what_live_events_have_said_of_the_clock() {
        let (clock, manual_clock) = Clock::manual();
        agree(&clock, &["a", "b"]);
        assert_eq!(clock.agrees(), Some(true));
        manual_clock.step_secs(-7_200);
        clock.now();
        assert_eq!(clock.agrees(), None);
    }

    #[test]
    fn a_start_that_does_not_continue_the_log_is_in_doubt() {
        let hour = 3_600_000;
        for (newest, has_history, fits) in [
            (Some(0), true, true),
            (Some(hour - 5_000), true, true),
            (Some(hour + 5_000), true, false),
            (Some(-5_000), true, false),
            (None, false, true),
            (None, true, false),
        ] {
            let (clock, _) = Clock::manual();
            let newest = newest.map(|ago: i64| clock.unix_ms().saturating_add_signed(-ago));
            clock.compare_with_log(newest, has_history);
            assert_eq!(clock.deletes_by_age(), fits, "{newest:?} {has_history}");
            clock.confirm();
            assert!(clock.deletes_by_age());
        }
    }

    #[test]
    fn events_of_another_time_do_not_agree_however_many_a_minority_sends() {
        let (clock, manual_clock) = Clock::manual();
        clock.set_relays(5);
        manual_clock.step_secs(7_200);
        clock.now();
        manual_clock.pass(HOUR);
        let true_secs = clock.unix_secs() - 7_200;
        for relay in ["a", "b", "c"] {
            clock.note_live_event(&Arc::from(relay), true_secs, clock.unix_ms());
        }
        for _ in 0..1_000 {
            agree(&clock, &["d", "e"]);
        }
        assert_eq!(clock.agrees(), Some(false));
        assert!(!clock.deletes_by_age());
    }

    #[test]
    fn a_note_of_use_is_never_before_the_log() {
        let (clock, manual_clock) = Clock::manual();
        let right = clock.unix_ms();
        clock.compare_with_log(Some(right), true);
        manual_clock.step_secs(-86_400 * 365);
        assert!(clock.at_least_the_log_ms() >= right);
        manual_clock.step_secs(86_400 * 366);
        assert!(clock.at_least_the_log_ms() > right);
    }
}
