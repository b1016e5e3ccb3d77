//! Whether the registry's database can be used, as `/status`, the metrics and the log say it.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::store::{Mode, RegistryError};
use crate::clock::unix_ms;
use crate::fanout::Metrics;

/// Whether the registry's database can be used. In any case, what is known goes on to be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It can be read and written.
    Up,
    /// It can be read, and takes no writes.
    ReadOnly {
        /// Since when it cannot be written, in Unix milliseconds.
        since_ms: u64,
    },
    /// It cannot be used.
    Down {
        /// Since when it cannot be written, in Unix milliseconds.
        since_ms: u64,
        /// Why, in a few words that anybody may read.
        reason: &'static str,
        /// Whether that passes by itself.
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

    /// Whether both are the same, whenever they began.
    fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Up, Self::Up) | (Self::ReadOnly { .. }, Self::ReadOnly { .. }) => true,
            (Self::Down { reason, .. }, Self::Down { reason: other, .. }) => reason == other,
            _ => false,
        }
    }
}

/// Keeps the health. A change is logged once, not each time that it is met again.
#[derive(Debug)]
pub(super) struct HealthMonitor {
    store: &'static str,
    /// With when it ceased to be up.
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

    /// Waits until a failure is noted, unless one was since the last time.
    pub async fn write_failed(&self) {
        self.write_failed.notified().await;
    }

    /// The store was read, and takes writes or not.
    pub fn note_read(&self, mode: Mode) {
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
            tracing::info!(store = self.store, seconds, "the registry of the fan-out can be used again");
        }
    }

    /// A write failed. What says nothing of the database changes nothing.
    pub fn note_write_failure(&self, error: &RegistryError) {
        if error.is_database_fault() {
            self.note_unavailable(error);
            self.write_failed.notify_one();
        }
    }

    /// What is in the store is not known, or can no longer be followed.
    pub fn note_unavailable(&self, error: &RegistryError) {
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
            tracing::error!("{error}; known followers are served, and it is tried again");
        }
        self.show(&now);
        *health = now;
    }

    fn show(&self, health: &Health) {
        self.metrics.registry_up.set(i64::from(*health == Health::Up));
        self.metrics.registry_read_only.set(i64::from(matches!(health, Health::ReadOnly { .. })));
    }
}
