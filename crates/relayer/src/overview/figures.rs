//! Gathers the state of the gateway.

use std::sync::Arc;

use super::reading::Interval;
use crate::event_log::{Cursor, LogId, Seq};
use crate::fanout::registry::Health;
use crate::gateway::Parts;
use crate::relay::Census;
use crate::sink::SinkState;
use crate::telemetry::{log_buffer, memory, resident_bytes};
use crate::watchdog;

/// Why the gateway admits no events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotReady {
    Stopping,
    DiskFull,
}

impl NotReady {
    /// Relay connections do not count, because they depend on the relays.
    pub fn of(parts: &Parts) -> Option<Self> {
        if parts.clients.is_draining() {
            return Some(Self::Stopping);
        }
        parts.disk_full.is_paused().then_some(Self::DiskFull)
    }

    pub const fn message(self) -> &'static str {
        match self {
            Self::Stopping => "the gateway is stopping",
            Self::DiskFull => {
                "the disk is full: ingest is paused and resumes by itself when there is room ([storage] \
                 min_free_bytes)"
            }
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct SinkFigures {
    pub name: Arc<str>,
    pub state: SinkState,
    /// The number of sequences from the cursor to the head.
    pub lag: u64,
    /// Sequences that retention trimmed before the sink had them, since the start.
    pub lost: u64,
    pub dead_letters: usize,
    /// Dead letters that were dropped for lack of space, since the start.
    pub dead_letters_dropped: u64,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct FanoutFigures {
    pub clients: usize,
    pub bots: usize,
    pub follows: usize,
}

/// The state of the gateway at one time.
#[derive(Debug, Clone)]
pub(super) struct Figures {
    pub interval: Interval,
    pub not_ready: Option<NotReady>,
    pub log: LogId,
    pub head: Cursor,
    pub floor: Seq,
    /// The size of the log's tables on disk.
    pub log_bytes: u64,
    /// Whether RocksDB has stopped writes until it has compacted.
    pub is_write_stopped: bool,
    /// `None` if the file system cannot be queried.
    pub free_bytes: Option<u64>,
    pub min_free_bytes: u64,
    pub resident_bytes: Option<u64>,
    pub memory_limit_bytes: Option<u64>,
    pub is_clock_in_doubt: bool,
    /// Events and bytes between sockets and commit.
    pub queue: (usize, usize),
    pub relays: Census,
    pub sinks: Vec<SinkFigures>,
    pub clients: usize,
    pub event_streams: usize,
    pub consumers: usize,
    /// `None` if the fan-out is disabled.
    pub fanout: Option<FanoutFigures>,
    pub registry: Health,
    pub panics: u64,
    pub log_lines_lost: u64,
}

impl Figures {
    pub fn of(parts: &Parts, interval: Interval) -> Self {
        let head = parts.log.head();
        let gauge = |gauge: i64| usize::try_from(gauge).unwrap_or(0);
        let (mut log_bytes, mut is_write_stopped) = (0, false);
        for (figure, value) in parts.log.store().figures() {
            match figure {
                "live_sst_bytes" => log_bytes = value,
                "is_write_stopped" => is_write_stopped = value > 0,
                _ => {}
            }
        }
        let sinks = parts.sinks.list();
        let sinks = sinks.iter().map(|sink| SinkFigures {
            name: Arc::clone(&sink.name),
            state: sink.state(),
            lag: head.get().saturating_sub(sink.cursor().get()),
            lost: sink.lost.get(),
            dead_letters: sink.dead_letters.len(),
            dead_letters_dropped: sink.dead_letters.dropped(),
        });
        let fanout = parts.fanout();
        let (bots, follows) = fanout.map_or((0, 0), |fanout| fanout.registry.directory().len());
        Self {
            interval,
            not_ready: NotReady::of(parts),
            log: parts.log.id(),
            head,
            floor: parts.log.floor(),
            log_bytes,
            is_write_stopped,
            free_bytes: parts.reserve.free_space.bytes().ok(),
            min_free_bytes: parts.reserve.bytes_min(),
            resident_bytes: resident_bytes(),
            memory_limit_bytes: memory::memory_limit_bytes(),
            is_clock_in_doubt: !parts.log.clock().status().deletes_by_age,
            queue: parts.inboxes.waiting(),
            relays: Census::of(&parts.pool.peers()),
            sinks: sinks.collect(),
            clients: parts.clients.connected(),
            event_streams: gauge(parts.metrics.websocket.streams.get()),
            consumers: gauge(parts.metrics.websocket.consumers.get()),
            fanout: fanout.map(|fanout| FanoutFigures { clients: fanout.clients.connected(), bots, follows }),
            registry: fanout.map_or(Health::Up, |fanout| fanout.registry.health()),
            panics: watchdog::panics(),
            log_lines_lost: log_buffer::lines_lost(),
        }
    }
}
