//! Serves metrics in the format of Prometheus, and as JSON for people and scripts.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use serde_json::{Map, Value, json};

use super::context::Context;
use super::relays;
use crate::gateway::MemoryPart;
use crate::telemetry::memory::memory_limit_bytes;
use crate::telemetry::resident_bytes;

/// The content type of the format that `prometheus_client` writes.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// `GET /metrics`
pub(super) async fn prometheus(State(context): State<Context>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, OPEN_METRICS)], context.metrics_text())
}

/// `GET /api/metrics/summary`
pub(super) async fn summary(State(context): State<Context>) -> Json<Value> {
    let metrics = &context.metrics;
    let (events_in_queue, bytes_in_queue) = context.inboxes.waiting();
    let resident = resident_bytes().unwrap_or_default();
    Json(json!({
        "events_processed_total": metrics.ingest.events_processed.get(),
        "duplicates_filtered_total": metrics.ingest.duplicates.total(),
        "events_dropped_total": metrics.ingest.dropped.total(),
        "frames_received_total": metrics.relay.frames_received.get(),
        "frame_bytes_received_total": metrics.relay.frame_bytes_received.get(),
        "events_in_queue": events_in_queue,
        "bytes_in_queue": bytes_in_queue,
        "active_connections": relays::active(&context),
        "websocket_clients": context.clients.connected(),
        "websocket_messages_total": metrics.websocket.messages.get(),
        "memory_usage_mb": (resident as f64 / f64::from(1 << 20) * 10.0).round() / 10.0,
        "log_head_seq": context.log.head(),
        "log_floor_seq": context.log.floor(),
        "uptime_seconds": context.uptime().as_secs(),
    }))
}

/// `GET /api/metrics/memory`: the resident memory by purpose. The parts and `unaccounted_bytes` add
/// up to `resident_bytes`.
pub(super) async fn memory_usage(State(context): State<Context>) -> Json<Value> {
    let memory = context.memory();
    let bytes = |part: MemoryPart| memory.parts[part];
    let tail_events = context.log.tail_figures().1;
    let bloom = context.dedupe.bloom();
    let (events_in_queue, _) = context.inboxes.waiting();
    let rocksdb = memory.rocksdb.iter().filter(|(name, _)| name.ends_with("_bytes"));
    let rocksdb: Map<String, Value> =
        rocksdb.map(|(name, bytes)| ((*name).to_owned(), (*bytes).into())).collect();
    let (bots, follows) = context.fanout().map_or((0, 0), |fanout| fanout.registry.directory().len());
    Json(json!({
        "resident_bytes": memory.resident,
        "limit_bytes": memory_limit_bytes(),
        "program": { "bytes": bytes(MemoryPart::Program) },
        "tail": { "bytes": bytes(MemoryPart::Tail), "events": tail_events },
        "bloom": {
            "bytes": bytes(MemoryPart::Bloom),
            "generations": bloom.figures().1,
            "complete": bloom.is_complete(),
        },
        "hotset": { "bytes": bytes(MemoryPart::Hotset) },
        "lru": { "bytes": bytes(MemoryPart::Lru), "ids": context.dedupe.lru_len() },
        "in_flight": { "bytes": bytes(MemoryPart::InFlight), "ids": context.dedupe.in_flight() },
        "queue": { "bytes": bytes(MemoryPart::Queue), "events": events_in_queue },
        "relay_connections": {
            "bytes": bytes(MemoryPart::RelayConnections), "connections": relays::active(&context),
        },
        "websocket_clients": {
            "bytes": bytes(MemoryPart::WebsocketClients), "clients": context.clients.connected(),
        },
        "fanout": { "bytes": bytes(MemoryPart::Fanout), "bots": bots, "follows": follows },
        "rocksdb": rocksdb,
        "accounted_bytes": memory.accounted(),
        "unaccounted_bytes": memory.unaccounted(),
    }))
}
