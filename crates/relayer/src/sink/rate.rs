//! A moving average of events per second. The caller supplies the time.

use std::time::Duration;

/// The time constant of the average.
const MEMORY: Duration = Duration::from_secs(60);

/// A count that decays exponentially.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rate {
    decayed: f64,
    /// The time at which `decayed` was computed.
    at: Duration,
}

impl Rate {
    /// Counts events. `now` is the time since the start.
    pub(super) fn add(&mut self, count: u64, now: Duration) {
        self.decayed = self.decayed_at(now) + count as f64;
        self.at = self.at.max(now);
    }

    /// Events per second. Shortly after the start, the average covers only the time since the
    /// start.
    pub(super) fn per_second(&self, now: Duration) -> f64 {
        let memory = MEMORY.as_secs_f64();
        let span = memory * (1.0 - (-now.as_secs_f64().max(1.0) / memory).exp());
        self.decayed_at(now) / span
    }

    fn decayed_at(&self, now: Duration) -> f64 {
        let passed = now.saturating_sub(self.at);
        self.decayed * (-passed.as_secs_f64() / MEMORY.as_secs_f64()).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_stream_has_its_rate_and_loses_it_when_it_ends() {
        let mut rate = Rate::default();
        for second in 0..600 {
            rate.add(20, Duration::from_secs(second));
        }
        let at = |second| rate.per_second(Duration::from_secs(second));
        assert!((19.0..21.0).contains(&at(600)), "{}", at(600));
        let mut young = Rate::default();
        young.add(200, Duration::from_secs(10));
        let after_ten = young.per_second(Duration::from_secs(10));
        assert!((20.0..23.0).contains(&after_ten), "{after_ten}");
        assert!((7.0..8.0).contains(&at(660)), "{}", at(660));
        assert!(at(1_200) < 0.01);
    }
}
