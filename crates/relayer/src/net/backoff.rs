//! Exponential back-off with full jitter, as in Marc Brooker's "Exponential Backoff and Jitter" (2015):
//! what was lost together is not dialled again together. Relays and sinks are tried by it.

use std::time::{Duration, SystemTime};

use crate::limits::{
    BACKOFF_MAX, BACKOFF_MIN, FAILURES_TO_DEATH, PROBE_MAX, SINK_BACKOFF_MAX, SINK_BACKOFF_MIN,
};

/// Reads the value of a `Retry-After` header: seconds or a date (RFC 9110, section 10.2.3). What is
/// neither, or past, says nothing.
pub fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    match value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are a very long time.
        true if !value.is_empty() => Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX))),
        _ => httpdate::parse_http_date(value).ok()?.duration_since(now).ok(),
    }
}

/// How often in a row it went wrong.
#[derive(Debug)]
pub struct Backoff {
    failures: u32,
    least: Duration,
    most: Duration,
    /// The bound after [`FAILURES_TO_DEATH`].
    dead: Duration,
}

impl Backoff {
    /// Of a relay: one of thousands, and many are gone for good.
    pub const fn of_relay() -> Self {
        Self { failures: 0, least: BACKOFF_MIN, most: BACKOFF_MAX, dead: PROBE_MAX }
    }

    /// Of a sink: one of few, each of which somebody waits for. It is never given up.
    pub const fn of_sink() -> Self {
        Self { failures: 0, least: SINK_BACKOFF_MIN, most: SINK_BACKOFF_MAX, dead: SINK_BACKOFF_MAX }
    }

    /// The connection did useful work: the next failure is the first.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }

    /// The failure will not pass by itself: it counts as several, so that the relay is soon tried seldom.
    pub const fn despair(&mut self) {
        self.failures = self.failures.saturating_add(FAILURES_TO_DEATH / 5);
    }

    /// Notes a failure and gives how long to wait: a random time below a bound that doubles up to a most,
    /// and is longer still for a relay that stays dead.
    pub fn next_delay(&mut self) -> Duration {
        let bound = self.bound();
        self.failures = self.failures.saturating_add(1);
        bound.mul_f64(rand::random::<f64>())
    }

    fn bound(&self) -> Duration {
        if self.failures >= FAILURES_TO_DEATH {
            return self.dead;
        }
        self.least.saturating_mul(2_u32.saturating_pow(self.failures)).min(self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_bound_and_starts_again() {
        let mut backoff = Backoff::of_relay();
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

    #[test]
    fn a_sink_is_never_given_up() {
        let mut backoff = Backoff::of_sink();
        assert_eq!(backoff.bound(), SINK_BACKOFF_MIN);
        for _ in 0..2 * FAILURES_TO_DEATH {
            backoff.next_delay();
        }
        assert_eq!(backoff.bound(), SINK_BACKOFF_MAX);
    }
}
