//! Serves metrics in the format of Prometheus, and as JSON for people and scripts.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use serde_json::{Map, Value, json};

use super::context::Context;
use super::relays;
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

/// `GET /api/metrics/memory`: the memory by purpose. The response leaves out the program itself,
/// its threads and sockets, and free memory that the allocator holds.
pub(super) async fn memory_usage(State(context): State<Context>) -> Json<Value> {
    let (tail_bytes, tail_events) = context.log.tail_figures();
    let (bloom_bytes, bloom_generations) = context.dedupe.bloom().figures();
    let (events_in_queue, bytes_in_queue) = context.inboxes.waiting();
    let rocksdb: Map<String, Value> = context
        .log
        .store()
        .figures()
        .filter(|(name, _)| name.ends_with("_bytes"))
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect();
    Json(json!({
        "resident_bytes": resident_bytes(),
        "tail": { "bytes": tail_bytes, "events": tail_events },
        "bloom": {
            "bytes": bloom_bytes,
            "generations": bloom_generations,
            "complete": context.dedupe.bloom().is_complete(),
        },
        "hotset": { "bytes": context.dedupe.hotset().bytes() },
        "lru": { "ids": context.dedupe.lru_len() },
        "in_flight": { "ids": context.dedupe.in_flight() },
        "queue": { "bytes": bytes_in_queue, "events": events_in_queue },
        "rocksdb": rocksdb,
    }))
}
