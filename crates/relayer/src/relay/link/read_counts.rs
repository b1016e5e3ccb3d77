//! Local counters for one read, added to the shared counters once when the read ends.

use enum_map::{Enum, EnumMap};

use crate::ingest::{self, DropReason, Layer};
use crate::relay::peer::{Metrics, Peer};

/// The counts of one read, flushed on drop.
#[derive(Debug)]
pub(super) struct ReadCounts<'a> {
    peer: &'a Peer,
    metrics: &'a Metrics,
    ingest: &'a ingest::Metrics,
    frames: u64,
    bytes: u64,
    /// Texts that only keep the connection open.
    heartbeats: u64,
    events: u64,
    duplicates: EnumMap<Layer, u64>,
    /// Messages that are not events: NOTICE, CLOSED, NEG-ERR, OK and AUTH.
    pub notices: u64,
    /// Lookups that the Bloom filter answered: the id is new.
    pub lookups_in_memory: u64,
    /// Lookups that only RocksDB can answer.
    pub lookups_on_disk: u64,
}

impl<'a> ReadCounts<'a> {
    pub const fn new(peer: &'a Peer, metrics: &'a Metrics, ingest: &'a ingest::Metrics) -> Self {
        Self {
            peer,
            metrics,
            ingest,
            frames: 0,
            bytes: 0,
            heartbeats: 0,
            events: 0,
            duplicates: EnumMap::from_array([0; Layer::LENGTH]),
            notices: 0,
            lookups_in_memory: 0,
            lookups_on_disk: 0,
        }
    }

    pub const fn frame(&mut self, bytes: u64) {
        self.frames += 1;
        self.bytes += bytes;
    }

    pub const fn heartbeat(&mut self) {
        self.heartbeats += 1;
    }

    /// Counts an event that we requested.
    pub const fn event(&mut self) {
        self.events += 1;
    }

    pub fn duplicate(&mut self, layer: Layer) {
        self.duplicates[layer] += 1;
    }

    /// Counts a breach of the WebSocket protocol, and a frame for the breach, which would not be
    /// counted otherwise.
    pub(crate) fn breach(&mut self, reason: DropReason) {
        self.frame(0);
        self.refuse(reason);
    }

    /// Counts a refused frame at once, because refusals are rare.
    pub fn refuse(&self, reason: DropReason) {
        self.peer.refuse(reason);
        self.ingest.dropped[reason].inc();
    }

    /// Counts a rate limit at once, because rate limits are rare.
    pub fn rate_limited(&self) {
        self.peer.rate_limited(self.metrics);
    }
}

impl Drop for ReadCounts<'_> {
    fn drop(&mut self) {
        let (stats, metrics) = (&self.peer.stats, self.metrics);
        stats.frames.add(self.frames);
        stats.bytes.add(self.bytes);
        stats.events.add(self.events);
        stats.notices.add(self.notices);
        stats.copies.add(self.duplicates.values().sum());
        stats.refuse_many(DropReason::UnknownMessage, self.heartbeats);
        self.ingest.dropped[DropReason::UnknownMessage].inc_by(self.heartbeats);
        metrics.frames_received.inc_by(self.frames);
        metrics.frame_bytes_received.inc_by(self.bytes);
        self.ingest.lookups_in_memory.inc_by(self.lookups_in_memory);
        self.ingest.lookups_on_disk.inc_by(self.lookups_on_disk);
        for (layer, count) in self.duplicates {
            if count > 0 {
                self.ingest.duplicates[layer].inc_by(count);
            }
        }
    }
}
