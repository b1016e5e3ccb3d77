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
use crate::gateway::MemoryPart;
use crate::telemetry::memory::memory_limit_bytes;
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

/// The resident memory by use. The parts and `unaccounted_bytes` add up to `resident_bytes`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Memory {
    /// Null if the system does not tell.
    resident_bytes: Option<u64>,
    /// The limit of the control group; null without one.
    limit_bytes: Option<u64>,
    /// The program itself.
    program: Bytes,
    /// The newest events, for consumers.
    tail: Events,
    bloom: Bloom,
    hotset: Bytes,
    lru: Ids,
    /// Events that are verified, but not yet committed.
    in_flight: Ids,
    /// Events between the relays' sockets and the commit.
    queue: Events,
    relay_connections: RelayConnections,
    websocket_clients: WebsocketClients,
    fanout: Fanout,
    /// `live_sst_bytes` and `pending_compaction_bytes` are on disk.
    rocksdb: BTreeMap<&'static str, u64>,
    accounted_bytes: u64,
    /// Threads, sockets, sinks, and memory that the allocator holds. Null if the system does not
    /// tell the resident memory.
    unaccounted_bytes: Option<i64>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "MemoryOfPart")]
struct Bytes {
    bytes: usize,
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
#[schemars(rename = "MemoryOfIds")]
struct Ids {
    bytes: usize,
    ids: usize,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "MemoryOfRelayConnections")]
struct RelayConnections {
    bytes: usize,
    connections: usize,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "MemoryOfClients")]
struct WebsocketClients {
    bytes: usize,
    clients: usize,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "MemoryOfFanout")]
struct Fanout {
    bytes: usize,
    bots: usize,
    follows: usize,
}

pub(super) const MEMORY: About = About::new(Tag::State, "Memory use by component");

/// `GET /api/metrics/memory`
pub(super) async fn memory_usage(State(context): State<Context>) -> Json<Memory> {
    let memory = context.memory();
    let bytes = |part: MemoryPart| memory.parts[part];
    let bloom = context.dedupe.bloom();
    let (bots, follows) = context.fanout().map_or((0, 0), |fanout| fanout.registry.directory().len());
    let rocksdb = memory.rocksdb.iter().filter(|(name, _)| name.ends_with("_bytes"));
    Json(Memory {
        resident_bytes: memory.resident,
        limit_bytes: memory_limit_bytes(),
        program: Bytes { bytes: bytes(MemoryPart::Program) },
        tail: Events { bytes: bytes(MemoryPart::Tail), events: context.log.tail_figures().1 },
        bloom: Bloom {
            bytes: bytes(MemoryPart::Bloom),
            generations: bloom.figures().1,
            complete: bloom.is_complete(),
        },
        hotset: Bytes { bytes: bytes(MemoryPart::Hotset) },
        lru: Ids { bytes: bytes(MemoryPart::Lru), ids: context.dedupe.lru_len() },
        in_flight: Ids { bytes: bytes(MemoryPart::InFlight), ids: context.dedupe.in_flight() },
        queue: Events { bytes: bytes(MemoryPart::Queue), events: context.inboxes.waiting().0 },
        relay_connections: RelayConnections {
            bytes: bytes(MemoryPart::RelayConnections),
            connections: relays::active(&context),
        },
        websocket_clients: WebsocketClients {
            bytes: bytes(MemoryPart::WebsocketClients),
            clients: context.clients.connected(),
        },
        fanout: Fanout { bytes: bytes(MemoryPart::Fanout), bots, follows },
        rocksdb: rocksdb.map(|(name, bytes)| (*name, *bytes)).collect(),
        accounted_bytes: memory.accounted(),
        unaccounted_bytes: memory.unaccounted(),
    })
}
