//! The metrics of ingest.

use std::time::Instant;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use super::{DropReason, InboxGauge, Layer};
use crate::event_log::Entry;
use crate::telemetry::LatencyHistogram;
use crate::telemetry::metrics::{PerLabel, metrics, set};

metrics! {
    /// The metrics from a frame to its commit.
    pub struct Metrics {
        /// Events that were verified and committed to the log.
        events_processed: Counter = "events_processed";
        /// Copies of known events, by the layer that recognised the copy.
        duplicates: PerLabel<Layer, Counter> = "duplicates_filtered", PerLabel::new("layer");
        /// Frames and events that were refused, by reason.
        dropped: PerLabel<DropReason, Counter> = "events_dropped", PerLabel::new("reason");
        /// Ids that the Bloom filter knew to be new, without a disk access.
        lookups_in_memory: Counter = "lookups_in_memory";
        /// Ids that had to be looked up in RocksDB.
        lookups_on_disk: Counter = "lookups_on_disk";
        /// Seconds from reading an event's frame until the event is committed.
        processing_latency: LatencyHistogram = "processing_latency_seconds";
        /// Events per commit.
        batch_events: Histogram = "batch_events", Histogram::new(exponential_buckets(1.0, 2.0, 14));
        /// Commits to the log.
        batches_committed: Counter = "batches_committed";
        /// Events between the sockets and the shards.
        events_in_queue: Gauge = "events_in_queue";
        /// Bytes of events between the sockets and the commit.
        bytes_in_queue: Gauge = "bytes_in_queue";
    }
}

impl Metrics {
    /// Counts a committed batch.
    pub fn committed(&self, entries: &[Entry]) {
        let now = Instant::now();
        self.batches_committed.inc();
        self.batch_events.observe(entries.len() as f64);
        self.events_processed.inc_by(entries.len() as u64);
        for received in entries.iter().filter_map(|entry| entry.received) {
            self.processing_latency.observe(now.duration_since(received));
        }
    }

    /// Updates the gauges from the inboxes.
    pub(crate) fn refresh(&self, inboxes: &InboxGauge) {
        let (events, bytes) = inboxes.waiting();
        set(&self.events_in_queue, events as u64);
        set(&self.bytes_in_queue, bytes as u64);
    }
}
