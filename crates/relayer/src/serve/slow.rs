//! Decides when a client is too slow or no longer reachable. No I/O, no clock.
//!
//! A client far behind the head may be reading a week of backlog. A client whose socket accepts
//! nothing may be at the head, or may be pausing. A client is too slow only if, for a window of
//! time, it is far behind and its socket accepts nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::config::Output;

/// Ping intervals that may pass without a sign of life.
const SILENT_INTERVALS_MAX: u32 = 2;

/// The number of checks of a blocked client per window.
const CHECKS_A_WINDOW: u32 = 8;

/// The longest time between two checks of a blocked client.
const CHECK_EVERY_MAX: Duration = Duration::from_secs(1);

/// What the gateway tolerates before it closes a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Patience {
    /// The lag, in events, that is tolerated without a time limit.
    pub(crate) lag_max: u64,
    /// How long the socket may accept nothing if the client is further behind than `lag_max`.
    pub window: Duration,
    /// The time between two pings; `None` for no pings.
    pub ping_interval: Option<Duration>,
}

impl From<&Output> for Patience {
    fn from(output: &Output) -> Self {
        Self {
            lag_max: output.slow_client_lag,
            window: output.slow_client,
            ping_interval: output.ping_interval,
        }
    }
}

impl Patience {
    pub(super) fn check_every(&self) -> Duration {
        (self.window / CHECKS_A_WINDOW).min(CHECK_EVERY_MAX)
    }
}

/// Counts the bytes that a socket has accepted. Bytes are counted as they are written to the
/// socket, so a large message counts as progress before it is complete. Clones share the count.
#[derive(Debug, Clone, Default)]
pub struct Taken(Arc<AtomicU64>);

impl Taken {
    /// Adds bytes that the socket accepted.
    pub fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// The number of bytes so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The state of a client while a write to it is blocked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Progress {
    /// How long the write has been blocked.
    pub(super) waited: Duration,
    /// Bytes that the socket has accepted since it was opened.
    pub(super) taken: u64,
    /// The number of events that the client is behind the head.
    pub(super) lag: u64,
}

/// Watches a client during one blocked write.
#[derive(Debug)]
pub(super) struct Watch {
    taken: u64,
    /// The value of `waited` when the client was last close to the head or its socket last accepted
    /// bytes.
    stuck_since: Duration,
}

impl Watch {
    pub(super) const fn new(taken: u64) -> Self {
        Self { taken, stuck_since: Duration::ZERO }
    }

    pub(super) fn is_too_slow(&mut self, patience: &Patience, progress: Progress) -> bool {
        if progress.taken != self.taken || progress.lag <= patience.lag_max {
            self.taken = progress.taken;
            self.stuck_since = progress.waited;
        }
        progress.waited.saturating_sub(self.stuck_since) >= patience.window
    }
}

/// What to do after a ping interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beat {
    Ping,
    /// The client has shown no sign of life for too long.
    Gone,
}

/// Tracks signs of life of a client.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    /// Pings since the client's last sign of life.
    unanswered: u32,
}

impl Pulse {
    /// Records that the client sent something, or accepted bytes of a blocked write.
    pub(super) fn heard(&mut self) {
        self.unanswered = 0;
    }

    /// Records that a ping interval has passed.
    pub(super) fn beat(&mut self) -> Beat {
        if self.unanswered >= SILENT_INTERVALS_MAX {
            return Beat::Gone;
        }
        self.unanswered += 1;
        Beat::Ping
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience =
        Patience { lag_max: 100, window: Duration::from_secs(30), ping_interval: None };

    /// Checks a client every second, and returns the second at which the client is closed.
    fn closed_after(secs: u64, taken: fn(u64) -> u64, lag: fn(u64) -> u64) -> Option<u64> {
        let mut watch = Watch::new(taken(0));
        (1..=secs).find(|&at| {
            let progress = Progress { waited: Duration::from_secs(at), taken: taken(at), lag: lag(at) };
            watch.is_too_slow(&PATIENCE, progress)
        })
    }

    #[test]
    fn a_client_far_behind_that_accepts_nothing_has_one_window() {
        assert_eq!(closed_after(100, |_| 5, |_| 101), Some(30));
    }

    #[test]
    fn a_client_near_the_head_may_accept_nothing_forever() {
        assert_eq!(closed_after(1_000_000, |_| 5, |_| 100), None);
    }

    #[test]
    fn any_progress_restarts_the_window() {
        assert_eq!(closed_after(10_000, |at| at / 29, |_| 1_000_000), None, "a byte in 29 s");
        assert_eq!(closed_after(10_000, |at| at / 31, |_| 1_000_000), Some(30));
        assert_eq!(closed_after(10_000, |at| at.min(40), |_| 1_000_000), Some(70), "until it stalls");
    }

    #[test]
    fn the_window_begins_when_the_client_has_fallen_behind() {
        assert_eq!(closed_after(1_000, |_| 5, |at| at), Some(130));
        assert_eq!(closed_after(1_000, |_| 5, |at| if at == 20 { 0 } else { 500 }), Some(50));
    }

    #[test]
    fn a_client_is_checked_often_enough_to_be_closed_in_time() {
        for (window, expected) in [(1_000, 125), (30_000, 1_000), (86_400_000, 1_000)] {
            let patience = Patience { window: Duration::from_millis(window), ..PATIENCE };
            assert_eq!(patience.check_every(), Duration::from_millis(expected));
        }
    }

    #[test]
    fn two_intervals_without_a_sign_of_life_close_the_client() {
        let mut pulse = Pulse::default();
        assert_eq!([pulse.beat(), pulse.beat(), pulse.beat()], [Beat::Ping, Beat::Ping, Beat::Gone]);
        for _ in 0..100 {
            pulse.heard();
            assert_eq!([pulse.beat(), pulse.beat()], [Beat::Ping, Beat::Ping]);
        }
        assert_eq!(pulse.beat(), Beat::Gone);
    }
}
