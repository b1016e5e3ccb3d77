//! What one turn of a connection counts: in locals, and into the shared counters once at its end.

use enum_map::{Enum, EnumMap};

use super::metrics::Metrics;
use super::peer::Peer;
use crate::ingest::{self, DropReason, Layer};

/// Counts that are flushed when this is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    peer: &'a Peer,
    metrics: &'a Metrics,
    ingest: &'a ingest::Metrics,
    frames: u64,
    bytes: u64,
    /// Texts that keep a connection open.
    heartbeats: u64,
    events: u64,
    duplicates: EnumMap<Layer, u64>,
    /// `NOTICE`, `CLOSED` and `AUTH`.
    pub notices: u64,
    /// Ids that the Bloom filter did not know.
    pub lookups_in_memory: u64,
    /// Ids for which only RocksDB could tell.
    pub lookups_on_disk: u64,
}

impl<'a> Turn<'a> {
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

    /// Counts a message of so many bytes.
    pub const fn frame(&mut self, bytes: u64) {
        self.frames += 1;
        self.bytes += bytes;
    }

    /// Counts a text that says nothing.
    pub const fn heartbeat(&mut self) {
        self.heartbeats += 1;
    }

    /// Counts an event that was asked for.
    pub const fn event(&mut self) {
        self.events += 1;
    }

    /// Counts a copy.
    pub fn duplicate(&mut self, layer: Layer) {
        self.duplicates[layer] += 1;
    }

    /// Counts bytes that broke the protocol, so that there is no frame to count.
    pub fn breach(&mut self, reason: DropReason) {
        self.frame(0);
        self.refuse(reason);
    }

    /// Counts something refused at once: it is rare, and a relay that sends much of it is soon
    /// left.
    pub fn refuse(&self, reason: DropReason) {
        self.peer.refuse(reason);
        self.ingest.dropped[reason].inc();
    }

    /// Counts that the relay said that we ask too much, at once, because that is rare.
    pub fn rate_limited(&self) {
        self.peer.rate_limited(self.metrics);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let (tally, metrics) = (&self.peer.tally, self.metrics);
        tally.frames.add(self.frames);
        tally.bytes.add(self.bytes);
        tally.events.add(self.events);
        tally.notices.add(self.notices);
        tally.copies.add(self.duplicates.values().sum());
        tally.refuse_many(DropReason::UnknownMessage, self.heartbeats);
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
