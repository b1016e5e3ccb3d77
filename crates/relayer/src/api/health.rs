//! Liveness, readiness and status.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::context::Context;
use super::error::ApiError;
use super::relays;
use crate::clock::{ClockStatus, Step};
use crate::fanout::registry::Health;

/// `GET /health`: shows that the process responds.
pub(super) async fn health() -> Json<Value> {
    Json(json!({ "status": "healthy", "service": env!("CARGO_PKG_NAME") }))
}

/// `GET /ready`: tells whether the gateway accepts events. Relay connections do not count, because
/// they depend on the relays.
pub(super) async fn ready(State(context): State<Context>) -> Result<Json<Value>, ApiError> {
    if context.clients.is_draining() {
        return Err(ApiError::unavailable("not_ready", "the gateway is stopping"));
    }
    if context.disk_full.is_paused() {
        return Err(ApiError::unavailable(
            "not_ready",
            "the disk is full: ingest is paused and resumes by itself when there is room ([storage] \
             min_free_bytes)",
        ));
    }
    Ok(Json(json!({ "status": "ready", "service": env!("CARGO_PKG_NAME") })))
}

/// `GET /status`
pub(super) async fn status(State(context): State<Context>) -> Json<Value> {
    let (events_in_queue, bytes_in_queue) = context.inboxes.waiting();
    let relays = relays::connections(&context);
    Json(json!({
        "service": env!("CARGO_PKG_NAME"),
        "version": env!("CARGO_PKG_VERSION"),
        "started_at": context.started_at_ms(),
        "uptime_seconds": context.uptime().as_secs(),
        "ingest_paused": context.disk_full.is_paused(),
        "log": { "id": context.log.id(), "head": context.log.head(), "floor": context.log.floor() },
        "clock": clock(&context),
        "bloom_complete": context.dedupe.bloom().is_complete(),
        "events_in_queue": events_in_queue,
        "bytes_in_queue": bytes_in_queue,
        "websocket_enabled": context.websocket().is_enabled,
        "websocket_clients": context.clients.connected(),
        "fanout": fanout(&context),
        "active_connections": relays::active(&context),
        "connections": relays,
    }))
}

fn clock(context: &Context) -> Value {
    let ClockStatus { steps, last_step, agrees, deletes_by_age } = context.log.clock().status();
    json!({
        "steps": steps,
        "last_step": last_step.map(|Step { at_ms, by_ms }| json!({ "at_ms": at_ms, "by_ms": by_ms })),
        "agrees": agrees,
        "deletes_by_age": deletes_by_age,
    })
}

fn fanout(context: &Context) -> Value {
    let Some(fanout) = context.fanout() else { return json!({ "enabled": false }) };
    let (bots, follows) = fanout.registry.directory().len();
    let (state, since, reason) = match fanout.registry.health() {
        Health::Up => ("up", None, None),
        Health::ReadOnly { since_ms } => ("read_only", Some(since_ms), Some("its database is read-only")),
        Health::Down { since_ms, reason, .. } => ("down", Some(since_ms), Some(reason)),
    };
    json!({
        "enabled": true,
        "clients": fanout.clients.connected(),
        "bots": bots,
        "follows": follows,
        "registry": {
            "store": fanout.registry.store_name(), "state": state, "down_since": since, "reason": reason,
        },
    })
}
