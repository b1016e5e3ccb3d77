//! Liveness, readiness and status.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use super::context::Context;
use super::description::{About, Tag};
use super::error::ApiError;
use super::relays::{self, Connection};
use crate::clock::{ClockStatus, Step};
use crate::event_log::{Cursor, LogId, Seq};
use crate::fanout::registry::Health;
use crate::overview::NotReady;

/// A short answer of the gateway about itself.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Liveness {
    status: &'static str,
    service: &'static str,
    version: &'static str,
}

impl Liveness {
    const fn new(status: &'static str) -> Json<Self> {
        Json(Self { status, service: env!("CARGO_PKG_NAME"), version: env!("CARGO_PKG_VERSION") })
    }
}

pub(super) const HEALTH: About = About::new(Tag::State, "Whether the process responds");

/// `GET /health`: shows that the process responds.
pub(super) async fn health() -> Json<Liveness> {
    Liveness::new("healthy")
}

pub(super) const READY: About = About::new(Tag::State, "Whether the gateway admits events")
    .details("It does even if no relay is connected, but not while the disk is full, and not while it stops.")
    .errors(&[&[(StatusCode::SERVICE_UNAVAILABLE, "not_ready")]]);

/// `GET /ready`: tells whether the gateway accepts events.
pub(super) async fn ready(State(context): State<Context>) -> Result<Json<Liveness>, ApiError> {
    match NotReady::of(&context) {
        Some(why) => Err(ApiError::unavailable("not_ready", why.message())),
        None => Ok(Liveness::new("ready")),
    }
}

/// The state of the gateway and its relays.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Status {
    service: &'static str,
    version: &'static str,
    /// Unix milliseconds.
    started_at: u64,
    uptime_seconds: u64,
    /// Whether ingest is paused because the disk is full.
    ingest_paused: bool,
    log: LogStatus,
    clock: ShownClock,
    /// Whether the Bloom filter, which saves disk look-ups, has been rebuilt since the start.
    bloom_complete: bool,
    events_in_queue: usize,
    bytes_in_queue: usize,
    websocket_enabled: bool,
    websocket_clients: usize,
    fanout: FanoutStatus,
    /// The number of relays with an open connection.
    active_connections: usize,
    connections: Vec<Connection>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct LogStatus {
    id: LogId,
    /// The newest sequence.
    head: Cursor,
    /// The oldest sequence that is kept; `head + 1` if none is.
    floor: Seq,
}

/// Whether the clock can be trusted.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Clock")]
struct ShownClock {
    /// How often the clock was set while the gateway ran.
    steps: u64,
    last_step: Option<ShownStep>,
    /// Whether live events of the last minutes match the clock; null if there were none.
    agrees: Option<bool>,
    /// False while the clock is in doubt.
    deletes_by_age: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ClockStep")]
struct ShownStep {
    /// Unix milliseconds.
    at_ms: u64,
    /// By how much the clock was set forward; negative if it was set back.
    by_ms: i64,
}

/// The fan-out. All fields but `enabled` are absent if it is disabled.
#[derive(Debug, Serialize, JsonSchema)]
struct FanoutStatus {
    enabled: bool,
    #[serde(flatten)]
    running: Option<FanoutFigures>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct FanoutFigures {
    clients: usize,
    bots: usize,
    follows: usize,
    registry: RegistryStatus,
}

/// Where bots and followers are stored.
#[derive(Debug, Serialize, JsonSchema)]
struct RegistryStatus {
    /// `embedded` or `postgres`.
    store: &'static str,
    state: RegistryState,
    /// Unix milliseconds; null while it is up.
    down_since: Option<u64>,
    reason: Option<&'static str>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum RegistryState {
    Up,
    /// The database can be read, but not written.
    ReadOnly,
    Down,
}

pub(super) const STATUS: About = About::new(Tag::State, "The state of the gateway and its relays");

/// `GET /status`
pub(super) async fn status(State(context): State<Context>) -> Json<Status> {
    let (events_in_queue, bytes_in_queue) = context.inboxes.waiting();
    let connections = relays::connections(&context);
    Json(Status {
        service: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        started_at: context.started_at_ms(),
        uptime_seconds: context.uptime().as_secs(),
        ingest_paused: context.disk_full.is_paused(),
        log: LogStatus { id: context.log.id(), head: context.log.head(), floor: context.log.floor() },
        clock: clock(&context),
        bloom_complete: context.dedupe.bloom().is_complete(),
        events_in_queue,
        bytes_in_queue,
        websocket_enabled: context.websocket().is_enabled,
        websocket_clients: context.clients.connected(),
        fanout: fanout(&context),
        active_connections: relays::active(&context),
        connections,
    })
}

fn clock(context: &Context) -> ShownClock {
    let ClockStatus { steps, last_step, agrees, deletes_by_age } = context.log.clock().status();
    let last_step = last_step.map(|Step { at_ms, by_ms }| ShownStep { at_ms, by_ms });
    ShownClock { steps, last_step, agrees, deletes_by_age }
}

fn fanout(context: &Context) -> FanoutStatus {
    let running = context.fanout().map(|fanout| {
        let (bots, follows) = fanout.registry.directory().len();
        let (state, down_since, reason) = match fanout.registry.health() {
            Health::Up => (RegistryState::Up, None, None),
            Health::ReadOnly { since_ms } => {
                (RegistryState::ReadOnly, Some(since_ms), Some("its database is read-only"))
            }
            Health::Down { since_ms, reason, .. } => (RegistryState::Down, Some(since_ms), Some(reason)),
        };
        let registry = RegistryStatus { store: fanout.registry.store_name(), state, down_since, reason };
        FanoutFigures { clients: fanout.clients.connected(), bots, follows, registry }
    });
    FanoutStatus { enabled: running.is_some(), running }
}
