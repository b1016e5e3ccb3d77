//! What was seen, in four layers from the cheapest to the exact one, and what is on its way into the log.
//!
//! An id becomes seen only with its committed event: connections can ask for every frame and drop what
//! was seen, and no forged copy can ever make an id look seen. The order in which things happen matters
//! and stands here: after a commit the layers learn the id *before* its claim is given up, and a shard
//! looks for claims *before* the layers, so it always finds the id in one of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use enum_map::Enum;
use parking_lot::Mutex;
use quick_cache::sync::Cache;
use strum::IntoStaticStr;
use wire::ClaimedId;

use super::arrivals::Arrivals;
use super::bloom::Bloom;
use super::hotset::Hotset;
use crate::clock::Clock;
use crate::event_log::{Entry, EventLog, StorageError};

/// Where a copy was recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Enum, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Layer {
    /// Among the ids accepted most recently.
    Hotset,
    /// Among the ids found in RocksDB lately.
    Lru,
    /// In the log, on disk.
    #[strum(serialize = "rocksdb")]
    RocksDb,
    /// Verified, and about to be committed.
    InFlight,
}

/// What memory says of an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// It was seen.
    Seen(Layer),
    /// It is in no committed event.
    New,
    /// Only RocksDB can tell.
    Perhaps,
}

/// Sizes of the layers.
#[derive(Debug, Clone, Copy)]
pub struct DedupeSizes {
    /// Ids in the hotset.
    pub hotset: usize,
    /// Ids that the Bloom filter's first generation is for.
    pub bloom: usize,
    /// Ids in the LRU.
    pub lru: usize,
}

/// The seen set.
#[derive(Debug)]
pub struct Dedupe {
    hotset: Hotset,
    bloom: Bloom,
    lru: Cache<[u8; 16], ()>,
    log: Arc<EventLog>,
    claims: Claims,
    arrivals: Arrivals,
}

impl Dedupe {
    /// An empty set in front of a log. Call [`rebuild`](Self::rebuild) beside the work to make the Bloom
    /// filter useful; until then every id that is not in memory costs a look-up on disk.
    pub fn new(log: Arc<EventLog>, sizes: DedupeSizes) -> Self {
        // Room for what is there and for as much again before a second generation is needed.
        let known = usize::try_from(log.store().ids_estimate()).unwrap_or(usize::MAX);
        Self {
            hotset: Hotset::new(sizes.hotset),
            bloom: Bloom::new(sizes.bloom.max(known.saturating_mul(2))),
            lru: Cache::new(sizes.lru),
            log,
            claims: Claims::default(),
            arrivals: Arrivals::new(),
        }
    }

    /// Reads all ids of the log into the Bloom filter, unless told to stop. It may run beside everything
    /// else.
    ///
    /// # Errors
    /// When RocksDB fails.
    pub fn rebuild(&self, stop: impl Fn() -> bool) -> Result<(), StorageError> {
        const IDS_AT_ONCE: usize = 4_096;
        let mut ids = Vec::with_capacity(IDS_AT_ONCE);
        let mut stopped = false;
        self.log.for_each_id(|id| {
            ids.push(*id);
            if ids.len() == IDS_AT_ONCE {
                self.bloom.extend(ids.iter());
                ids.clear();
                stopped = stop();
            }
            !stopped
        })?;
        self.bloom.extend(ids.iter());
        if !stopped {
            self.bloom.set_complete();
        }
        Ok(())
    }

    /// Looks in memory only. This is what each connection does for each frame.
    pub fn look(&self, id: &ClaimedId) -> Look {
        if self.hotset.contains(id) {
            Look::Seen(Layer::Hotset)
        } else if self.bloom.is_certainly_new(id) {
            Look::New
        } else if self.lru.get(&prefix(id)).is_some() {
            Look::Seen(Layer::Lru)
        } else {
            Look::Perhaps
        }
    }

    /// Looks everywhere: the layer that has seen the id, if one has. For shards.
    ///
    /// # Errors
    /// When RocksDB cannot tell.
    pub fn find(&self, id: &ClaimedId) -> Result<Option<Layer>, StorageError> {
        if self.claims.contains(id) {
            return Ok(Some(Layer::InFlight));
        }
        match self.look(id) {
            Look::Seen(layer) => Ok(Some(layer)),
            Look::New => Ok(None),
            Look::Perhaps if self.log.contains(id)? => {
                self.lru.insert(prefix(id), ());
                Ok(Some(Layer::RocksDb))
            }
            Look::Perhaps => Ok(None),
        }
    }

    /// Marks a verified id as on its way into the log, until it is [committed](Self::committed). Its first
    /// copy was read at `received`.
    pub fn claim(&self, id: &ClaimedId, received: Instant) {
        self.arrivals.note(id, received);
        self.claims.insert(id);
    }

    /// How long ago the first copy of an event came, if it is one of those that are looked at.
    pub fn lateness(&self, id: &ClaimedId) -> Option<Duration> {
        Some(self.arrivals.first(id)?.elapsed())
    }

    /// How long before `received` the first copy of an event came, if it is one of those that are looked at.
    pub fn lateness_at(&self, id: &ClaimedId, received: Instant) -> Option<Duration> {
        Some(received.saturating_duration_since(self.arrivals.first(id)?))
    }

    /// Makes the ids of a committed batch seen.
    pub fn committed(&self, entries: &[Entry]) {
        let ids: Vec<ClaimedId> = entries.iter().map(|entry| entry.event.id().into()).collect();
        self.bloom.extend(ids.iter());
        self.hotset.extend(ids.iter());
        self.claims.remove(&ids);
    }

    /// The clock that events are received by.
    pub fn clock(&self) -> &Clock {
        self.log.clock()
    }

    /// The hotset, for figures.
    pub const fn hotset(&self) -> &Hotset {
        &self.hotset
    }

    /// Ids in the LRU.
    pub fn lru_len(&self) -> usize {
        self.lru.len()
    }

    /// Verified ids that are not committed yet.
    pub fn in_flight(&self) -> usize {
        self.claims.0.lock().len()
    }

    /// The Bloom filter, for figures.
    pub const fn bloom(&self) -> &Bloom {
        &self.bloom
    }
}

fn prefix(id: &ClaimedId) -> [u8; 16] {
    id.as_bytes().first_chunk().copied().unwrap_or_default()
}

/// Ids of verified events that are not committed yet. Bounded by the bytes that may be in flight.
#[derive(Debug, Default)]
struct Claims(Mutex<std::collections::HashSet<ClaimedId, foldhash::fast::RandomState>>);

impl Claims {
    fn contains(&self, id: &ClaimedId) -> bool {
        self.0.lock().contains(id)
    }

    fn insert(&self, id: &ClaimedId) {
        self.0.lock().insert(*id);
    }

    fn remove(&self, ids: &[ClaimedId]) {
        let mut claims = self.0.lock();
        for id in ids {
            claims.remove(id);
        }
    }
}
