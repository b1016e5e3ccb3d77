//! The Bloom filter recognises ids that are certainly new, so that the log is not read for them.
//!
//! The filter grows by generations. When the newest generation is full, another of twice the size
//! and half the error rate is added, so the total error rate stays below [`FALSE_POSITIVES_MAX`]
//! for any number of ids (Almeida et al., "Scalable Bloom Filters", 2007). The filter is rebuilt
//! from the event log at start. Until the rebuild is complete, no id counts as certainly new.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use fastbloom::AtomicBloomFilter;
use foldhash::fast::RandomState;
use parking_lot::Mutex;
use std::hash::BuildHasher;
use wire::ClaimedId;

/// The maximum false-positive rate of all generations together.
pub(crate) const FALSE_POSITIVES_MAX: f64 = 0.01;

/// The first generation's share of the error rate. Each later generation has half its predecessor's
/// share, so all generations together use 90 %; the rest is a safety margin.
const FIRST_SHARE: f64 = 0.45;

#[derive(Debug)]
pub struct Bloom {
    hasher: RandomState,
    /// Oldest first.
    generations: ArcSwap<Vec<Arc<AtomicBloomFilter>>>,
    newest: Mutex<Filling>,
    complete: AtomicBool,
}

#[derive(Debug)]
struct Filling {
    capacity: usize,
    ids: usize,
    false_positives: f64,
}

impl Bloom {
    /// A filter whose first generation holds `capacity` ids, at about 11 bits each. No id counts as
    /// new until the filter is [complete](Self::set_complete).
    pub fn new(capacity: usize) -> Self {
        let filling = Filling {
            capacity: capacity.max(1_000),
            ids: 0,
            false_positives: FALSE_POSITIVES_MAX * FIRST_SHARE,
        };
        Self {
            hasher: RandomState::default(),
            generations: ArcSwap::from_pointee(vec![filling.filter()]),
            newest: Mutex::new(filling),
            complete: AtomicBool::new(false),
        }
    }

    /// Whether this id was never added. `false` may be wrong.
    pub(crate) fn is_certainly_new(&self, id: &ClaimedId) -> bool {
        if !self.complete.load(Ordering::Acquire) {
            return false;
        }
        let hash = self.hash(id);
        // The newest generation is the largest, so it is the likeliest to contain the id.
        !self.generations.load().iter().rev().any(|generation| generation.contains_hash(hash))
    }

    pub fn extend<'a>(&self, ids: impl Iterator<Item = &'a ClaimedId>) {
        let mut newest = self.newest.lock();
        let mut generations = self.generations.load_full();
        for id in ids {
            if newest.ids >= newest.capacity {
                *newest = newest.next();
                let mut grown = Vec::clone(&generations);
                grown.push(newest.filter());
                generations = Arc::new(grown);
                self.generations.store(Arc::clone(&generations));
            }
            if let Some(generation) = generations.last() {
                generation.insert_hash(self.hash(id));
                newest.ids += 1;
            }
        }
    }

    /// Declares that all known ids have been added.
    pub(crate) fn set_complete(&self) {
        self.complete.store(true, Ordering::Release);
    }

    pub fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Acquire)
    }

    /// The size of all generations in bytes, and the number of generations.
    pub fn figures(&self) -> (usize, usize) {
        let generations = self.generations.load();
        (generations.iter().map(|generation| generation.num_bits() / 8).sum(), generations.len())
    }

    fn hash(&self, id: &ClaimedId) -> u64 {
        self.hasher.hash_one(id.as_bytes())
    }
}

impl Filling {
    fn filter(&self) -> Arc<AtomicBloomFilter> {
        let builder = AtomicBloomFilter::with_false_pos(self.false_positives);
        Arc::new(builder.expected_items(self.capacity))
    }

    fn next(&self) -> Self {
        Self { capacity: 2 * self.capacity, ids: 0, false_positives: self.false_positives / 2.0 }
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
    fn knows_all_and_mistakes_few_far_beyond_its_capacity() {
        let bloom = Bloom::new(1_000);
        let ids: Vec<_> = (0..30_000).map(id).collect();
        bloom.extend(ids.iter());
        bloom.set_complete();
        assert!(ids.iter().all(|id| !bloom.is_certainly_new(id)));
        let mistaken = (100_000..200_000).filter(|number| !bloom.is_certainly_new(&id(*number))).count();
        assert!(mistaken < 1_000, "{mistaken} of 100,000");
        assert_eq!(bloom.figures().1, 5);
    }

    #[test]
    fn says_perhaps_until_it_is_complete() {
        let bloom = Bloom::new(1_000);
        assert!(!bloom.is_certainly_new(&id(1)));
        bloom.set_complete();
        assert!(bloom.is_certainly_new(&id(1)));
    }
}
