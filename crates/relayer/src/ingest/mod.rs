//! Turns frames that look new into verified events. Every event passes once, regardless of which
//! relays send it and in which order.
//!
//! [`dedupe`] is the seen set, with the layers [`hotset`], [`bloom`], an LRU and the event log.
//! Events whose ids are not in memory go to the [`shard`] of their author. A shard is one thread,
//! so it judges all copies of an event one after the other: it checks the log, parses, applies the
//! [`admission`] policy, verifies, and sends the event to the sequencer. Every refusal has a
//! [`drop_reason`], and [`refusals`] remembers the ids that were refused lately.

use crate::event_log::Entry;

pub mod admission;
mod arrivals;
mod bloom;
mod candidate;
pub mod dedupe;
mod drop_reason;
mod hotset;
mod metrics;
pub mod refusals;
pub mod shard;

pub use arrivals::{Copies, UnknownCopies};
pub use candidate::{Candidate, Inbound, InboxGauge, Inboxes, Source};
pub use dedupe::{Dedupe, Layer, Lookup};
pub use drop_reason::DropReason;
pub use metrics::Metrics;
pub use refusals::{Refusal, Refusals};

/// Called after each commit: adds the committed events to the seen set and to the counters.
pub fn committed(dedupe: &Dedupe, metrics: &Metrics, entries: &[Entry]) {
    dedupe.committed(entries);
    if let Some(last) = entries.last() {
        dedupe.clock().note_received(last.received_at_ms);
    }
    metrics.committed(entries);
}
