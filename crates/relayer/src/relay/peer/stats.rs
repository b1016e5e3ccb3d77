//! Counts of what a relay sent since the start of the process.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::ingest::DropReason;

#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of one relay.
#[derive(Debug, Default)]
pub struct Stats {
    /// WebSocket messages received.
    pub frames: Count,
    /// Bytes in the payloads of these messages.
    pub bytes: Count,
    /// Messages with an event that we requested.
    pub events: Count,
    /// Events that this relay delivered first.
    pub first: Count,
    /// Duplicates of events that any relay had delivered before.
    pub copies: Count,
    /// Connections opened.
    pub connections: Count,
    /// Messages that are not events: NOTICE, CLOSED, NEG-ERR, OK and AUTH.
    pub notices: Count,
    /// How often the relay rate-limited us.
    pub rate_limited: Count,
    /// Requests sent to the relay.
    pub requests: Count,
    /// The summed lateness of the sampled duplicates.
    late_us: Count,
    /// The number of sampled duplicates.
    late_copies: Count,
    refused: [Count; DropReason::ALL.len()],
}

impl Stats {
    /// Adds a sample: how long after the first copy a duplicate arrived.
    pub fn late(&self, by: Duration) {
        self.late_us.add(u64::try_from(by.as_micros()).unwrap_or(u64::MAX));
        self.late_copies.add(1);
    }

    /// The average lateness of duplicates in milliseconds; `None` without samples.
    pub fn lateness_ms(&self) -> Option<f64> {
        let copies = self.late_copies.get();
        (copies > 0).then(|| self.late_us.get() as f64 / copies as f64 / 1000.0)
    }

    pub fn refuse(&self, reason: DropReason) {
        self.refuse_many(reason, 1);
    }

    pub(crate) fn refuse_many(&self, reason: DropReason, times: u64) {
        if let Some(count) = self.refused.get(reason.index()) {
            count.add(times);
        }
    }

    /// The refusals by reason, without reasons that did not occur.
    pub fn refused(&self) -> impl Iterator<Item = (DropReason, u64)> {
        let counts = DropReason::ALL.iter().zip(&self.refused);
        counts.map(|(reason, count)| (*reason, count.get())).filter(|(_, count)| *count > 0)
    }

    pub fn refused_total(&self) -> u64 {
        self.refused().map(|(_, count)| count).sum()
    }

    /// Refusals of altered events and wrong signatures.
    pub fn forgeries(&self) -> u64 {
        self.refused().filter(|(reason, _)| reason.is_forgery()).map(|(_, count)| count).sum()
    }

    /// Refusals that count against the offence budget.
    pub fn offences(&self) -> u64 {
        self.refused().filter(|(reason, _)| reason.is_offence()).map(|(_, count)| count).sum()
    }
}
