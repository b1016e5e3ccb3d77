//! What a relay sent, counted since the start of the process.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::ingest::DropReason;

/// A count that only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Counts.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// How many.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a relay sent.
#[derive(Debug, Default)]
pub struct Stats {
    /// WebSocket messages.
    pub frames: Count,
    /// Bytes of their payloads.
    pub bytes: Count,
    /// Of the messages, those with an event that was asked for.
    pub events: Count,
    /// Events that it was the first to deliver.
    pub first: Count,
    /// Copies of events that others had delivered, or it itself.
    pub copies: Count,
    /// Connections that were opened.
    pub connections: Count,
    /// `NOTICE`, `CLOSED` and `AUTH` messages.
    pub notices: Count,
    /// How often it said that we ask too much.
    pub rate_limited: Count,
    /// Requests that we sent.
    pub requests: Count,
    /// How late its copies came, together.
    late_us: Count,
    /// Of how many copies that is: a sample.
    late_copies: Count,
    refused: [Count; DropReason::ALL.len()],
}

impl Stats {
    /// Notes how long after the first copy of its event another one came.
    pub fn late(&self, by: Duration) {
        self.late_us.add(u64::try_from(by.as_micros()).unwrap_or(u64::MAX));
        self.late_copies.add(1);
    }

    /// How late its copies are on average, in milliseconds; `None` if none was looked at.
    pub fn lateness_ms(&self) -> Option<f64> {
        let copies = self.late_copies.get();
        (copies > 0).then(|| self.late_us.get() as f64 / copies as f64 / 1000.0)
    }

    /// Counts something that was refused.
    pub fn refuse(&self, reason: DropReason) {
        self.refuse_many(reason, 1);
    }

    /// Counts so many things that were refused.
    pub(crate) fn refuse_many(&self, reason: DropReason, times: u64) {
        if let Some(count) = self.refused.get(reason.index()) {
            count.add(times);
        }
    }

    /// What was refused, by reason, without the reasons that did not occur.
    pub fn refused(&self) -> impl Iterator<Item = (DropReason, u64)> {
        let counts = DropReason::ALL.iter().zip(&self.refused);
        counts.map(|(reason, count)| (*reason, count.get())).filter(|(_, count)| *count > 0)
    }

    /// Everything that was refused.
    pub fn refused_total(&self) -> u64 {
        self.refused().map(|(_, count)| count).sum()
    }

    /// Altered events and wrong signatures.
    pub fn forgeries(&self) -> u64 {
        self.refused().filter(|(reason, _)| reason.is_forgery()).map(|(_, count)| count).sum()
    }
}
