//! The tokens that were used, for as long as they would hold.

use std::collections::HashMap;

use wire::ClaimedId;

use crate::limits::TOKENS_MAX;

/// Used tokens, by the first half of their ids: finding another event that begins so takes 2^128 tries.
#[derive(Debug, Default)]
pub(super) struct Spent {
    /// With the last second, in Unix time, in which each would hold.
    tokens: HashMap<[u8; 16], u64>,
    /// How many there may be before those that expired are looked for.
    look_at: usize,
    /// In which second that was done last: it takes milliseconds when there are many.
    looked_at: u64,
}

/// What became of using a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// It is used now.
    First,
    /// It was used before.
    Again,
    /// There are too many to remember one more.
    TooMany,
}

impl Spent {
    /// Uses a token that holds up to a second.
    pub fn spend(&mut self, id: &ClaimedId, holds_until: u64, now: u64) -> Use {
        let [half, _] = id.as_bytes().as_chunks::<16>().0 else { return Use::TooMany };
        if self.tokens.contains_key(half) {
            return Use::Again;
        }
        if self.tokens.len() >= self.look_at && now != self.looked_at {
            self.looked_at = now;
            self.tokens.retain(|_, until| *until >= now);
            self.tokens.shrink_to(1_024);
            self.look_at = (2 * self.tokens.len()).clamp(1_024, TOKENS_MAX);
        }
        if self.tokens.len() >= TOKENS_MAX {
            return Use::TooMany;
        }
        self.tokens.insert(*half, holds_until);
        Use::First
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> ClaimedId {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        ClaimedId::from_bytes(bytes)
    }

    #[test]
    fn a_token_is_used_once_and_forgotten_when_it_no_longer_holds() {
        let mut spent = Spent::default();
        for number in 0..10_000 {
            let now = number / 10;
            assert_eq!(spent.spend(&id(number), now + 60, now), Use::First);
            assert_eq!(spent.spend(&id(number), now + 60, now), Use::Again);
        }
        assert!(spent.tokens.len() < 2_048, "{}", spent.tokens.len());
        assert_eq!(spent.spend(&id(9_500), 1_059, 999), Use::Again, "of 950, so it holds until 1010");
    }

    #[test]
    fn there_is_an_end_to_what_is_remembered() {
        let mut spent = Spent::default();
        let full = (0..).find(|number| spent.spend(&id(*number), 60, 0) == Use::TooMany);
        assert_eq!(full, Some(TOKENS_MAX as u64));
        assert_eq!(spent.spend(&id(u64::MAX), 121, 61), Use::First, "after they have expired");
    }
}
