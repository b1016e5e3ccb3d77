//! From a frame that looks new to a verified event: once each, whoever sends what in whatever order.
//!
//! [`dedupe`] knows what was seen, in the layers [`hotset`], [`bloom`], an LRU and the event log. What no
//! layer in memory knows goes to the [`shard`] that its claimed id belongs to. A shard is one thread, so
//! all copies of an id are judged one after the other: it asks the log, parses, applies the policy of
//! [`admission`], verifies, and hands over to the sequencer. Whatever is refused has a [`drop_reason`].

use crate::event_log::Entry;

pub mod admission;
mod arrivals;
pub mod bloom;
pub mod candidate;
pub mod dedupe;
pub mod drop_reason;
pub mod hotset;
pub mod metrics;
pub mod shard;

pub use candidate::{Candidate, Inbound, InboxGauge, Inboxes, Source};
pub use dedupe::{Dedupe, Layer, Look};
pub use drop_reason::DropReason;
pub use metrics::Metrics;

/// Notes that a batch is committed: its ids are seen from now on, and its events are counted.
pub fn committed(dedupe: &Dedupe, metrics: &Metrics, entries: &[Entry]) {
    dedupe.committed(entries);
    if let Some(last) = entries.last() {
        dedupe.clock().saw(last.received_at_ms);
    }
    metrics.committed(entries);
}
