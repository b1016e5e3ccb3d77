//! Figures: for Prometheus, and as JSON for people and scripts.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use prometheus_client::metrics::gauge::Gauge;
use serde_json::{Map, Value, json};

use super::context::Context;
use super::relays;
use crate::clock::unix_secs;
use crate::relay::{ConnectionState, Peer};
use crate::sink::SinkStatus;
use crate::telemetry::{Metrics, log_buffer, memory};
use crate::watchdog;

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
    refresh_relays(metrics, &context.pool.peers());
    let (events, bytes) = context.inboxes.waiting();
    set(&metrics.events_in_queue, events as u64);
    set(&metrics.bytes_in_queue, bytes as u64);
    set(&metrics.log_head, context.log.head().get());
    set(&metrics.log_floor, context.log.floor().get());
    metrics.panics.inner().store(watchdog::panics(), Ordering::Relaxed);
    metrics.log_lines_lost.inner().store(log_buffer::lines_lost(), Ordering::Relaxed);
    set(&metrics.ingest_paused, context.disk_full.is_paused().into());
    let clock = context.log.clock().standing();
    metrics.clock_steps.inner().store(clock.steps, Ordering::Relaxed);
    set(&metrics.clock_in_doubt, (!clock.deletes_by_age).into());
    for sink in context.sinks.iter() {
        metrics.set_sink_state(&sink.name, &SinkStatus::ALL.map(SinkStatus::label), sink.state().label());
        let lag = context.log.head().get().saturating_sub(sink.cursor().get());
        set(&metrics.downstream_lag.get_or_create(&metrics.sink_label(&sink.name)), lag);
    }
    for (figure, value) in context.log.store().figures() {
        metrics.set_rocksdb(figure, value);
    }
}

/// Reads what is known of the relays into the gauges.
fn refresh_relays(metrics: &Metrics, peers: &[Arc<Peer>]) {
    let now = unix_secs();
    let mut states = [0; ConnectionState::LABELS.len()];
    let (mut connected, mut silent, mut repairs) = (0, 0, 0);
    let (mut gaps, mut with_gaps, mut proven, mut lag) = (0, 0, 0, 0);
    for peer in peers {
        let state = peer.state();
        let place = ConnectionState::LABELS.iter().position(|label| *label == state.label());
        if let Some(count) = place.and_then(|place| states.get_mut(place)) {
            *count += 1;
        }
        connected += u64::from(state.is_connected());
        silent += u64::from(peer.is_silent());
        repairs += u64::from(peer.repair().is_some());
        let Some(coverage) = peer.coverage() else { continue };
        gaps += coverage.gaps().len() as u64;
        with_gaps += u64::from(!coverage.gaps().is_empty());
        proven += u64::from(coverage.gaps().is_empty());
        if state.is_connected() {
            lag = lag.max(now.saturating_sub(coverage.proven_until().unwrap_or(coverage.from())));
        }
    }
    for (label, count) in ConnectionState::LABELS.into_iter().zip(states) {
        metrics.set_relays(label, count);
    }
    set(&metrics.active_connections, connected);
    set(&metrics.relays_silent, silent);
    set(&metrics.repairs, repairs);
    set(&metrics.relay_gaps, gaps);
    set(&metrics.relays_with_gaps, with_gaps);
    set(&metrics.relays_proven, proven);
    set(&metrics.relays_lag, lag);
}

fn set(gauge: &Gauge, value: u64) {
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
}
