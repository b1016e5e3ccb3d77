//! Limits the rate at which frames are read: a token bucket that fills in one second.
//!
//! Frames of every type (events, fragments, pings, pongs) count, because each has a cost. The
//! frames of a read are counted after the read, so the bucket can go into debt. The crate
//! `governor` allows no debt: it rejects more cells than one burst.

use tokio::time::{Duration, Instant};

/// The token bucket of one connection.
#[derive(Debug)]
pub(super) struct Throttle {
    a_second: Option<u32>,
    /// The tokens left; below 0, reading waits.
    left: f64,
    at: Option<Instant>,
}

impl Throttle {
    /// Allows `a_second` frames per second, and bursts of the same size.
    pub fn new(a_second: Option<u32>) -> Self {
        Self { a_second, left: f64::from(a_second.unwrap_or(0)), at: None }
    }

    /// Sets another rate.
    pub fn set(&mut self, a_second: Option<u32>) {
        if a_second != self.a_second {
            *self = Self::new(a_second);
        }
    }

    /// Takes tokens for frames that were read.
    pub fn count(&mut self, frames: u64) {
        self.left -= frames as f64;
    }

    /// The time until which reading must wait; `None` if it need not wait.
    pub fn wait(&mut self, now: Instant) -> Option<Instant> {
        let a_second = f64::from(self.a_second?);
        let passed = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.at = Some(now);
        self.left = (self.left + passed.as_secs_f64() * a_second).min(a_second);
        (self.left < 0.0).then(|| now + Duration::from_secs_f64(-self.left / a_second))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_waits_until_the_debt_is_paid() {
        let mut throttle = Throttle::new(Some(100));
        let start = Instant::now();
        throttle.count(100);
        assert_eq!(throttle.wait(start), None, "a burst of one second");
        throttle.count(50);
        let until = throttle.wait(start).expect("it waits");
        assert_eq!(until, start + Duration::from_millis(500));
        assert_eq!(throttle.wait(until), None);
        assert_eq!(throttle.wait(start + Duration::from_secs(60)), None);
        throttle.count(101);
        assert!(throttle.wait(start + Duration::from_secs(60)).is_some(), "quiet minutes are not saved up");
    }

    #[test]
    fn another_rate_applies_at_once() {
        let (mut throttle, start) = (Throttle::new(None), Instant::now());
        throttle.count(1 << 40);
        throttle.set(Some(10));
        assert_eq!(throttle.wait(start), None, "what came before does not count");
        throttle.count(15);
        assert!(throttle.wait(start).is_some());
        throttle.set(Some(10));
        assert!(throttle.wait(start).is_some(), "the same rate changes nothing");
        throttle.set(None);
        assert_eq!(throttle.wait(start), None);
    }

    #[test]
    fn without_a_limit_nothing_waits() {
        let mut throttle = Throttle::new(None);
        throttle.count(1 << 40);
        assert_eq!(throttle.wait(Instant::now()), None);
    }
}
