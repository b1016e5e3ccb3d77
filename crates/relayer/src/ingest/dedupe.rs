//! The seen set: four layers from the cheapest to the exact one, and the claims of events on their
//! way into the log.
//!
//! An id counts as seen only after its event is committed, so a forged copy cannot make an id look
//! seen. The order of updates matters: after a commit, the layers learn the id *before* its claim
//! is removed, and a shard checks the claims *before* the layers, so the shard always finds the id
//! in a layer or among the claims.

use std::sync::Arc;
use std::time::{Duration, Instant};

use enum_map::Enum;
use parking_lot::Mutex;
use quick_cache::sync::Cache;
use strum::IntoStaticStr;
use wire::ClaimedId;

use super::arrivals::{Arrivals, Copies, UnknownCopies};
use super::bloom::Bloom;
use super::hotset::Hotset;
use crate::clock::Clock;
use crate::event_log::{Entry, EventLog, StorageError};

/// The layer that recognised a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Enum, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Layer {
    /// The ids accepted most recently.
    Hotset,
    /// The ids found in RocksDB most recently.
    Lru,
    /// The log on disk.
    #[strum(serialize = "rocksdb")]
    RocksDb,
    /// Verified events that are not committed yet.
    InFlight,
}

/// What the layers in memory know about an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    Seen(Layer),
    /// No committed event has this id.
    New,
    /// Only RocksDB can tell.
    Unknown,
}

/// The capacities of the layers.
#[derive(Debug, Clone, Copy)]
pub struct DedupeSizes {
    pub hotset: usize,
    /// Ids in the first generation of the Bloom filter.
    pub bloom: usize,
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
    /// An empty set in front of a log. Run [`rebuild`](Self::rebuild) in the background: until it
    /// has filled the Bloom filter, every id that is not in memory costs a read from disk.
    pub fn new(log: Arc<EventLog>, sizes: DedupeSizes) -> Self {
        // Room for twice the known ids before a second generation is needed.
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

    /// Reads all ids of the log into the Bloom filter until `stop` returns `true`.
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

    /// Checks memory only. Every connection calls this for every frame.
    pub fn look_up(&self, id: &ClaimedId) -> Lookup {
        if self.hotset.contains(id) {
            Lookup::Seen(Layer::Hotset)
        } else if self.bloom.is_certainly_new(id) {
            Lookup::New
        } else if self.lru.get(&prefix(id)).is_some() {
            Lookup::Seen(Layer::Lru)
        } else {
            Lookup::Unknown
        }
    }

    /// Checks all layers, RocksDB included. Only shards call this.
    ///
    /// # Errors
    /// When RocksDB fails.
    pub fn find(&self, id: &ClaimedId) -> Result<Option<Layer>, StorageError> {
        if self.claims.contains(id) {
            return Ok(Some(Layer::InFlight));
        }
        match self.look_up(id) {
            Lookup::Seen(layer) => Ok(Some(layer)),
            Lookup::New => Ok(None),
            Lookup::Unknown if self.log.contains(id)? => {
                self.lru.insert(prefix(id), ());
                Ok(Some(Layer::RocksDb))
            }
            Lookup::Unknown => Ok(None),
        }
    }

    /// Claims a verified id until it is [committed](Self::committed). The id's first copy was read
    /// at `received`.
    pub fn claim(&self, id: &ClaimedId, received: Instant) {
        self.arrivals.note(id, received);
        self.claims.insert(id);
    }

    /// Counts a copy that arrives now. Returns the time since the first copy, if the id is in the
    /// sample.
    pub(crate) fn note_copy(&self, id: &ClaimedId) -> Option<Duration> {
        self.arrivals.note_copy(id, Instant::now)
    }

    /// Counts a copy that arrived at `received`. Returns the time since the first copy, if the id
    /// is in the sample.
    pub(crate) fn note_copy_at(&self, id: &ClaimedId, received: Instant) -> Option<Duration> {
        self.arrivals.note_copy(id, || received)
    }

    /// The copies of an event that came soon after the first.
    ///
    /// # Errors
    /// When the id is not in the sample.
    pub fn copies(&self, id: &ClaimedId) -> Result<Copies, UnknownCopies> {
        self.arrivals.copies(id)
    }

    /// Adds the ids of a committed batch to the layers and removes their claims.
    pub fn committed(&self, entries: &[Entry]) {
        let ids: Vec<ClaimedId> = entries.iter().map(|entry| entry.event.id().into()).collect();
        self.bloom.extend(ids.iter());
        self.hotset.extend(ids.iter());
        self.claims.remove(&ids);
    }

    pub fn clock(&self) -> &Clock {
        self.log.clock()
    }

    pub const fn hotset(&self) -> &Hotset {
        &self.hotset
    }

    pub(crate) fn lru_len(&self) -> usize {
        self.lru.len()
    }

    pub(crate) fn lru_bytes(&self) -> usize {
        self.lru.memory_used().total()
    }

    /// Whether the event with this id is verified but not committed yet.
    pub fn is_in_flight(&self, id: &ClaimedId) -> bool {
        self.claims.contains(id)
    }

    /// Verified ids that are not committed yet.
    pub fn in_flight(&self) -> usize {
        self.claims.0.lock().len()
    }

    /// The bytes of the table of these ids: one byte of control for each place.
    pub(crate) fn in_flight_bytes(&self) -> usize {
        self.claims.0.lock().capacity() * (size_of::<ClaimedId>() + 1)
    }

    pub const fn bloom(&self) -> &Bloom {
        &self.bloom
    }
}

fn prefix(id: &ClaimedId) -> [u8; 16] {
    id.as_bytes().first_chunk().copied().unwrap_or_default()
}

/// Ids of verified events that are not committed yet. Bounded by the ingest budget.
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
