//! The pace of requests to a relay: a minimum gap between two requests. The gap grows when the
//! relay says `rate-limited:`.

use std::time::Duration;

use tokio::time::Instant;

use crate::limits::{RATE_LIMIT_MEMORY, REQUEST_GAP_LIMITED, REQUEST_GAP_MAX, REQUEST_GAP_MIN};

/// When the next request to a relay may be sent.
#[derive(Debug, Clone)]
pub struct Pace {
    gap: Duration,
    next: Option<Instant>,
    /// When the relay last rate-limited us, or the gap was last reduced.
    limited: Option<Instant>,
}

impl Default for Pace {
    fn default() -> Self {
        Self { gap: REQUEST_GAP_MIN, next: None, limited: None }
    }
}

impl Pace {
    /// Reserves and returns the time at which the next request may be sent.
    pub(crate) fn next_request(&mut self, now: Instant) -> Instant {
        if self.limited.is_some_and(|limited| now.duration_since(limited) >= RATE_LIMIT_MEMORY) {
            self.gap = (self.gap / 2).max(REQUEST_GAP_MIN);
            self.limited = (self.gap > REQUEST_GAP_MIN).then_some(now);
        }
        let turn = self.next.map_or(now, |next| next.max(now));
        self.next = Some(turn + self.gap);
        turn
    }

    /// Doubles the gap and delays the next request, because the relay rate-limited us.
    pub(crate) fn slow_down(&mut self, now: Instant) {
        self.gap = (self.gap * 2).clamp(REQUEST_GAP_LIMITED, REQUEST_GAP_MAX);
        self.limited = Some(now);
        self.next = Some(now + self.gap);
    }

    /// The minimum time between two requests.
    pub const fn gap(&self) -> Duration {
        self.gap
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slows_down_and_recovers() {
        let start = Instant::now();
        let mut pace = Pace::default();
        assert_eq!(pace.next_request(start), start);
        assert_eq!(pace.next_request(start), start + REQUEST_GAP_MIN);
        pace.slow_down(start);
        assert_eq!(pace.gap(), REQUEST_GAP_LIMITED);
        assert_eq!(pace.next_request(start), start + REQUEST_GAP_LIMITED);
        for _ in 0..20 {
            pace.slow_down(start);
        }
        assert_eq!(pace.gap(), REQUEST_GAP_MAX);
        let later = start + RATE_LIMIT_MEMORY;
        pace.next_request(later);
        assert_eq!(pace.gap(), REQUEST_GAP_MAX / 2);
        let mut now = later;
        for _ in 0..20 {
            now += RATE_LIMIT_MEMORY;
            pace.next_request(now);
        }
        assert_eq!(pace.gap(), REQUEST_GAP_MIN);
    }
}
