//! The JSON of the overview.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use strum::IntoEnumIterator;

use super::figures::Figures;
use super::reading::{Latencies, Rates};
use super::warnings::{self, Severity, Warning};
use crate::event_log::{Cursor, LogId, Seq};
use crate::sink::SinkStatus;

/// The state of the gateway at a glance. Null means unknown.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Overview {
    service: &'static str,
    version: &'static str,
    /// When these figures were computed, in Unix milliseconds.
    at: u64,
    /// Unix milliseconds.
    started_at: u64,
    uptime_seconds: u64,
    state: State,
    /// Whether the gateway admits events, as `GET /ready` answers.
    ready: bool,
    /// Problems first.
    warnings: Vec<Warning>,
    /// The time that `rates` and `latency` cover.
    interval_seconds: f64,
    rates: Rates,
    latency: Latencies,
    log: Log,
    memory: Memory,
    disk: Disk,
    queue: Queue,
    relays: Relays,
    sinks: Sinks,
    clients: Clients,
    fanout: Fanout,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "OverviewState")]
enum State {
    Healthy,
    /// An operator has to do something: a warning is a problem.
    Degraded,
    /// The gateway admits no events.
    NotReady,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "OverviewLog")]
struct Log {
    id: LogId,
    /// The newest sequence.
    head: Cursor,
    /// The oldest sequence that is kept; `head + 1` if none is.
    floor: Seq,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "OverviewMemory")]
struct Memory {
    resident_bytes: Option<u64>,
    /// The limit of the control group, or the memory of the machine.
    limit_bytes: Option<u64>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "OverviewDisk")]
struct Disk {
    /// The tables of the log, without its write-ahead log.
    log_bytes: u64,
    free_bytes: Option<u64>,
    /// Ingest pauses below this.
    min_free_bytes: u64,
    /// The disk counts as almost full below this.
    low_bytes: u64,
}

/// Events between sockets and commit.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "OverviewQueue")]
struct Queue {
    events: usize,
    bytes: usize,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "OverviewRelays")]
struct Relays {
    total: usize,
    connected: usize,
    states: BTreeMap<&'static str, usize>,
    /// Connected relays that send no events while others do.
    silent: usize,
    with_gaps: usize,
    /// Relays without gaps.
    proven: usize,
    /// Relays from which past events are being requested.
    repairing: usize,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "OverviewSinks")]
struct Sinks {
    total: usize,
    states: BTreeMap<&'static str, usize>,
    dead_letters: usize,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "OverviewClients")]
struct Clients {
    /// Clients of `/ws` and of event streams.
    connected: usize,
    event_streams: usize,
    /// Named consumers, connected or not.
    consumers: usize,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "OverviewFanout")]
struct Fanout {
    enabled: bool,
    clients: usize,
    bots: usize,
    follows: usize,
}

/// When figures were computed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// Unix milliseconds.
    pub at: u64,
    /// Unix milliseconds.
    pub started_at: u64,
    pub uptime_seconds: u64,
}

impl Overview {
    pub(super) fn new(figures: &Figures, Times { at, started_at, uptime_seconds }: Times) -> Self {
        let warnings = warnings::of(figures);
        let is_degraded = warnings.iter().any(|warning| warning.severity == Severity::Problem);
        let state = match figures.not_ready {
            Some(_) => State::NotReady,
            None if is_degraded => State::Degraded,
            None => State::Healthy,
        };
        let relays = &figures.relays;
        let states = relays.states.iter().map(|(state, group)| (state.into(), group.count));
        let fanout = figures.fanout.unwrap_or_default();
        Self {
            service: env!("CARGO_PKG_NAME"),
            version: env!("CARGO_PKG_VERSION"),
            at,
            started_at,
            uptime_seconds,
            state,
            ready: figures.not_ready.is_none(),
            warnings,
            interval_seconds: figures.interval.seconds,
            rates: figures.interval.rates,
            latency: figures.interval.latency,
            log: Log { id: figures.log, head: figures.head, floor: figures.floor },
            memory: Memory {
                resident_bytes: figures.resident_bytes,
                limit_bytes: figures.memory_limit_bytes,
            },
            disk: Disk {
                log_bytes: figures.log_bytes,
                free_bytes: figures.free_bytes,
                min_free_bytes: figures.min_free_bytes,
                low_bytes: figures.low_bytes(),
            },
            queue: Queue { events: figures.queue.0, bytes: figures.queue.1 },
            relays: Relays {
                total: relays.total,
                connected: relays.connected,
                states: states.collect(),
                silent: relays.silent.count,
                with_gaps: relays.with_gaps.count,
                proven: relays.proven,
                repairing: relays.repairing,
            },
            sinks: Sinks::of(figures),
            clients: Clients {
                connected: figures.clients,
                event_streams: figures.event_streams,
                consumers: figures.consumers,
            },
            fanout: Fanout {
                enabled: figures.fanout.is_some(),
                clients: fanout.clients,
                bots: fanout.bots,
                follows: fanout.follows,
            },
        }
    }
}

impl Sinks {
    fn of(figures: &Figures) -> Self {
        let mut states: BTreeMap<&'static str, usize> =
            SinkStatus::iter().map(|status| (status.into(), 0)).collect();
        for sink in &figures.sinks {
            *states.entry(sink.state.label()).or_default() += 1;
        }
        let dead_letters = figures.sinks.iter().map(|sink| sink.dead_letters).sum();
        Self { total: figures.sinks.len(), states, dead_letters }
    }
}
