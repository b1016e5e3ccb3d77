//! The JSON of a sink.

use schemars::JsonSchema;
use serde::Serialize;

use crate::api::events::lag_seconds;
use crate::event_log::{Cursor, EventLog, StorageError};
use crate::sink::{LostRange, Sink, SinkState};

/// A sink. `delivered` and the counts below it begin at the start of the gateway.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Sink")]
pub(in crate::api) struct Shown {
    name: String,
    /// `tcp` or `http`.
    kind: &'static str,
    /// The address, without a query.
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
        Ok(Self {
            name: sink.name.to_string(),
            kind: sink.kind,
            address: sink.address.to_string(),
            state: sink.state(),
            cursor,
            lag: head.get().saturating_sub(cursor.get()),
            lag_seconds: lag_seconds(log, cursor, head)?,
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
