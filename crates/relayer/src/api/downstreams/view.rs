//! The JSON of a sink.

use serde::Serialize;

use crate::clock::unix_ms;
use crate::event_log::{Cursor, EventLog, StorageError};
use crate::sink::{LostRange, Sink, SinkState};

#[derive(Debug, Serialize)]
pub(super) struct Shown {
    name: String,
    kind: &'static str,
    address: String,
    /// The `status` and the data of the state.
    #[serde(flatten)]
    state: SinkState,
    /// The sink has all events up to this cursor.
    cursor: Cursor,
    /// The number of sequences from the cursor to the head.
    lag: u64,
    /// The age of the oldest event after the cursor.
    lag_seconds: f64,
    delivered: u64,
    events_per_second: f64,
    reconnects: u64,
    ack_errors: u64,
    retries: u64,
    refused: u64,
    dead_letters: usize,
    dead_letters_dropped: u64,
    replaying: usize,
    lost: u64,
    lost_ranges: Vec<LostRange>,
    last_error: Option<String>,
}

impl Shown {
    /// Reads the reception time of the first undelivered event from the disk, which blocks.
    pub(super) fn of(sink: &Sink, log: &EventLog, head: Cursor) -> Result<Self, StorageError> {
        let cursor = sink.cursor();
        let next_ms = if cursor < head { log.received_after(cursor)? } else { None };
        let lag_ms = next_ms.map_or(0, |received_ms| unix_ms().saturating_sub(received_ms));
        Ok(Self {
            name: sink.name.to_string(),
            kind: sink.kind,
            address: sink.address.to_string(),
            state: sink.state(),
            cursor,
            lag: head.get().saturating_sub(cursor.get()),
            lag_seconds: lag_ms as f64 / 1000.0,
            delivered: sink.delivered.get(),
            events_per_second: (sink.rate() * 10.0).round() / 10.0,
            reconnects: sink.reconnects.get(),
            ack_errors: sink.ack_errors.get(),
            retries: sink.retries.get(),
            refused: sink.dead_letters.refused(),
            dead_letters: sink.dead_letters.len(),
            dead_letters_dropped: sink.dead_letters.dropped(),
            replaying: sink.dead_letters.replaying(),
            lost: sink.lost.get(),
            lost_ranges: sink.lost_ranges(),
            last_error: sink.last_error(),
        })
    }
}
