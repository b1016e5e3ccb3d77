//! Remembers used tokens for as long as they are valid.
//!
//! The clock may be set back. Therefore a sweep of expired tokens keeps the span of their dates,
//! and any token that is dated in that span is refused.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use wire::ClaimedId;

use crate::clock::{Base, Now};
use crate::limits::{TOKEN_SECS_MAX, TOKENS_MAX};

/// The maximum number of clock settings with their own span. Beyond this number, the two oldest
/// spans are joined, so more tokens are refused.
const SETTINGS_MAX: usize = 32;

/// Used tokens by the first half of their ids. Finding another event with the same half takes 2^128
/// attempts.
#[derive(Debug, Default)]
pub(super) struct UsedTokens {
    tokens: HashMap<[u8; 16], Token>,
    settings: Vec<ClockSetting>,
    /// The number of tokens at which expired tokens are swept.
    sweep_at: usize,
    /// When tokens were last swept, in Unix seconds. A sweep of many tokens takes milliseconds, so
    /// tokens are swept at most once a second.
    swept_at: u64,
}

#[derive(Debug, Clone, Copy)]
struct Token {
    /// Unix seconds.
    created_at: u64,
    /// The clock setting when the token was used.
    base: Base,
}

/// A clock setting, and the dates of the swept tokens that were used under that setting.
#[derive(Debug)]
struct ClockSetting {
    base: Base,
    forgotten: RangeInclusive<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenUse {
    First,
    Replayed,
    /// The date of the token lies in a swept span.
    Unknown,
    /// The limit on remembered tokens is reached.
    TooMany,
}

impl UsedTokens {
    /// `created_at` is in Unix seconds.
    pub(crate) fn use_once(&mut self, id: &ClaimedId, created_at: u64, now: Now) -> TokenUse {
        let [half, _] = id.as_bytes().as_chunks::<16>().0 else { return TokenUse::TooMany };
        if self.tokens.contains_key(half) {
            return TokenUse::Replayed;
        }
        if self.settings.iter().any(|setting| setting.forgotten.contains(&created_at)) {
            return TokenUse::Unknown;
        }
        if self.tokens.len() >= self.sweep_at && now.secs() != self.swept_at {
            self.swept_at = now.secs();
            self.forget_expired(now.secs());
        }
        if self.tokens.len() >= TOKENS_MAX {
            return TokenUse::TooMany;
        }
        self.tokens.insert(*half, Token { created_at, base: now.base });
        TokenUse::First
    }

    pub(super) fn len(&self) -> usize {
        self.tokens.len()
    }

    pub(super) fn forget_expired(&mut self, now: u64) {
        let settings = &mut self.settings;
        self.tokens.retain(|_, token| {
            let holds = token.created_at.saturating_add(TOKEN_SECS_MAX) >= now;
            if !holds {
                note_forgotten(settings, *token);
            }
            holds
        });
        while settings.len() > SETTINGS_MAX {
            let ClockSetting { forgotten, .. } = settings.remove(0);
            if let Some(next) = settings.first_mut() {
                next.forgotten = join(&next.forgotten, &forgotten);
            }
        }
        self.tokens.shrink_to(1_024);
        self.sweep_at = (2 * self.tokens.len()).clamp(1_024, TOKENS_MAX);
    }
}

fn note_forgotten(settings: &mut Vec<ClockSetting>, Token { created_at, base }: Token) {
    let forgotten = created_at..=created_at;
    match settings.iter_mut().find(|setting| setting.base.is_same(base)) {
        Some(setting) => setting.forgotten = join(&setting.forgotten, &forgotten),
        None => settings.push(ClockSetting { base, forgotten }),
    }
}

fn join(one: &RangeInclusive<u64>, other: &RangeInclusive<u64>) -> RangeInclusive<u64> {
    *one.start().min(other.start())..=*one.end().max(other.end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    fn id(number: u64) -> ClaimedId {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        ClaimedId::from_bytes(bytes)
    }

    /// Returns a function from Unix seconds to times of one clock setting.
    fn clock() -> impl Fn(u64) -> Now {
        let base = Clock::system().now().base;
        move |second| Now { ms: second * 1_000, base, steps: 0 }
    }

    #[test]
    fn a_token_is_used_once_and_forgotten_when_it_has_expired() {
        let (mut used_tokens, at) = (UsedTokens::default(), clock());
        for number in 0..10_000 {
            let now = number / 10 + 100;
            assert_eq!(used_tokens.use_once(&id(number), now, at(now)), TokenUse::First);
            assert_eq!(used_tokens.use_once(&id(number), now, at(now)), TokenUse::Replayed);
        }
        assert!(used_tokens.tokens.len() < 2_048, "{}", used_tokens.tokens.len());
        assert_eq!(
            used_tokens.use_once(&id(9_500), 1_050, at(1_099)),
            TokenUse::Replayed,
            "it holds until 1110"
        );
        assert_eq!(used_tokens.use_once(&id(1), 100, at(100)), TokenUse::Unknown, "the clock was set back");
    }

    #[test]
    fn the_number_of_tokens_is_limited() {
        let (mut used_tokens, at) = (UsedTokens::default(), clock());
        let full = (0..).find(|number| used_tokens.use_once(&id(*number), 100, at(100)) == TokenUse::TooMany);
        assert_eq!(full, Some(TOKENS_MAX as u64));
        assert_eq!(
            used_tokens.use_once(&id(u64::MAX), 161, at(161)),
            TokenUse::First,
            "after they have expired"
        );
    }
}
