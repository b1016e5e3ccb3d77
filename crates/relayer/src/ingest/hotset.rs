//! The hotset: the most recently accepted ids. Every connection reads it for every frame.
//!
//! The hotset is a fixed table of small buckets; a new id replaces the oldest id of its bucket.
//! Readers take no lock and write nothing, so cores do not contend. An id is stored as its first 16
//! bytes: a false match would need a second preimage on 128 bits of SHA-256. A reader that races
//! with a writer may see half of the old id and half of the new one, which matches no real id.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use wire::ClaimedId;

const SLOTS: usize = 8;

#[derive(Debug)]
pub struct Hotset {
    buckets: Box<[Bucket]>,
    /// Random, so that nobody can choose ids that fall into one bucket.
    seed: u64,
    /// For each bucket, the slot to replace next. Only the writer uses it.
    next_slot: Mutex<Box<[u8]>>,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Bucket {
    slots: [Slot; SLOTS],
}

#[derive(Debug)]
struct Slot {
    low: AtomicU64,
    high: AtomicU64,
}

impl Default for Slot {
    /// A slot without an id: random bits. Zeros would match an id that begins with zeros, which
    /// anybody can claim.
    fn default() -> Self {
        Self { low: AtomicU64::new(rand::random()), high: AtomicU64::new(rand::random()) }
    }
}

impl Hotset {
    /// A hotset for `size` ids, at 32 bytes each. Buckets fill unevenly, so `size` is approximate.
    pub fn new(size: usize) -> Self {
        // Twice as many slots as ids, so that few buckets overflow before their ids are old.
        let buckets = (2 * size).div_ceil(SLOTS).max(1);
        Self {
            buckets: std::iter::repeat_with(Bucket::default).take(buckets).collect(),
            seed: rand::random::<u64>() | 1,
            next_slot: Mutex::new(vec![0; buckets].into()),
        }
    }

    /// Whether the id was accepted recently. `false` proves nothing.
    pub fn contains(&self, id: &ClaimedId) -> bool {
        let (low, high) = halves(id);
        self.buckets.get(self.bucket(low)).is_some_and(|bucket| {
            bucket.slots.iter().any(|slot| {
                slot.low.load(Ordering::Relaxed) == low && slot.high.load(Ordering::Relaxed) == high
            })
        })
    }

    /// Adds accepted ids that are not in the set yet.
    pub fn extend<'a>(&self, ids: impl Iterator<Item = &'a ClaimedId>) {
        let mut next_slot = self.next_slot.lock();
        for id in ids {
            let (low, high) = halves(id);
            let index = self.bucket(low);
            let Some((bucket, next)) = self.buckets.get(index).zip(next_slot.get_mut(index)) else {
                continue;
            };
            if let Some(slot) = bucket.slots.get(usize::from(*next) % SLOTS) {
                slot.high.store(high, Ordering::Relaxed);
                slot.low.store(low, Ordering::Relaxed);
            }
            *next = next.wrapping_add(1);
        }
    }

    pub fn bytes(&self) -> usize {
        self.buckets.len() * (size_of::<Bucket>() + size_of::<u8>())
    }

    fn bucket(&self, low: u64) -> usize {
        let spread = low.wrapping_mul(self.seed) ^ low.rotate_left(32);
        let scaled = u128::from(spread.wrapping_mul(self.seed)) * self.buckets.len() as u128;
        (scaled >> 64) as usize
    }
}

fn halves(id: &ClaimedId) -> (u64, u64) {
    let first = id.as_bytes().first_chunk::<16>().copied().unwrap_or_default();
    let both = u128::from_le_bytes(first);
    (both as u64, (both >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> ClaimedId {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        bytes[8..16].copy_from_slice(&number.to_be_bytes());
        ClaimedId::from_bytes(bytes)
    }

    #[test]
    fn holds_nearly_all_of_the_newest_and_nothing_else() {
        let size = 10_000;
        let hotset = Hotset::new(size as usize);
        let ids: Vec<_> = (1..=10 * size).map(id).collect();
        hotset.extend(ids.iter());
        let newest = ids.iter().rev().take(size as usize).filter(|id| hotset.contains(id)).count();
        assert!(newest as u64 > size * 97 / 100, "{newest} of {size}");
        assert!((20 * size..30 * size).all(|number| !hotset.contains(&id(number))));
    }

    #[test]
    fn an_empty_hotset_holds_nothing() {
        let hotset = Hotset::new(100);
        for byte in [0x00, 0xff] {
            assert!(!hotset.contains(&ClaimedId::from_bytes([byte; 32])));
        }
    }

    #[test]
    fn a_hotset_of_one_remembers_one() {
        let hotset = Hotset::new(1);
        hotset.extend([id(1)].iter());
        assert!(hotset.contains(&id(1)) && !hotset.contains(&id(2)));
    }
}
