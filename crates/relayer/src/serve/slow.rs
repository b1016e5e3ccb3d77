//! When a client is given up: because it is too slow, or because it is no longer there.
//!
//! Nothing here knows a clock or a socket. How far behind a client is says little: it may be reading a
//! backlog of a week. That its socket takes nothing says little, too: it may be at the head, or pause. Only
//! both together, over a window, mean that it does not keep up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::config::Output;

/// Intervals between two pings that may pass without a sign of life.
const SILENT_INTERVALS_MAX: u32 = 2;

/// How often within its window a client that is waited for is looked at, at least.
const LOOKS_A_WINDOW: u32 = 8;

/// The longest between two looks at a client that is waited for.
const LOOK_EVERY_MAX: Duration = Duration::from_secs(1);

/// What a client may do before it is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Events that a client may be behind the head, for as long as it likes.
    pub lag_max: u64,
    /// How long the socket of one that is further behind may take nothing.
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
    /// How often to look at a client that is waited for.
    pub fn look_every(&self) -> Duration {
        (self.window / LOOKS_A_WINDOW).min(LOOK_EVERY_MAX)
    }
}

/// Bytes that a socket has taken, counted where they are written: a message of many megabytes that goes out
/// little by little is progress before it is through. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Taken(Arc<AtomicU64>);

impl Taken {
    /// The socket took so many.
    pub fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// How many until now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What is seen of a client while something waits to be written to it.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// How long it waits.
    pub waited: Duration,
    /// Bytes that the socket has taken in its life.
    pub taken: u64,
    /// Events that the client is behind the head.
    pub lag: u64,
}

/// Watches a client from when something has to wait for its socket until it need not wait any more.
#[derive(Debug)]
pub struct Watch {
    taken: u64,
    /// Since when the client has been far behind and its socket has taken nothing.
    stuck_since: Duration,
}

impl Watch {
    /// Begins when the socket has taken so many bytes.
    pub const fn new(taken: u64) -> Self {
        Self { taken, stuck_since: Duration::ZERO }
    }

    /// Whether the client has been too slow for too long.
    pub fn is_too_slow(&mut self, patience: &Patience, look: Look) -> bool {
        if look.taken != self.taken || look.lag <= patience.lag_max {
            self.taken = look.taken;
            self.stuck_since = look.waited;
        }
        look.waited.saturating_sub(self.stuck_since) >= patience.window
    }
}

/// What is due when the time between two pings is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    /// A ping.
    Ping,
    /// Nothing: the client has not given a sign of life for too long.
    Gone,
}

/// Whether a client is still there.
#[derive(Debug, Default)]
pub struct Pulse {
    /// Pings since the last sign of life.
    unanswered: u32,
}

impl Pulse {
    /// The client said something, or took what had to wait for it: both need somebody on the other side.
    pub fn heard(&mut self) {
        self.unanswered = 0;
    }

    /// The time between two pings is over.
    pub fn beat(&mut self) -> Beat {
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

    /// When a client is closed that is looked at every second for so long.
    fn closed_after(secs: u64, taken: fn(u64) -> u64, lag: fn(u64) -> u64) -> Option<u64> {
        let mut watch = Watch::new(taken(0));
        (1..=secs).find(|&at| {
            let look = Look { waited: Duration::from_secs(at), taken: taken(at), lag: lag(at) };
            watch.is_too_slow(&PATIENCE, look)
        })
    }

    #[test]
    fn who_is_far_behind_and_takes_nothing_has_one_window() {
        assert_eq!(closed_after(100, |_| 5, |_| 101), Some(30));
    }

    #[test]
    fn who_is_not_far_behind_may_take_nothing_for_ever() {
        assert_eq!(closed_after(1_000_000, |_| 5, |_| 100), None);
    }

    #[test]
    fn any_progress_begins_the_window_anew() {
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
    fn a_client_is_looked_at_often_enough_to_be_closed_in_time() {
        for (window, expected) in [(1_000, 125), (30_000, 1_000), (86_400_000, 1_000)] {
            let patience = Patience { window: Duration::from_millis(window), ..PATIENCE };
            assert_eq!(patience.look_every(), Duration::from_millis(expected));
        }
    }

    #[test]
    fn two_intervals_without_a_sign_of_life_are_the_end() {
        let mut pulse = Pulse::default();
        assert_eq!([pulse.beat(), pulse.beat(), pulse.beat()], [Beat::Ping, Beat::Ping, Beat::Gone]);
        for _ in 0..100 {
            pulse.heard();
            assert_eq!([pulse.beat(), pulse.beat()], [Beat::Ping, Beat::Ping]);
        }
        assert_eq!(pulse.beat(), Beat::Gone);
    }
}
