//! The health of the registry's database, for `/status`, the metrics and the log.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::store::{Mode, RegistryError};
use crate::clock::unix_ms;
use crate::fanout::Metrics;

/// The health of the registry's database. Known followers are served in every state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// The database can be read and written.
    Up,
    /// The database can be read but not written.
    ReadOnly {
        /// Since when writes have failed, in Unix milliseconds.
        since_ms: u64,
    },
    /// The database cannot be used.
    Down {
        /// Since when writes have failed, in Unix milliseconds.
        since_ms: u64,
        /// The reason, without confidential details.
        reason: &'static str,
        /// Whether the database may recover by itself.
        is_transient: bool,
    },
}

impl Health {
    fn since_ms(&self) -> Option<u64> {
        match self {
            Self::Up => None,
            Self::ReadOnly { since_ms } | Self::Down { since_ms, .. } => Some(*since_ms),
        }
    }

    /// Whether both are the same state, regardless of the time.
    fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Up, Self::Up) | (Self::ReadOnly { .. }, Self::ReadOnly { .. }) => true,
            (Self::Down { reason, .. }, Self::Down { reason: other, .. }) => reason == other,
            _ => false,
        }
    }
}

/// Holds the health, and logs each change once.
#[derive(Debug)]
pub(super) struct HealthMonitor {
    store: &'static str,
    /// The health, and the time of the last change from or to `Up`.
    health: Mutex<(Health, Instant)>,
    write_failed: Notify,
    metrics: Arc<Metrics>,
}

impl HealthMonitor {
    pub fn new(store: &'static str, metrics: Arc<Metrics>) -> Self {
        Self { store, health: Mutex::new((Health::Up, Instant::now())), write_failed: Notify::new(), metrics }
    }

    pub fn get(&self) -> Health {
        self.health.lock().0.clone()
    }

    /// Waits for a failed write. Completes at once if a write has failed since the last call.
    pub(crate) async fn write_failed(&self) {
        self.write_failed.notified().await;
    }

    /// Records a successful read of a store in this mode.
    pub(crate) fn note_read(&self, mode: Mode) {
        match mode {
            Mode::Writable => self.note_up(),
            Mode::ReadOnly => {
                self.note_unavailable(&RegistryError::ReadOnly("it takes no writes".to_owned()))
            }
        }
    }

    fn note_up(&self) {
        let (before, since) = std::mem::replace(&mut *self.health.lock(), (Health::Up, Instant::now()));
        self.show(&Health::Up);
        if before != Health::Up {
            let seconds = since.elapsed().as_secs();
            tracing::info!(
                name: "registry_up",
                store = self.store, seconds, "the registry of the fan-out can be used again"
            );
        }
    }

    /// Records a failed write, if the error concerns the database.
    pub(crate) fn note_write_failure(&self, error: &RegistryError) {
        if error.is_database_fault() {
            self.note_unavailable(error);
            self.write_failed.notify_one();
        }
    }

    /// Records that the store cannot be read, or that its changes cannot be received.
    pub(crate) fn note_unavailable(&self, error: &RegistryError) {
        let mut state = self.health.lock();
        let (health, since) = &mut *state;
        if *health == Health::Up {
            *since = Instant::now();
        }
        let since_ms = health.since_ms().unwrap_or_else(unix_ms);
        let now = match error {
            RegistryError::ReadOnly(_) => Health::ReadOnly { since_ms },
            _ => Health::Down { since_ms, reason: error.kind(), is_transient: error.is_transient() },
        };
        if !health.is_like(&now) {
            tracing::error!(
                name: "registry_down",
                "{error}; known followers are still served, and the gateway keeps trying"
            );
        }
        self.show(&now);
        *health = now;
    }

    fn show(&self, health: &Health) {
        self.metrics.registry_up.set(i64::from(*health == Health::Up));
        self.metrics.registry_read_only.set(i64::from(matches!(health, Health::ReadOnly { .. })));
    }
}
