//! The ids that were refused lately, for people who look for an event. Kept in memory only.
//!
//! Anyone can claim any id, so a refused copy says nothing about the genuine event. The record is
//! bounded for each reason, and the relay with the most ids of a reason loses its oldest first: a
//! flood from one relay, or for one reason, hardly displaces other entries.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use enum_map::EnumMap;
use foldhash::fast::RandomState;
use parking_lot::Mutex;
use wire::ClaimedId;

use super::drop_reason::DropReason;
use crate::limits::{REFUSAL_RELAYS_KEPT, REFUSALS_KEPT};

/// The copies with one id that were refused for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub id: ClaimedId,
    pub reason: DropReason,
    /// The relays that sent the copies, the first one first. Not all, if there are many.
    pub relays: Vec<Arc<str>>,
    /// The number of copies.
    pub times: u64,
    /// Unix milliseconds.
    pub first_ms: u64,
    /// Unix milliseconds.
    pub last_ms: u64,
}

/// How far back the record goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extent {
    /// The record has every id that was refused after this time, in Unix milliseconds.
    pub complete_since_ms: u64,
    /// The ids that were forgotten to make room.
    pub forgotten: u64,
}

#[derive(Debug, Default)]
pub struct Refusals {
    /// When the record began, in Unix milliseconds.
    since_ms: u64,
    by_reason: EnumMap<DropReason, Mutex<Recent>>,
}

/// The recent refusals for one reason.
#[derive(Debug, Default)]
struct Recent {
    /// Sorted by the time of the refusal, the latest last.
    refusals: VecDeque<Refusal>,
    /// How many of the refusals began with each relay.
    of_relays: HashMap<Arc<str>, usize, RandomState>,
    forgotten: u64,
    /// The last time of a forgotten refusal.
    forgotten_until_ms: u64,
}

impl Refusals {
    pub fn new(since_ms: u64) -> Self {
        Self { since_ms, ..Self::default() }
    }

    pub const fn since_ms(&self) -> u64 {
        self.since_ms
    }

    /// Remembers a refused copy.
    pub fn note(&self, id: &ClaimedId, reason: DropReason, relay: Arc<str>, at_ms: u64) {
        self.by_reason[reason].lock().note(id, reason, relay, at_ms);
    }

    /// The refused copies with this id, the last one first.
    pub fn of(&self, id: &ClaimedId) -> Vec<Refusal> {
        self.matching(None, |refusal| refusal.id == *id)
    }

    /// The last refusals of a relay and for a reason, or of all, the last one first.
    pub fn recent(&self, relay: Option<&str>, reason: Option<DropReason>, limit: usize) -> Vec<Refusal> {
        let mut recent = self.matching(reason, |refusal| {
            relay.is_none_or(|relay| refusal.relays.iter().any(|sender| **sender == *relay))
        });
        recent.truncate(limit);
        recent
    }

    /// How far back the record goes for a reason, or for all reasons.
    pub fn extent(&self, reason: Option<DropReason>) -> Extent {
        let start = Extent { complete_since_ms: self.since_ms, forgotten: 0 };
        self.records(reason).fold(start, |extent, recent| {
            let recent = recent.lock();
            Extent {
                complete_since_ms: extent.complete_since_ms.max(recent.forgotten_until_ms),
                forgotten: extent.forgotten + recent.forgotten,
            }
        })
    }

    fn matching(&self, reason: Option<DropReason>, is_wanted: impl Fn(&Refusal) -> bool) -> Vec<Refusal> {
        let mut found = Vec::new();
        for recent in self.records(reason) {
            found.extend(recent.lock().refusals.iter().rev().filter(|refusal| is_wanted(refusal)).cloned());
        }
        found.sort_by_key(|refusal| std::cmp::Reverse(refusal.last_ms));
        found
    }

    fn records(&self, reason: Option<DropReason>) -> impl Iterator<Item = &Mutex<Recent>> {
        let all = self.by_reason.iter();
        all.filter(move |(of, _)| reason.is_none_or(|reason| reason == *of)).map(|(_, recent)| recent)
    }
}

impl Recent {
    fn note(&mut self, id: &ClaimedId, reason: DropReason, relay: Arc<str>, at_ms: u64) {
        let known = self.refusals.iter().rposition(|refusal| refusal.id == *id);
        let refusal = match known.and_then(|index| self.refusals.remove(index)) {
            Some(known) => known.again(relay, at_ms),
            None => {
                *self.of_relays.entry(Arc::clone(&relay)).or_default() += 1;
                Refusal { id: *id, reason, relays: vec![relay], times: 1, first_ms: at_ms, last_ms: at_ms }
            }
        };
        self.refusals.push_back(refusal);
        if self.refusals.len() > REFUSALS_KEPT {
            self.forget_one();
        }
    }

    /// Forgets the oldest refusal of the relay with the most.
    fn forget_one(&mut self) {
        let of_relays = &self.of_relays;
        let refusals_of = |refusal: &Refusal| refusal.relays.first().and_then(|relay| of_relays.get(relay));
        let most = of_relays.values().max();
        let oldest = self.refusals.iter().position(|refusal| refusals_of(refusal) == most);
        let Some(forgotten) = oldest.and_then(|index| self.refusals.remove(index)) else { return };
        self.forgotten += 1;
        self.forgotten_until_ms = self.forgotten_until_ms.max(forgotten.last_ms);
        if let Some(relay) = forgotten.relays.first()
            && let Some(count) = self.of_relays.get_mut(relay)
        {
            *count -= 1;
            if *count == 0 {
                self.of_relays.remove(relay);
            }
        }
    }
}

impl Refusal {
    fn again(mut self, relay: Arc<str>, at_ms: u64) -> Self {
        self.times = self.times.saturating_add(1);
        self.last_ms = self.last_ms.max(at_ms);
        if self.relays.len() < REFUSAL_RELAYS_KEPT && !self.relays.contains(&relay) {
            self.relays.push(relay);
        }
        self
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

    fn relay(number: usize) -> Arc<str> {
        format!("wss://relay{number}.example").into()
    }

    const REASON: DropReason = DropReason::TooOld;

    #[test]
    fn copies_with_one_id_are_one_refusal_for_each_reason() {
        let refusals = Refusals::new(5);
        for number in 0..20 {
            refusals.note(&id(1), REASON, relay(number % 10), 10 + number as u64);
        }
        refusals.note(&id(1), DropReason::BadSignature, relay(7), 15);
        refusals.note(&id(2), REASON, relay(3), 40);
        let found = refusals.of(&id(1));
        let [old, forged] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((old.reason, old.times, old.first_ms, old.last_ms), (REASON, 20, 10, 29));
        assert_eq!(old.relays, (0..REFUSAL_RELAYS_KEPT).map(relay).collect::<Vec<_>>());
        assert_eq!((forged.reason, forged.times), (DropReason::BadSignature, 1));
        let times = |relay, reason, limit| -> Vec<u64> {
            refusals.recent(relay, reason, limit).iter().map(|refusal| refusal.last_ms).collect()
        };
        assert_eq!(times(None, None, 9), [40, 29, 15]);
        assert_eq!(times(None, None, 2), [40, 29]);
        assert_eq!(times(Some("wss://relay7.example"), None, 9), [29, 15]);
        assert_eq!(times(Some("wss://relay7.example"), Some(REASON), 9), [29]);
        assert_eq!(times(Some("wss://other.example"), None, 9), [0_u64; 0]);
        assert_eq!(refusals.extent(None), Extent { complete_since_ms: 5, forgotten: 0 });
    }

    #[test]
    fn a_flood_by_one_relay_pushes_out_only_its_own() {
        let refusals = Refusals::new(0);
        refusals.note(&id(1), REASON, relay(1), 1);
        refusals.note(&id(2), DropReason::Expired, relay(0), 2);
        for number in 0..10_000 {
            refusals.note(&id(1_000 + number), REASON, relay(0), 10 + number);
            if number == 5_000 {
                refusals.note(&id(3), REASON, relay(2), 10 + number);
            }
        }
        for kept in 1..=3 {
            assert_eq!(refusals.of(&id(kept)).len(), 1, "{kept}");
        }
        assert_eq!(refusals.recent(None, Some(REASON), usize::MAX).len(), REFUSALS_KEPT);
        let last_forgotten = 10_000 - (REFUSALS_KEPT as u64 - 2) - 1;
        assert_eq!(refusals.of(&id(1_000 + last_forgotten)), []);
        assert_eq!(refusals.of(&id(1_001 + last_forgotten)).len(), 1);
        let extent = Extent { complete_since_ms: 10 + last_forgotten, forgotten: last_forgotten + 1 };
        assert_eq!(refusals.extent(None), extent);
        assert_eq!(refusals.extent(Some(DropReason::Expired)), Extent::default());
    }

    #[test]
    fn a_relay_alone_fills_the_record_and_makes_room_for_others() {
        let refusals = Refusals::new(0);
        let count = |of: usize| refusals.recent(Some(&relay(of)), Some(REASON), usize::MAX).len();
        for number in 0..REFUSALS_KEPT as u64 {
            refusals.note(&id(number), REASON, relay(0), number);
        }
        assert_eq!((count(0), refusals.extent(None).forgotten), (REFUSALS_KEPT, 0));
        for number in 0..10_000 {
            refusals.note(&id(1_000 + number), REASON, relay(1 + number as usize % 3), 1_000 + number);
        }
        assert_eq!([count(0), count(1), count(2), count(3)], [REFUSALS_KEPT / 4; 4]);
    }

    #[test]
    fn any_number_of_relays_stays_within_the_bound() {
        let refusals = Refusals::new(0);
        for number in 0..5_000 {
            refusals.note(&id(number as u64), REASON, relay(number), number as u64);
        }
        let kept = refusals.recent(None, None, usize::MAX);
        assert_eq!((kept.len(), kept[0].id), (REFUSALS_KEPT, id(4_999)));
        assert_eq!(kept.last().map(|refusal| refusal.id), Some(id(5_000 - REFUSALS_KEPT as u64)));
        assert_eq!(refusals.by_reason[REASON].lock().of_relays.len(), REFUSALS_KEPT);
    }
}
