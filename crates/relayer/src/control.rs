//! Reading the configuration again while the gateway runs, and applying what differs.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::config::{Config, ConfigErrors, Loaded, Source, needs_restart};
use crate::event_log::StorageError;
use crate::relay::Pool;

/// What a reload changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reloaded {
    /// How many relays became wanted.
    pub relays_added: usize,
    /// How many are wanted no more.
    pub relays_removed: usize,
    /// Whether other events are let in from now on.
    pub filters_changed: bool,
    /// The dotted keys that changed and take effect only with the next start.
    pub needs_restart: Vec<String>,
}

/// Why nothing was reloaded.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The configuration is wrong; the old one stays.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// What is wanted cannot be noted.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// What reads the configuration again.
#[derive(Debug)]
pub struct Control {
    source: Source,
    config: Mutex<Config>,
    pool: Arc<Pool>,
}

impl Control {
    /// For a pool that was made from this configuration.
    pub fn new(loaded: &Loaded, pool: Arc<Pool>) -> Self {
        Self { source: loaded.source.clone(), config: Mutex::new(loaded.config.clone()), pool }
    }

    /// Reads the configuration again and applies it.
    ///
    /// # Errors
    /// When it is wrong, or cannot be noted; then nothing changes.
    pub async fn reload(&self) -> Result<Reloaded, ReloadError> {
        let new = self.source.load()?.config;
        let old = std::mem::replace(&mut *self.config.lock(), new.clone());
        let (mut relays_added, mut relays_removed) = (0, 0);
        for url in new.relay.bootstrap_relays.iter().filter(|url| !old.relay.bootstrap_relays.contains(url)) {
            relays_added += usize::from(self.pool.add(url.clone()).await.is_ok());
        }
        for url in old.relay.bootstrap_relays.iter().filter(|url| !new.relay.bootstrap_relays.contains(url)) {
            relays_removed += usize::from(self.pool.remove(url).await.is_ok());
        }
        let changed = old.changed_keys(&new);
        Ok(Reloaded {
            relays_added,
            relays_removed,
            filters_changed: changed.iter().any(|key| key.starts_with("filters.") && !needs_restart(key)),
            needs_restart: changed.into_iter().filter(|key| needs_restart(key)).collect(),
        })
    }
}
