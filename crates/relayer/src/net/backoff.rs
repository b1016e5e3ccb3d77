//! Exponential back-off with full jitter for relays and sinks, as in Marc Brooker's "Exponential
//! Backoff and Jitter" (2015): peers that were lost together are not dialled again together.

use std::time::{Duration, SystemTime};

use crate::limits::{
    BACKOFF_MAX, BACKOFF_MIN, FAILURES_TO_DEATH, PROBE_MAX, SINK_BACKOFF_MAX, SINK_BACKOFF_MIN,
};

/// Reads the value of a `Retry-After` header: seconds or a date (RFC 9110, section 10.2.3). `None`
/// if the value is neither, or a date in the past.
pub(crate) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    match value.bytes().all(|byte| byte.is_ascii_digit()) {
        // Too many digits mean a very long time.
        true if !value.is_empty() => Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX))),
        _ => httpdate::parse_http_date(value).ok()?.duration_since(now).ok(),
    }
}

/// Counts failures in a row.
#[derive(Debug)]
pub(crate) struct Backoff {
    failures: u32,
    least: Duration,
    most: Duration,
    /// The bound of the delay after [`FAILURES_TO_DEATH`] failures.
    dead: Duration,
}

impl Backoff {
    /// The back-off for a relay: one of thousands, many of which never come back.
    pub(crate) const fn of_relay() -> Self {
        Self { failures: 0, least: BACKOFF_MIN, most: BACKOFF_MAX, dead: PROBE_MAX }
    }

    /// The back-off for a sink. Sinks are few and expected to come back, so the delay stays short.
    pub(crate) const fn of_sink() -> Self {
        Self { failures: 0, least: SINK_BACKOFF_MIN, most: SINK_BACKOFF_MAX, dead: SINK_BACKOFF_MAX }
    }

    /// Forgets earlier failures, after a connection did useful work.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }

    /// Counts a permanent failure as several failures, so that the delay grows fast.
    pub(crate) const fn note_permanent_failure(&mut self) {
        self.failures = self.failures.saturating_add(FAILURES_TO_DEATH / 5);
    }

    /// Counts a failure and returns the delay: a random time below a bound. The bound doubles up to
    /// a maximum, and is higher still after [`FAILURES_TO_DEATH`] failures.
    pub(crate) fn next_delay(&mut self) -> Duration {
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
    fn the_delay_of_a_sink_stays_short() {
        let mut backoff = Backoff::of_sink();
        assert_eq!(backoff.bound(), SINK_BACKOFF_MIN);
        for _ in 0..2 * FAILURES_TO_DEATH {
            backoff.next_delay();
        }
        assert_eq!(backoff.bound(), SINK_BACKOFF_MAX);
    }
}
