//! Figures: for Prometheus, and as JSON for people and scripts.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use prometheus_client::metrics::gauge::Gauge;
use serde_json::{Map, Value, json};

use super::context::Context;
use super::relays;
use crate::relay::ConnectionState;
use crate::telemetry::memory;

/// What `prometheus_client` writes.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// `GET /metrics`
pub(super) async fn prometheus(State(context): State<Context>) -> impl IntoResponse {
    refresh(&context);
    ([(header::CONTENT_TYPE, OPEN_METRICS)], context.metrics.encode())
}

/// `GET /api/metrics/summary`
pub(super) async fn summary(State(context): State<Context>) -> Json<Value> {
    let metrics = &context.metrics;
    let (events_in_queue, bytes_in_queue) = context.inboxes.waiting();
    let resident_bytes = memory::resident_bytes().unwrap_or_default();
    Json(json!({
        "events_processed_total": metrics.events_processed.get(),
        "duplicates_filtered_total": metrics.duplicates_total(),
        "events_dropped_total": metrics.dropped_total(),
        "frames_received_total": metrics.frames_received.get(),
        "frame_bytes_received_total": metrics.frame_bytes_received.get(),
        "events_in_queue": events_in_queue,
        "bytes_in_queue": bytes_in_queue,
        "active_connections": relays::active(&context),
        "websocket_clients": context.clients().connected(),
        "websocket_messages_total": metrics.websocket_messages.get(),
        "memory_usage_mb": (resident_bytes as f64 / f64::from(1 << 20) * 10.0).round() / 10.0,
        "log_head_seq": context.log.head(),
        "log_floor_seq": context.log.floor(),
        "uptime_seconds": context.uptime().as_secs(),
    }))
}

/// `GET /api/metrics/memory`: where the memory is. What is not named here is the program, its threads and
/// sockets, and what the allocator keeps.
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
        "resident_bytes": memory::resident_bytes(),
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

/// Reads the figures that others keep into the gauges.
fn refresh(context: &Context) {
    let metrics = &context.metrics;
    if let Some(bytes) = memory::resident_bytes() {
        set(&metrics.memory_usage, bytes);
    }
    let states: Vec<ConnectionState> = context.pool.peers().iter().map(|peer| peer.state()).collect();
    let count =
        |wanted: &dyn Fn(&ConnectionState) -> bool| states.iter().filter(|state| wanted(state)).count();
    set(&metrics.active_connections, count(&ConnectionState::is_connected) as u64);
    for label in ConnectionState::LABELS {
        metrics.set_relays(label, count(&|state| state.label() == label));
    }
    let (events, bytes) = context.inboxes.waiting();
    set(&metrics.events_in_queue, events as u64);
    set(&metrics.bytes_in_queue, bytes as u64);
    set(&metrics.log_head, context.log.head().get());
    set(&metrics.log_floor, context.log.floor().get());
    set(&metrics.ingest_paused, context.disk_full.is_paused().into());
    for (figure, value) in context.log.store().figures() {
        metrics.set_rocksdb(figure, value);
    }
}

fn set(gauge: &Gauge, value: u64) {
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
}
