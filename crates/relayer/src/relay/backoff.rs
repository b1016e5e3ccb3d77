//! Exponential back-off with full jitter, as in Marc Brooker's "Exponential Backoff and Jitter" (2015):
//! thousands of relays that were lost together are not dialled again together.

use std::time::Duration;

use crate::limits::{BACKOFF_MAX, BACKOFF_MIN, FAILURES_TO_DEATH, PROBE_MAX};

/// How often in a row it went wrong.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The connection did useful work: the next failure is the first.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }

    /// The failure will not pass by itself: it counts as several, so that the relay is soon tried seldom.
    pub const fn despair(&mut self) {
        self.failures = self.failures.saturating_add(FAILURES_TO_DEATH / 5);
    }

    /// Notes a failure and gives how long to wait: a random time below a bound that doubles from
    /// [`BACKOFF_MIN`] to [`BACKOFF_MAX`], and is [`PROBE_MAX`] for a relay that stays dead.
    pub fn next_delay(&mut self) -> Duration {
        let bound = self.bound();
        self.failures = self.failures.saturating_add(1);
        bound.mul_f64(rand::random::<f64>())
    }

    fn bound(&self) -> Duration {
        if self.failures >= FAILURES_TO_DEATH {
            return PROBE_MAX;
        }
        BACKOFF_MIN.saturating_mul(2_u32.saturating_pow(self.failures)).min(BACKOFF_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_bound_and_starts_again() {
        let mut backoff = Backoff::default();
        for expected in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            assert_eq!(backoff.bound(), Duration::from_secs(expected));
            assert!(backoff.next_delay() <= Duration::from_secs(expected));
        }
        while backoff.failures < FAILURES_TO_DEATH {
            assert_eq!(backoff.bound(), BACKOFF_MAX);
            backoff.next_delay();
        }
        assert_eq!(backoff.bound(), PROBE_MAX);
        backoff.reset();
        assert_eq!(backoff.bound(), BACKOFF_MIN);
    }
}
