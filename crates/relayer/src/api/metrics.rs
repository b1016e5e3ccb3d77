//! Serves metrics in the format of Prometheus, and as JSON for people and scripts.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

use super::context::Context;
use super::description::{About, Tag};
use super::relays;
use crate::event_log::{Cursor, Seq};
use crate::telemetry::resident_bytes;

/// The content type of the format that `prometheus_client` writes.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) const PROMETHEUS: About =
    About::new(Tag::State, "All metrics, as OpenMetrics text").content(&["application/openmetrics-text"]);

/// `GET /metrics`
pub(super) async fn prometheus(State(context): State<Context>) -> Response {
    ([(header::CONTENT_TYPE, OPEN_METRICS)], context.metrics_text()).into_response()
}

/// The most important metrics. `docs/API.md` describes each at `GET /metrics`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Summary {
    events_processed_total: u64,
    duplicates_filtered_total: u64,
    events_dropped_total: u64,
    frames_received_total: u64,
    frame_bytes_received_total: u64,
    events_in_queue: usize,
    bytes_in_queue: usize,
    active_connections: usize,
    websocket_clients: usize,
    websocket_messages_total: u64,
    /// Resident memory in units of 2^20 bytes.
    memory_usage_mb: f64,
    log_head_seq: Cursor,
    log_floor_seq: Seq,
    uptime_seconds: u64,
}

pub(super) const SUMMARY: About = About::new(Tag::State, "The most important metrics");

/// `GET /api/metrics/summary`
pub(super) async fn summary(State(context): State<Context>) -> Json<Summary> {
    let metrics = &context.metrics;
    let (events_in_queue, bytes_in_queue) = context.inboxes.waiting();
    let resident = resident_bytes().unwrap_or_default();
    Json(Summary {
        events_processed_total: metrics.ingest.events_processed.get(),
        duplicates_filtered_total: metrics.ingest.duplicates.total(),
        events_dropped_total: metrics.ingest.dropped.total(),
        frames_received_total: metrics.relay.frames_received.get(),
        frame_bytes_received_total: metrics.relay.frame_bytes_received.get(),
        events_in_queue,
        bytes_in_queue,
        active_connections: relays::active(&context),
        websocket_clients: context.clients.connected(),
        websocket_messages_total: metrics.websocket.messages.get(),
        memory_usage_mb: (resident as f64 / f64::from(1 << 20) * 10.0).round() / 10.0,
        log_head_seq: context.log.head(),
        log_floor_seq: context.log.floor(),
        uptime_seconds: context.uptime().as_secs(),
    })
}

/// The memory by use. Not listed are the program itself, its threads and sockets, and memory that
/// the allocator holds.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Memory {
    /// Null if the system does not tell.
    resident_bytes: Option<u64>,
    /// The newest events, for consumers.
    tail: Events,
    bloom: Bloom,
    hotset: Hotset,
    lru: Ids,
    /// Events that are verified, but not yet committed.
    in_flight: Ids,
    /// Events between the relays' sockets and the commit.
    queue: Events,
    /// `live_sst_bytes` and `pending_compaction_bytes` are on disk.
    rocksdb: BTreeMap<&'static str, u64>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "MemoryOfEvents")]
struct Events {
    bytes: usize,
    events: usize,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "MemoryOfBloomFilter")]
struct Bloom {
    bytes: usize,
    generations: usize,
    /// Whether the filter has been rebuilt since the start.
    complete: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "MemoryOfHotset")]
struct Hotset {
    bytes: usize,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "NumberOfIds")]
struct Ids {
    ids: usize,
}

pub(super) const MEMORY: About = About::new(Tag::State, "Memory use by component");

/// `GET /api/metrics/memory`: the memory by purpose. The response leaves out the program itself,
/// its threads and sockets, and free memory that the allocator holds.
pub(super) async fn memory_usage(State(context): State<Context>) -> Json<Memory> {
    let (tail_bytes, tail_events) = context.log.tail_figures();
    let (bloom_bytes, bloom_generations) = context.dedupe.bloom().figures();
    let (events_in_queue, bytes_in_queue) = context.inboxes.waiting();
    let rocksdb = context.log.store().figures().filter(|(name, _)| name.ends_with("_bytes")).collect();
    Json(Memory {
        resident_bytes: resident_bytes(),
        tail: Events { bytes: tail_bytes, events: tail_events },
        bloom: Bloom {
            bytes: bloom_bytes,
            generations: bloom_generations,
            complete: context.dedupe.bloom().is_complete(),
        },
        hotset: Hotset { bytes: context.dedupe.hotset().bytes() },
        lru: Ids { ids: context.dedupe.lru_len() },
        in_flight: Ids { ids: context.dedupe.in_flight() },
        queue: Events { bytes: bytes_in_queue, events: events_in_queue },
        rocksdb,
    })
}
