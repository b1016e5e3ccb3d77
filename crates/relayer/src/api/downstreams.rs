//! The sinks: how each stands, and how far it is.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::{Value, json};

use super::context::Context;
use crate::downstream::{Sink, SinkState};
use crate::event_log::Cursor;

/// One sink, as it is shown.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    name: &'a str,
    kind: &'static str,
    address: &'a str,
    /// `status`, and what belongs to it.
    #[serde(flatten)]
    state: SinkState,
    /// Up to where it has everything.
    cursor: Cursor,
    /// Sequences from there to the head.
    lag: u64,
    delivered: u64,
    reconnects: u64,
    ack_errors: u64,
    lost: u64,
    last_error: Option<String>,
}

impl<'a> Shown<'a> {
    fn of(sink: &'a Sink, head: Cursor) -> Self {
        let cursor = sink.cursor();
        Self {
            name: &sink.name,
            kind: sink.kind,
            address: &sink.address,
            state: sink.state(),
            cursor,
            lag: head.get().saturating_sub(cursor.get()),
            delivered: sink.delivered.get(),
            reconnects: sink.reconnects.get(),
            ack_errors: sink.ack_errors.get(),
            lost: sink.lost.get(),
            last_error: sink.last_error(),
        }
    }
}

/// `GET /api/downstreams`
pub(super) async fn list(State(context): State<Context>) -> Json<Value> {
    let head = context.log.head();
    let shown: Vec<Shown<'_>> = context.sinks.iter().map(|sink| Shown::of(sink, head)).collect();
    Json(json!({ "head": head, "downstreams": shown }))
}
