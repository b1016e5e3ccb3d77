//! Compares the dates of live events with our clock. Each relay has one vote, regardless of how
//! much it sends.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::limits::{CLOCK_VOTERS_MAX, CLOCK_VOTES_LAST};

/// The votes of the last [`CLOCK_VOTES_LAST`], in two halves. The older half is dropped as a whole.
#[derive(Debug, Default)]
pub(super) struct Votes {
    recent: HashMap<Arc<str>, Count>,
    older: HashMap<Arc<str>, Count>,
    /// When the halves were last rotated, as time since boot.
    rotated: Duration,
}

/// How many of a relay's live events agree with our clock.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    agreeing: u64,
    others: u64,
}

/// The number of relays that voted, and the number of those that agree with our clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(crate) agreeing: usize,
    pub(crate) voting: usize,
}

impl Verdict {
    /// Whether most relays agree; `None` if no relay voted.
    pub(crate) fn majority(self) -> Option<bool> {
        (self.voting > 0).then_some(2 * self.agreeing > self.voting)
    }
}

impl Votes {
    pub fn add(&mut self, relay: &Arc<str>, agrees: bool, since_boot: Duration) {
        self.rotate(since_boot);
        // More voters would hardly change the verdict.
        if self.recent.len() >= CLOCK_VOTERS_MAX && !self.recent.contains_key(relay) {
            return;
        }
        let count = self.recent.entry(Arc::clone(relay)).or_default();
        if agrees { count.agreeing += 1 } else { count.others += 1 }
    }

    pub fn verdict(&mut self, since_boot: Duration) -> Verdict {
        self.rotate(since_boot);
        let mut verdict = Verdict { agreeing: 0, voting: 0 };
        let earlier = self.older.iter().filter(|(relay, _)| !self.recent.contains_key(*relay));
        for (relay, count) in self.recent.iter().chain(earlier) {
            let before = self.older.get(relay).copied().filter(|_| self.recent.contains_key(relay));
            let Count { agreeing, others } = before.unwrap_or_default();
            verdict.voting += 1;
            verdict.agreeing += usize::from(count.agreeing + agreeing >= count.others + others);
        }
        verdict
    }

    fn rotate(&mut self, since_boot: Duration) {
        let age = since_boot.saturating_sub(self.rotated);
        if age < CLOCK_VOTES_LAST / 2 {
            return;
        }
        let recent = std::mem::take(&mut self.recent);
        self.older = if age < CLOCK_VOTES_LAST { recent } else { HashMap::new() };
        self.rotated = since_boot;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(1_000);

    fn relay(name: &str) -> Arc<str> {
        Arc::from(name)
    }

    #[test]
    fn each_relay_has_one_vote_and_votes_pass() {
        let mut votes = Votes::default();
        assert_eq!(votes.verdict(START).majority(), None);
        for _ in 0..100 {
            votes.add(&relay("a"), true, START);
        }
        votes.add(&relay("b"), false, START);
        assert_eq!(votes.verdict(START), Verdict { agreeing: 1, voting: 2 });
        assert_eq!(votes.verdict(START).majority(), Some(false), "half is not a majority");
        let half = START + CLOCK_VOTES_LAST / 2;
        votes.add(&relay("b"), true, half);
        assert_eq!(votes.verdict(half), Verdict { agreeing: 2, voting: 2 });
        let late = half + CLOCK_VOTES_LAST / 2;
        assert_eq!(votes.verdict(late), Verdict { agreeing: 1, voting: 1 }, "a has sent nothing since");
        assert_eq!(votes.verdict(late + CLOCK_VOTES_LAST).majority(), None);
    }

    #[test]
    fn the_number_of_voters_is_bounded() {
        let mut votes = Votes::default();
        for number in 0..10 * CLOCK_VOTERS_MAX {
            votes.add(&relay(&number.to_string()), true, START);
        }
        assert_eq!(votes.verdict(START).voting, CLOCK_VOTERS_MAX);
    }
}
