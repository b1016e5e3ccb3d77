//! What is known of one relay: its state, and what it sent.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::Serialize;

use crate::config::RelayUrl;
use crate::ingest::DropReason;

/// A relay that we want to be connected to.
#[derive(Debug)]
pub struct Peer {
    /// Its normalised URL.
    pub url: RelayUrl,
    /// What it sent.
    pub tally: Tally,
    state: Mutex<ConnectionState>,
}

/// How a relay's connection stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum ConnectionState {
    /// A handshake is under way, or waits for its turn.
    Connecting,
    /// Stored events are being sent to us.
    Backfilling {
        /// Unix milliseconds.
        since_ms: u64,
    },
    /// All that the relay had stored has come; now events come as they appear.
    Live {
        /// Unix milliseconds.
        since_ms: u64,
    },
    /// The relay is tried again later.
    BackingOff {
        /// Unix milliseconds.
        until_ms: u64,
        /// Why the last connection ended, or did not begin.
        reason: String,
    },
    /// The gateway is stopping.
    Stopped,
}

impl ConnectionState {
    /// All labels.
    pub const LABELS: [&str; 5] = ["connecting", "backfilling", "live", "backing_off", "stopped"];

    /// The state's name, as in metrics.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Backfilling { .. } => "backfilling",
            Self::Live { .. } => "live",
            Self::BackingOff { .. } => "backing_off",
            Self::Stopped => "stopped",
        }
    }

    /// Whether a WebSocket is open.
    pub const fn is_connected(&self) -> bool {
        matches!(self, Self::Backfilling { .. } | Self::Live { .. })
    }
}

impl Peer {
    /// A relay that has not been dialled.
    pub fn new(url: RelayUrl) -> Self {
        Self { url, tally: Tally::default(), state: Mutex::new(ConnectionState::Connecting) }
    }

    /// How its connection stands.
    pub fn state(&self) -> ConnectionState {
        self.state.lock().clone()
    }

    /// Notes how its connection stands.
    pub fn set_state(&self, state: ConnectionState) {
        *self.state.lock() = state;
    }
}

/// A count that only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Counts.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// How many.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a relay sent, since the start of the process.
#[derive(Debug, Default)]
pub struct Tally {
    /// WebSocket messages.
    pub frames: Count,
    /// Bytes of their payloads.
    pub bytes: Count,
    /// Events that it was the first to deliver.
    pub first: Count,
    /// Copies of events that others had delivered, or it itself.
    pub copies: Count,
    /// Connections that were opened.
    pub connections: Count,
    /// `NOTICE`, `CLOSED` and `AUTH` messages.
    pub notices: Count,
    refused: [Count; DropReason::ALL.len()],
}

impl Tally {
    /// Counts something that was refused.
    pub fn refuse(&self, reason: DropReason) {
        if let Some(count) = self.refused.get(reason.index()) {
            count.add(1);
        }
    }

    /// What was refused, by reason, without the reasons that did not occur.
    pub fn refused(&self) -> impl Iterator<Item = (DropReason, u64)> {
        let counts = DropReason::ALL.iter().zip(&self.refused);
        counts.map(|(reason, count)| (*reason, count.get())).filter(|(_, count)| *count > 0)
    }

    /// Altered events and wrong signatures.
    pub fn forgeries(&self) -> u64 {
        self.refused().filter(|(reason, _)| reason.is_forgery()).map(|(_, count)| count).sum()
    }
}
