//! The entries of the log, and the numbers that identify them.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;
use wire::VerifiedEvent;

use super::log_id::LogId;
use super::mark::Checkpoint;

/// The sequence number of an event in the log, from 1. A number is never assigned to another event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Seq(u64);

impl Seq {
    pub const FIRST: Self = Self(1);

    /// The number, as in envelopes and keys.
    pub const fn get(self) -> u64 {
        self.0
    }

    pub(super) const fn new(number: u64) -> Self {
        Self(number)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The last sequence that a consumer has handled; 0 before the first event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Cursor(u64);

impl Cursor {
    /// The cursor before the first event.
    pub const START: Self = Self(0);

    /// The cursor after every event of the log.
    pub const END: Self = Self(u64::MAX);

    /// A cursor that a client sent. Any number is allowed, even one beyond the log.
    pub const fn from_number(number: u64) -> Self {
        Self(number)
    }

    /// The cursor of a consumer that has handled `seq`.
    pub const fn after(seq: Seq) -> Self {
        Self(seq.0)
    }

    /// The cursor of a consumer whose next event is `seq`.
    pub const fn before(seq: Seq) -> Self {
        Self(seq.0.saturating_sub(1))
    }

    /// The number, as in URLs.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The first sequence that has not been handled.
    pub const fn next(self) -> Seq {
        Seq(self.0.saturating_add(1))
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A verified event that is to be written to the log.
#[derive(Debug)]
pub struct Verified {
    pub event: VerifiedEvent,
    /// The relay that delivered the event first.
    pub relay: Arc<str>,
    /// When the event's frame was read, in Unix milliseconds.
    pub received_at_ms: u64,
    /// When the event's frame was read, on the monotonic clock. Used for latencies.
    pub received: Instant,
    /// The event's share of the byte budget between sockets and commit. Dropping the permit
    /// releases the share.
    pub budget: Option<OwnedSemaphorePermit>,
}

/// What a shard sends to the sequencer, in the order of reading.
#[derive(Debug)]
pub enum Submission {
    Event(Verified),
    /// A mark that has passed this shard.
    Checkpoint(Arc<Checkpoint>),
}

impl From<Verified> for Submission {
    fn from(verified: Verified) -> Self {
        Self::Event(verified)
    }
}

/// An event in the log.
#[derive(Debug)]
pub struct Entry {
    pub seq: Seq,
    /// The log that assigned the number.
    pub log: LogId,
    /// When the first copy of the event was received, in Unix milliseconds.
    pub received_at_ms: u64,
    /// The URL of the relay that delivered the event first.
    pub relay: Arc<str>,
    pub event: VerifiedEvent,
    /// When the event's frame was read; `None` for an entry from RocksDB.
    pub received: Option<Instant>,
    envelope: OnceLock<Bytes>,
}

impl Entry {
    pub(super) const fn new(
        log: LogId,
        seq: Seq,
        received_at_ms: u64,
        relay: Arc<str>,
        event: VerifiedEvent,
    ) -> Self {
        Self { seq, log, received_at_ms, relay, event, received: None, envelope: OnceLock::new() }
    }

    /// `{"seq":N,"log":"<16 hex digits>","received_at":<unix ms>,"relay":"wss://…","event":{…}}`,
    /// serialised once for all consumers. The bytes are valid UTF-8.
    pub fn envelope(&self) -> &Bytes {
        self.envelope.get_or_init(|| {
            let relay = serde_json::Value::from(&*self.relay);
            let head = format!(
                r#"{{"seq":{},"log":"{}","received_at":{},"relay":{relay},"event":"#,
                self.seq, self.log, self.received_at_ms
            );
            [head.as_bytes(), self.event.json(), b"}"].concat().into()
        })
    }

    /// A copy that can outlive the batch of this entry. The copy shares the bytes of the event and
    /// of the envelope.
    pub fn copied(&self) -> Self {
        Self {
            seq: self.seq,
            log: self.log,
            received_at_ms: self.received_at_ms,
            relay: Arc::clone(&self.relay),
            event: self.event.clone(),
            received: self.received,
            envelope: self.envelope.clone(),
        }
    }

    /// An estimate of the bytes in memory.
    pub(super) fn footprint(&self) -> usize {
        // Counts the JSON twice, because the envelope, which repeats it, will probably be needed.
        size_of::<Self>() + 2 * self.event.json().len() + 100
    }
}
