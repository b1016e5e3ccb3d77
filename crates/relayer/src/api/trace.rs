//! Traces one event: which relay delivered it, which sinks and consumers have it, and which copies
//! with its id were refused.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;
use wire::{ClaimedId, VerifiedEvent};

use super::context::Context;
use super::description::errors::READ;
use super::description::{About, Tag};
use super::error::{ApiError, Details};
use super::events::{ID, event_id, on_disk};
use super::refusals::ShownRefusal;
use crate::event_log::query::Found;
use crate::event_log::{Cursor, DeadLetter, EventLog, Seq, StorageError};
use crate::gateway::Parts;
use crate::ingest::{Copies, UnknownCopies};
use crate::sink::Sink;

/// What is known about an event.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Trace {
    id: String,
    state: EventState,
    /// Null unless the event is or was in the log.
    seq: Option<Seq>,
    /// When the first copy was received, in Unix milliseconds; null unless the event is stored.
    received_at: Option<u64>,
    /// The relay that delivered the event first; null unless the event is stored.
    relay: Option<String>,
    /// The copies after the first, which are counted for one id in 32; null if they are not known.
    copies: Option<ShownCopies>,
    /// Why `copies` is null.
    copies_unknown: Option<WhyUnknown>,
    /// The copies with this id that were refused lately. Anyone can claim any id, so they need not
    /// be the genuine event.
    refusals: Vec<ShownRefusal>,
    /// Empty unless the event is or was in the log.
    sinks: Vec<AtSink>,
    /// The named consumers of `/ws`; empty unless the event is or was in the log.
    consumers: Vec<AtConsumer>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum EventState {
    /// The event is in the log.
    Stored,
    /// Retention deleted the event; its id and sequence are left.
    Trimmed,
    /// The event is verified and waits for its commit.
    InFlight,
    /// Only refused copies are known.
    NotStored,
}

/// The copies that came within a minute of the first. They are recognised by the id alone, so
/// forged copies count, too.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Copies")]
struct ShownCopies {
    count: u32,
    /// How late they came on average, in milliseconds; null without copies.
    mean_ms: Option<f64>,
    /// How late the last one came, in milliseconds; null without copies.
    last_ms: Option<f64>,
}

#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum WhyUnknown {
    /// Copies are counted for one id in 32, and this id is not among them.
    NotSampled,
    /// The event came before the start of the gateway, or newer events have taken its place.
    NotRecent,
    /// The event is neither in the log nor on its way into it.
    #[serde(rename = "not_stored")]
    Absent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Delivery {
    /// The cursor is at the event or after it. The receiver has the event, unless it began after
    /// the event, or an operator or a client moved its cursor past it.
    Passed,
    /// The cursor is before the event.
    Waiting,
    /// The sink does not want the event.
    NotSelected,
    /// The sink rejected the event, which is now a dead letter.
    DeadLetter,
    /// Retention deleted the event before the receiver had it.
    Lost,
}

/// Whether a sink has the event.
#[derive(Debug, Serialize, JsonSchema)]
struct AtSink {
    name: String,
    /// The sink's state, as in `/api/downstreams`.
    status: &'static str,
    cursor: Cursor,
    delivery: Delivery,
    /// Null unless the event is a dead letter.
    dead_letter: Option<Rejection>,
}

/// Why the event is a dead letter.
#[derive(Debug, Serialize, JsonSchema)]
struct Rejection {
    /// Unix milliseconds.
    refused_at: u64,
    tries: u32,
    reason: String,
    /// Whether the letter waits to be sent again.
    replaying: bool,
}

/// Whether a named consumer has acknowledged the event. A consumer may change its selection with
/// each connection, so the gateway does not know whether it wants the event.
#[derive(Debug, Serialize, JsonSchema)]
struct AtConsumer {
    name: String,
    cursor: Cursor,
    connected: bool,
    delivery: Delivery,
}

pub(super) const TRACE: About = About::new(Tag::Events, "Where an event came from, and who has it")
    .details(
        "Also says what was refused lately under this id. A refused copy need not be genuine: a forger can claim any \
         id, and most reasons are found before the signature is checked.",
    )
    .path(ID)
    .errors(&[
        READ,
        &[(StatusCode::BAD_REQUEST, "bad_event_id"), (StatusCode::NOT_FOUND, "event_not_found")],
    ]);

/// `GET /api/events/{id}/trace`
pub(super) async fn trace(
    State(context): State<Context>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Trace>, ApiError> {
    let id = event_id(id)?;
    let shared = context.clone();
    let trace = on_disk(move || Trace::of(&id, &shared)).await?;
    trace.map(Json).ok_or_else(|| not_found(&context))
}

fn not_found(gateway: &Parts) -> ApiError {
    // The floor is read first, so it is at most one above the head.
    let (oldest, newest) = (gateway.log.floor(), gateway.log.head());
    let complete_since_ms = gateway.refusals.extent(None).complete_since_ms;
    let secs = gateway.log.clock().unix_ms().saturating_sub(complete_since_ms) / 1000;
    let log = match newest {
        Cursor::START => "The log is empty".to_owned(),
        newest => format!("The log has the events from {oldest} to {newest}"),
    };
    let message = format!(
        "neither the log nor the record of refusals has this id: no relay has sent it, or it was forgotten. {log}, \
         and the record has all that were refused in the last {secs} s"
    );
    ApiError::not_found("event_not_found", message).with(Details {
        oldest: Some(oldest),
        newest: Some(newest),
        refusals_complete_since: Some(complete_since_ms),
        ..Details::default()
    })
}

impl Trace {
    /// Reads the disk. `None` if nothing is known about the id.
    fn of(id: &ClaimedId, gateway: &Parts) -> Result<Option<Self>, StorageError> {
        // The claims are read before the log: a claim is removed only after its event's commit.
        let is_in_flight = gateway.dedupe.is_in_flight(id);
        let found = gateway.log.find(id)?;
        let refusals = gateway.refusals.of(id);
        let state = match &found {
            Some(Found::Kept(_)) => EventState::Stored,
            Some(Found::Trimmed(_)) => EventState::Trimmed,
            None if is_in_flight => EventState::InFlight,
            None if refusals.is_empty() => return Ok(None),
            None => EventState::NotStored,
        };
        let (copies, copies_unknown) = match (state, gateway.dedupe.copies(id)) {
            (EventState::NotStored, _) => (None, Some(WhyUnknown::Absent)),
            (_, Ok(copies)) => (Some(copies.into()), None),
            (_, Err(unknown)) => (None, Some(unknown.into())),
        };
        let (seq, entry) = match found {
            Some(Found::Kept(entry)) => (Some(entry.seq), Some(entry)),
            Some(Found::Trimmed(seq)) => (Some(seq), None),
            None => (None, None),
        };
        let event = entry.as_ref().map(|entry| &entry.event);
        let (sinks, consumers) = match seq {
            Some(seq) => (at_sinks(gateway, seq, event)?, at_consumers(gateway, seq)),
            None => (Vec::new(), Vec::new()),
        };
        Ok(Some(Self {
            id: id.to_string(),
            state,
            seq,
            received_at: entry.as_ref().map(|entry| entry.received_at_ms),
            relay: entry.as_ref().map(|entry| entry.relay.to_string()),
            copies,
            copies_unknown,
            refusals: refusals.into_iter().map(ShownRefusal::from).collect(),
            sinks,
            consumers,
        }))
    }
}

/// `event` is `None` if the event is trimmed.
fn at_sinks(gateway: &Parts, seq: Seq, event: Option<&VerifiedEvent>) -> Result<Vec<AtSink>, StorageError> {
    let sinks = gateway.sinks.list();
    sinks.iter().map(|sink| AtSink::of(sink, seq, event, &gateway.log)).collect()
}

impl AtSink {
    fn of(
        sink: &Arc<Sink>,
        seq: Seq,
        event: Option<&VerifiedEvent>,
        log: &EventLog,
    ) -> Result<Self, StorageError> {
        // Read first: dead letters and losses are recorded before the cursor passes their events.
        let cursor = sink.cursor();
        let letter = sink.dead_letters.get(seq)?;
        let lost = sink.lost_ranges();
        let is_lost = lost.iter().any(|range| range.first <= seq && Cursor::after(seq) <= range.last);
        let delivery = match event {
            _ if letter.is_some() => Delivery::DeadLetter,
            _ if is_lost => Delivery::Lost,
            Some(event) if !sink.selection.wants(event) => Delivery::NotSelected,
            _ => Delivery::after(cursor, seq, log),
        };
        let rejection = |letter: DeadLetter| Rejection {
            refused_at: letter.refused_at_ms,
            tries: letter.tries,
            reason: letter.reason,
            replaying: sink.dead_letters.is_replaying(seq),
        };
        let (name, status) = (sink.name.to_string(), sink.state().label());
        Ok(Self { name, status, cursor, delivery, dead_letter: letter.map(rejection) })
    }
}

fn at_consumers(gateway: &Parts, seq: Seq) -> Vec<AtConsumer> {
    let consumers = gateway.consumers.list().into_iter().map(|(name, row)| AtConsumer {
        name: name.to_string(),
        cursor: row.cursor,
        connected: row.unused_since_ms == 0,
        delivery: Delivery::after(row.cursor, seq, &gateway.log),
    });
    consumers.collect()
}

impl Delivery {
    /// Compares a receiver's cursor with the event.
    fn after(cursor: Cursor, seq: Seq, log: &EventLog) -> Self {
        if cursor >= Cursor::after(seq) {
            Self::Passed
        } else if seq < log.floor() {
            Self::Lost
        } else {
            Self::Waiting
        }
    }
}

impl From<Copies> for ShownCopies {
    fn from(copies: Copies) -> Self {
        let late_max = (copies.count > 0).then_some(copies.late_max);
        Self {
            count: copies.count,
            mean_ms: copies.late_mean().map(milliseconds),
            last_ms: late_max.map(milliseconds),
        }
    }
}

impl From<UnknownCopies> for WhyUnknown {
    fn from(unknown: UnknownCopies) -> Self {
        match unknown {
            UnknownCopies::NotSampled => Self::NotSampled,
            UnknownCopies::NotRecent => Self::NotRecent,
        }
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}
