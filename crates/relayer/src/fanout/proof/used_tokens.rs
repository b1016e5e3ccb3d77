//! The tokens that were used, for as long as they would hold.
//!
//! The clock may be set back into a time that it has shown before. So of the tokens that were
//! forgotten, the span of their dates is kept: what is dated in it may have been used.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use wire::ClaimedId;

use crate::clock::{Base, Now};
use crate::limits::{TOKEN_SECS_MAX, TOKENS_MAX};

/// Settings of the clock whose spans are kept apart. Of more, the two oldest become one, which
/// refuses more.
const SETTINGS_MAX: usize = 32;

/// Used tokens, by the first half of their ids: finding another event that begins so takes 2^128 tries.
#[derive(Debug, Default)]
pub(super) struct UsedTokens {
    tokens: HashMap<[u8; 16], Token>,
    settings: Vec<ClockSetting>,
    /// How many tokens there may be before those that expired are looked for.
    sweep_at: usize,
    /// In which second that was done last: it takes milliseconds when there are many.
    swept_at: u64,
}

#[derive(Debug, Clone, Copy)]
struct Token {
    /// Unix seconds.
    created_at: u64,
    /// The clock by which it was taken.
    base: Base,
}

/// A setting of the clock, and which tokens were forgotten that were taken by it.
#[derive(Debug)]
struct ClockSetting {
    base: Base,
    forgotten: RangeInclusive<u64>,
}

/// What became of using a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenUse {
    /// It is used now.
    First,
    /// It was used before.
    Replayed,
    /// It may have been used before.
    Unknown,
    /// There are too many to remember one more.
    TooMany,
}

impl UsedTokens {
    /// Uses a token that is dated so, in Unix seconds.
    pub fn use_once(&mut self, id: &ClaimedId, created_at: u64, now: Now) -> TokenUse {
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

    /// The same clock at other seconds.
    fn clock() -> impl Fn(u64) -> Now {
        let base = Clock::system().now().base;
        move |second| Now { ms: second * 1_000, base, steps: 0 }
    }

    #[test]
    fn a_token_is_used_once_and_forgotten_when_it_no_longer_holds() {
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
    fn there_is_an_end_to_what_is_remembered() {
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
