//! Limits of a relay other than the size of answers: subscriptions, filters, the rate of requests,
//! and refusals set by a test.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// The maximum number of subscriptions on a connection, even without limits.
const SUBSCRIPTIONS_MAX: usize = 100;

/// The limits of one connection. Default: none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Limits {
    subscriptions: Option<usize>,
    filters: Option<usize>,
    limit_zero: Option<Refused>,
}

impl Limits {
    /// No limits.
    pub const fn new() -> Self {
        Self { subscriptions: None, filters: None, limit_zero: None }
    }

    /// Allows this many concurrent subscriptions (NIP-11 `max_subscriptions`). A further REQ with a
    /// new id is answered with `["CLOSED",id,"error: too many concurrent subscriptions"]`.
    pub const fn subscriptions(mut self, number: usize) -> Self {
        self.subscriptions = Some(number);
        self
    }

    /// Allows this many filters in a REQ (NIP-11 `max_filters`). A REQ with more filters is
    /// answered with `["CLOSED",id,"invalid: too many filters"]`.
    pub const fn filters(mut self, number: usize) -> Self {
        self.filters = Some(number);
        self
    }

    /// A filter with `limit: 0` is answered with `["CLOSED",id,"invalid: limit must be at least
    /// 1"]`.
    pub fn refuse_limit_zero(self) -> Self {
        self.refuse_limit_zero_with("invalid: limit must be at least 1", Saying::Closed)
    }

    /// A filter with `limit: 0` is refused with this reason.
    pub fn refuse_limit_zero_with(mut self, reason: impl Into<String>, saying: Saying) -> Self {
        self.limit_zero = Some(Refused { reason: reason.into(), saying });
        self
    }

    /// The `max_subscriptions` and `max_filters` in the relay's NIP-11 document.
    pub(crate) const fn told(&self) -> (Option<usize>, Option<usize>) {
        (self.subscriptions, self.filters)
    }

    /// Whether a connection with `open` subscriptions may open another one.
    pub(crate) fn allows_another(&self, open: usize) -> bool {
        open < self.subscriptions.unwrap_or(SUBSCRIPTIONS_MAX).min(SUBSCRIPTIONS_MAX)
    }

    /// The refusal of these filters, if the relay does not accept them.
    pub(crate) fn refuses(&self, filters: &[wire::Filter]) -> Option<Refused> {
        if self.filters.is_some_and(|most| filters.len() > most) {
            return Some(Refused::closed("invalid: too many filters"));
        }
        let has_zero = filters.iter().any(|filter| filter.limit == Some(0));
        self.limit_zero.clone().filter(|_| has_zero)
    }
}

/// The message with which a relay refuses a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Saying {
    /// `CLOSED` with the subscription's id; `NEG-ERR` for NIP-77.
    #[default]
    Closed,
    /// `NOTICE`, which does not name the request.
    Notice,
}

/// Refuses requests without examining them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The reason, such as `blocked: you are not welcome here`.
    pub reason: String,
    /// How the request is refused.
    pub saying: Saying,
    /// The number of REQs to refuse; the relay serves later REQs.
    pub times: usize,
}

impl Refusal {
    /// Refuses every REQ with this reason in a CLOSED.
    pub fn always(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), saying: Saying::Closed, times: usize::MAX }
    }

    /// Refuses this many REQs.
    pub fn times(times: usize, reason: impl Into<String>) -> Self {
        Self { times, ..Self::always(reason) }
    }

    /// Refuses with NOTICE.
    pub fn by_notice(mut self) -> Self {
        self.saying = Saying::Notice;
        self
    }

    /// Counts and returns one refusal, if any are left.
    pub(crate) fn refuse(&mut self) -> Option<Refused> {
        self.times = self.times.checked_sub(1)?;
        Some(Refused { reason: self.reason.clone(), saying: self.saying })
    }
}

/// The requests that share a rate limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scope {
    /// Requests of one connection.
    #[default]
    Connection,
    /// Requests of all connections of the relay.
    Relay,
}

/// A rate limit for requests (REQ and NEG-OPEN).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimit {
    /// The maximum number of requests in any span of `per`. Refused requests do not count.
    pub requests: usize,
    pub per: Duration,
    pub scope: Scope,
    /// The message type of refusals.
    pub saying: Saying,
    pub reason: String,
}

impl RateLimit {
    /// Allows this many requests on each connection. Further requests are answered with
    /// `["CLOSED",id,"rate-limited: slow down"]`.
    pub fn new(requests: usize, per: Duration) -> Self {
        let reason = "rate-limited: slow down".to_owned();
        Self { requests, per, scope: Scope::Connection, saying: Saying::Closed, reason }
    }

    /// Counts the requests of all connections together.
    pub fn of_relay(mut self) -> Self {
        self.scope = Scope::Relay;
        self
    }

    /// Refuses with NOTICE.
    pub fn by_notice(mut self) -> Self {
        self.saying = Saying::Notice;
        self
    }

    /// The refusal of a request, if earlier requests have used up the limit.
    pub(crate) fn refuse(&self, window: &mut Window) -> Option<Refused> {
        let refused = Refused { reason: self.reason.clone(), saying: self.saying };
        (!window.admit(Instant::now(), self.requests, self.per)).then_some(refused)
    }
}

/// Why and how a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    pub reason: String,
    pub saying: Saying,
}

impl Refused {
    /// Refuses with CLOSED.
    pub fn closed(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), saying: Saying::Closed }
    }
}

/// The times of the requests in the last span.
#[derive(Debug, Default)]
pub(crate) struct Window(VecDeque<Instant>);

impl Window {
    fn admit(&mut self, now: Instant, requests: usize, per: Duration) -> bool {
        while self.0.front().is_some_and(|time| now.duration_since(*time) >= per) {
            self.0.pop_front();
        }
        let admitted = self.0.len() < requests;
        if admitted {
            self.0.push_back(now);
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_slides() {
        let (start, per) = (Instant::now(), Duration::from_secs(10));
        let mut window = Window::default();
        let mut admit = |seconds| window.admit(start + Duration::from_secs(seconds), 2, per);
        assert_eq!([0, 4, 9, 10, 13, 14].map(&mut admit), [true, true, false, true, false, true]);
    }
}
