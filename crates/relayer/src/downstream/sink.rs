//! What is known of one sink: how it stands, how far it is, what happened to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use serde::Serialize;

use crate::event_log::Cursor;
use crate::telemetry::Metrics;

/// How a sink stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum SinkState {
    /// A connection is being made.
    Connecting,
    /// It is sent events as they are committed.
    Live {
        /// Unix milliseconds.
        since_ms: u64,
    },
    /// It is connected, and is sent what it missed.
    CatchingUp {
        /// Unix milliseconds.
        since_ms: u64,
    },
    /// The connection ended, or did not begin. It is tried again.
    Retrying {
        /// Unix milliseconds.
        until_ms: u64,
        /// Why.
        reason: String,
    },
    /// The gateway is stopping.
    Stopped,
}

impl SinkState {
    /// The names of the states.
    pub const LABELS: [&str; 5] = ["connecting", "live", "catching_up", "retrying", "stopped"];

    /// The state's name.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Live { .. } => "live",
            Self::CatchingUp { .. } => "catching_up",
            Self::Retrying { .. } => "retrying",
            Self::Stopped => "stopped",
        }
    }
}

/// A sink.
#[derive(Debug)]
pub struct Sink {
    /// What it is called.
    pub name: Arc<str>,
    /// Its sort: `tcp`.
    pub kind: &'static str,
    /// Where it is.
    pub address: Arc<str>,
    /// Events that it has.
    pub delivered: Counter,
    /// Connections after the first.
    pub reconnects: Counter,
    /// Connections that were closed for what it acknowledged.
    pub ack_errors: Counter,
    /// Sequences that retention took before it had them.
    pub lost: Counter,
    state: Mutex<SinkState>,
    /// Up to where it has everything.
    cursor: AtomicU64,
    last_error: Mutex<Option<String>>,
}

impl Sink {
    /// A sink that goes on at a cursor.
    pub fn new(name: Arc<str>, kind: &'static str, address: &str, cursor: Cursor, metrics: &Metrics) -> Self {
        let label = metrics.sink_label(&name);
        Self {
            kind,
            address: address.into(),
            delivered: metrics.downstream_delivered.get_or_create_owned(&label),
            reconnects: metrics.downstream_reconnects.get_or_create_owned(&label),
            ack_errors: metrics.downstream_ack_errors.get_or_create_owned(&label),
            lost: metrics.downstream_lost.get_or_create_owned(&label),
            state: Mutex::new(SinkState::Connecting),
            cursor: AtomicU64::new(cursor.get()),
            last_error: Mutex::new(None),
            name,
        }
    }

    /// How it stands.
    pub fn state(&self) -> SinkState {
        self.state.lock().clone()
    }

    /// Up to where it has everything.
    pub fn cursor(&self) -> Cursor {
        Cursor::from_number(self.cursor.load(Ordering::Relaxed))
    }

    /// Why it was last not connected, since the start.
    pub fn last_error(&self) -> Option<String> {
        self.last_error.lock().clone()
    }

    pub(super) fn set_state(&self, state: SinkState) {
        if let SinkState::Retrying { reason, .. } = &state {
            *self.last_error.lock() = Some(reason.clone());
        }
        *self.state.lock() = state;
    }

    pub(super) fn set_cursor(&self, cursor: Cursor) {
        self.cursor.store(cursor.get(), Ordering::Relaxed);
    }
}
