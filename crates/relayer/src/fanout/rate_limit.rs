//! Daily limits per key and per address.
//!
//! A caller can use the whole quota at once. The quota refills evenly over the day (GCRA, ITU-T
//! I.371).

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use parking_lot::Mutex;
use wire::PublicKey;

use crate::limits::CALLERS_MAX;
use crate::serve::origin;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum RateKey {
    Key(PublicKey),
    Address(IpAddr),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LimitReached {
    pub(crate) daily_limit: NonZeroU32,
    /// The time until the next call is possible.
    pub(crate) retry_after: Duration,
}

/// A daily limit; `None` if there is no limit.
#[derive(Debug)]
pub(crate) struct DailyLimit(Mutex<Option<CallCounter>>);

#[derive(Debug)]
struct CallCounter {
    daily_limit: NonZeroU32,
    clock: DefaultClock,
    limiter: Limiter,
}

type Limiter = RateLimiter<RateKey, HashMapStateStore<RateKey>, DefaultClock>;

impl DailyLimit {
    pub fn new(daily_limit: Option<NonZeroU32>) -> Self {
        Self(Mutex::new(daily_limit.map(CallCounter::new)))
    }

    /// Sets the limit. If it differs from the present one, all callers start again.
    pub(super) fn set(&self, daily_limit: Option<NonZeroU32>) {
        let mut counter = self.0.lock();
        if counter.as_ref().map(|counter| counter.daily_limit) != daily_limit {
            *counter = daily_limit.map(CallCounter::new);
        }
    }

    /// Counts a call of this key from this address.
    pub fn count(&self, key: PublicKey, address: IpAddr) -> Result<(), LimitReached> {
        // The address is counted first. So an address over its limit cannot add entries by
        // inventing keys, and cannot use up the quota of an honest key.
        self.count_all(&[RateKey::Address(origin(address)), RateKey::Key(key)])
    }

    /// Counts a call from an address.
    pub(crate) fn count_address(&self, address: IpAddr) -> Result<(), LimitReached> {
        self.count_all(&[RateKey::Address(origin(address))])
    }

    /// The number of keys and addresses whose calls are counted.
    pub(super) fn callers(&self) -> usize {
        self.0.lock().as_ref().map_or(0, |counter| counter.limiter.len())
    }

    fn count_all(&self, keys: &[RateKey]) -> Result<(), LimitReached> {
        let mut counter = self.0.lock();
        let Some(counter) = counter.as_mut() else { return Ok(()) };
        counter.make_room();
        for key in keys {
            counter.limiter.check_key(key).map_err(|until| LimitReached {
                daily_limit: counter.daily_limit,
                retry_after: until.wait_time_from(counter.clock.now()),
            })?;
        }
        Ok(())
    }
}

impl CallCounter {
    fn new(daily_limit: NonZeroU32) -> Self {
        Self { daily_limit, clock: DefaultClock::default(), limiter: new_limiter(daily_limit) }
    }

    /// Bounds the memory: drops entries with a full quota. If these are too few, drops all entries,
    /// which is better than refusing honest callers.
    fn make_room(&mut self) {
        if self.limiter.len() < CALLERS_MAX {
            return;
        }
        self.limiter.retain_recent();
        if self.limiter.len() >= CALLERS_MAX {
            tracing::warn!(
                name: "daily_limits_reset",
                "too many callers to count: all daily limits start again"
            );
            self.limiter = new_limiter(self.daily_limit);
        }
    }
}

fn new_limiter(daily_limit: NonZeroU32) -> Limiter {
    let each = Duration::from_secs(86_400) / daily_limit.get();
    // The period is not zero: the largest configurable limit allows a call every 86 us.
    let quota = Quota::with_period(each).unwrap_or(Quota::per_second(NonZeroU32::MAX));
    RateLimiter::hashmap_with_clock(quota.allow_burst(daily_limit), DefaultClock::default())
}

#[cfg(test)]
mod tests {
    use wire::Signer;

    use super::*;

    fn key(seed: u64) -> PublicKey {
        *Signer::from_seed(seed).pubkey()
    }

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[test]
    fn a_key_and_an_address_have_daily_limits() {
        let limits = DailyLimit::new(NonZeroU32::new(3));
        for last in 0..3 {
            assert_eq!(limits.count(key(1), address(last)), Ok(()));
        }
        let used_up = limits.count(key(1), address(9)).unwrap_err();
        let a_third = 86_400 / 3;
        assert!((a_third - 60..=a_third).contains(&used_up.retry_after.as_secs()), "{used_up:?}");
        let mine = limits.callers();
        assert_eq!(mine, 5, "one key, four addresses");
        for seed in 2..5 {
            assert_eq!(limits.count(key(seed), address(100)), Ok(()));
        }
        assert!(limits.count(key(5), address(100)).is_err());
        assert_eq!(limits.callers(), mine + 4, "none for the key that was refused");
        assert_eq!(limits.count(key(6), address(101)), Ok(()));
    }

    #[test]
    fn another_limit_starts_again_and_the_same_limit_does_not() {
        let limits = DailyLimit::new(NonZeroU32::new(1));
        limits.count(key(1), address(1)).unwrap();
        limits.set(NonZeroU32::new(1));
        limits.count(key(1), address(1)).unwrap_err();
        limits.set(NonZeroU32::new(2));
        limits.count(key(1), address(1)).unwrap();
        limits.set(None);
        assert!((0..10).all(|_| limits.count(key(1), address(1)).is_ok()));
    }

    #[test]
    fn without_a_limit_nothing_is_counted() {
        let limits = DailyLimit::new(None);
        assert!((0..10_000).all(|_| limits.count(key(1), address(1)).is_ok()));
    }
}
