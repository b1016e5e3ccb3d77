//! What one turn of a connection counts: in locals, and into the shared counters once at its end.

use super::peer::Peer;
use crate::ingest::{DropReason, Layer};
use crate::telemetry::Metrics;

/// Counts that are flushed when this is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    peer: &'a Peer,
    metrics: &'a Metrics,
    frames: u64,
    bytes: u64,
    events: u64,
    duplicates: [u64; Layer::ALL.len()],
    /// `NOTICE`, `CLOSED` and `AUTH`.
    pub notices: u64,
    /// Ids that the Bloom filter did not know.
    pub lookups_in_memory: u64,
    /// Ids for which only RocksDB could tell.
    pub lookups_on_disk: u64,
}

impl<'a> Turn<'a> {
    pub const fn new(peer: &'a Peer, metrics: &'a Metrics) -> Self {
        Self {
            peer,
            metrics,
            frames: 0,
            bytes: 0,
            events: 0,
            duplicates: [0; Layer::ALL.len()],
            notices: 0,
            lookups_in_memory: 0,
            lookups_on_disk: 0,
        }
    }

    /// Counts a frame of so many bytes.
    pub const fn frame(&mut self, bytes: usize) {
        self.frames += 1;
        self.bytes += bytes as u64;
    }

    /// Counts an event that was asked for.
    pub const fn event(&mut self) {
        self.events += 1;
    }

    /// How many messages came.
    pub const fn frames(&self) -> u64 {
        self.frames
    }

    /// Counts a copy.
    pub fn duplicate(&mut self, layer: Layer) {
        if let Some(count) = self.duplicates.get_mut(layer as usize) {
            *count += 1;
        }
    }

    /// Counts bytes that broke the protocol, so that there is no frame to count.
    pub fn breach(&mut self, reason: DropReason) {
        self.frame(0);
        self.refuse(reason);
    }

    /// Counts something refused. That is rare, so it is counted at once.
    pub fn refuse(&self, reason: DropReason) {
        self.peer.refuse(reason);
        self.metrics.dropped(reason).inc();
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
        tally.copies.add(self.duplicates.iter().sum());
        metrics.frames_received.inc_by(self.frames);
        metrics.frame_bytes_received.inc_by(self.bytes);
        metrics.lookups_in_memory.inc_by(self.lookups_in_memory);
        metrics.lookups_on_disk.inc_by(self.lookups_on_disk);
        for (layer, count) in Layer::ALL.iter().zip(self.duplicates) {
            if count > 0 {
                metrics.duplicates(*layer).inc_by(count);
            }
        }
    }
}
