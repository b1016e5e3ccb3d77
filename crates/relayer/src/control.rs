//! Reading the configuration again while the gateway runs, and applying what differs.
//!
//! The list of relays and the filters take effect at once; the rest waits for the next start, and is named.
//! A configuration that is wrong changes nothing.

use std::panic::resume_unwind;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::Mutex;

use crate::config::{Config, ConfigErrors, Filters, Loaded, Source, needs_restart};
use crate::crash_point;
use crate::ingest::admission::Admission;
use crate::relay::{Pool, PoolError};

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
    /// The relays cannot be changed.
    #[error(transparent)]
    Pool(#[from] PoolError),
}

/// What reads the configuration again.
#[derive(Debug)]
pub struct Control {
    source: Source,
    /// What is in effect, apart from what waits for the next start. One reload at a time.
    config: Mutex<Config>,
    pool: Arc<Pool>,
    admission: Arc<ArcSwap<Admission>>,
}

impl Control {
    /// For a pool and a policy that were made from this configuration.
    pub fn new(loaded: &Loaded, pool: Arc<Pool>, admission: Arc<ArcSwap<Admission>>) -> Self {
        Self { source: loaded.source.clone(), config: Mutex::new(loaded.config.clone()), pool, admission }
    }

    /// Reads the configuration again and applies it.
    ///
    /// # Errors
    /// When it is wrong, or the relays cannot be changed; then nothing changes.
    pub async fn reload(&self) -> Result<Reloaded, ReloadError> {
        let mut config = self.config.lock().await;
        let source = self.source.clone();
        let load = move || {
            crash_point::reached("reload");
            source.load()
        };
        let new = match tokio::task::spawn_blocking(load).await {
            Ok(loaded) => loaded?.config,
            Err(failed) if failed.is_panic() => resume_unwind(failed.into_panic()),
            Err(_) => return Err(PoolError::Stopping.into()),
        };
        let changed = config.changed_keys(&new);
        let (needs_restart, at_once): (Vec<_>, Vec<_>) =
            changed.into_iter().partition(|key| needs_restart(key));
        let filters_changed = at_once.iter().any(|key| key.starts_with("filters."));
        // The size of frames is that of the start, so the largest event stays what it was.
        let max_event_bytes = config.filters.max_event_bytes;
        let filters = Filters { max_event_bytes, ..new.filters.clone() };
        // What is asked for must be let in before it comes, or it would count as proven and be missing.
        self.admission.store(Arc::new(Admission::new(&filters)));
        let changes = match self.pool.reload(&new).await {
            Ok(changes) => changes,
            Err(error) => {
                self.admission.store(Arc::new(Admission::new(&config.filters)));
                return Err(error.into());
            }
        };
        config.filters = filters;
        config.relay.bootstrap_relays = new.relay.bootstrap_relays;
        let (relays_added, relays_removed) = (changes.added, changes.removed);
        tracing::info!(relays_added, relays_removed, filters_changed, "the configuration was read again");
        if !needs_restart.is_empty() {
            tracing::warn!(keys = needs_restart.join(" "), "changes that wait for the next start");
        }
        Ok(Reloaded { relays_added, relays_removed, filters_changed, needs_restart })
    }
}
