//! The state of a relay's connection, and its history.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use enum_map::Enum;
use serde::Serialize;
use strum::{EnumDiscriminants, IntoStaticStr, VariantNames};

use crate::clock::unix_ms;
use crate::limits::STATES_KEPT;

/// The state of a relay's connection, as in `/relays` and the metrics.
#[derive(EnumDiscriminants, Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "status", rename_all = "snake_case")]
#[strum_discriminants(
    name(StateName),
    derive(Enum, IntoStaticStr, VariantNames),
    strum(serialize_all = "snake_case"),
    doc = "The name of a state."
)]
pub enum ConnectionState {
    /// Dialling, or waiting for a permit to dial.
    Connecting,
    /// Connected, while gaps are being requested.
    Backfilling {
        /// Unix milliseconds.
        since_ms: u64,
    },
    /// Everything has been requested, and new events arrive.
    Live {
        /// Unix milliseconds.
        since_ms: u64,
    },
    /// Waiting to dial again.
    BackingOff {
        /// Unix milliseconds.
        until_ms: u64,
        /// Why the last connection ended or failed.
        reason: String,
    },
    /// The relay requires NIP-42 authentication that we cannot give. We retry every few hours.
    NeedsAuthentication {
        /// Unix milliseconds.
        until_ms: u64,
        /// The relay's reason.
        reason: String,
    },
    /// The relay does not serve us, or its address may not be dialled. We retry every few hours.
    Refused {
        /// Unix milliseconds.
        until_ms: u64,
        /// The relay's reason, or ours.
        reason: String,
    },
    /// The relay exhausted its offence budget.
    Quarantined {
        /// Unix milliseconds.
        until_ms: u64,
        /// The last offence.
        reason: String,
    },
    /// The gateway is stopping, or the relay was removed.
    Stopped,
}

impl ConnectionState {
    /// The label in metrics and `/relays`.
    pub fn label(&self) -> &'static str {
        StateName::from(self).into()
    }

    /// Whether a WebSocket is open.
    pub const fn is_connected(&self) -> bool {
        matches!(self, Self::Backfilling { .. } | Self::Live { .. })
    }

    /// Why the relay is not connected.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::BackingOff { reason, .. }
            | Self::NeedsAuthentication { reason, .. }
            | Self::Refused { reason, .. }
            | Self::Quarantined { reason, .. } => Some(reason),
            Self::Connecting | Self::Backfilling { .. } | Self::Live { .. } | Self::Stopped => None,
        }
    }
}

/// A state that a relay was in.
#[derive(Debug, Clone, Serialize)]
pub struct PastState {
    /// When the state began, in Unix milliseconds.
    pub at_ms: u64,
    /// The label of the state.
    pub status: &'static str,
    /// The reason, if the relay was not connected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Box<str>>,
}

/// The current state, the most recent earlier states, and the total time connected.
#[derive(Debug)]
pub(super) struct StateHistory {
    pub now: ConnectionState,
    /// Oldest first, the current state last.
    pub recent: VecDeque<PastState>,
    /// When the current connection was opened.
    connected: Option<Instant>,
    /// The connected time of earlier connections.
    connected_before: Duration,
}

impl StateHistory {
    pub fn new() -> Self {
        Self {
            now: ConnectionState::Connecting,
            recent: VecDeque::new(),
            connected: None,
            connected_before: Duration::ZERO,
        }
    }

    pub fn set(&mut self, state: ConnectionState) {
        let (was, is) = (self.now.is_connected(), state.is_connected());
        if is && !was {
            self.connected = Some(Instant::now());
        } else if was && !is {
            let open = self.connected.take().map_or(Duration::ZERO, |since| since.elapsed());
            self.connected_before += open;
        }
        let past =
            PastState { at_ms: unix_ms(), status: state.label(), reason: state.reason().map(Box::from) };
        if self.recent.len() == STATES_KEPT {
            self.recent.pop_front();
        }
        self.recent.push_back(past);
        self.now = state;
    }

    /// The total connected time of all connections.
    pub fn uptime(&self) -> Duration {
        self.connected_before + self.connected.map_or(Duration::ZERO, |since| since.elapsed())
    }
}
