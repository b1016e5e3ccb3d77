//! Reloads the configuration while the gateway runs and applies the differences.
//!
//! The relay list and the filters take effect at once. Other changed keys are reported and take
//! effect at the next start. An invalid configuration changes nothing.

use std::panic::resume_unwind;
use std::sync::Arc;

use arc_swap::ArcSwap;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::Mutex;

use crate::config::{Config, ConfigErrors, Filters, Loaded, Source, needs_restart};
use crate::crash_point;
use crate::ingest::admission::Admission;
use crate::relay::{Pool, PoolError};
use crate::systemd::Notifier;

/// What a reload changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Reloaded {
    pub relays_added: usize,
    pub relays_removed: usize,
    /// Whether admission changes from now on.
    pub filters_changed: bool,
    /// The changed keys that take effect at the next start.
    pub needs_restart: Vec<String>,
}

/// Why the configuration was not reloaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReloadError {
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    #[error(transparent)]
    Pool(#[from] PoolError),
}

/// Reloads the configuration of a running gateway.
#[derive(Debug)]
pub(crate) struct Control {
    source: Source,
    /// The configuration in effect. The lock allows one reload at a time.
    config: Mutex<Config>,
    pool: Arc<Pool>,
    admission: Arc<ArcSwap<Admission>>,
    notifier: Arc<Notifier>,
}

impl Control {
    /// `pool` and `admission` must have been built from `loaded`.
    pub fn new(
        loaded: &Loaded,
        pool: Arc<Pool>,
        admission: Arc<ArcSwap<Admission>>,
        notifier: Arc<Notifier>,
    ) -> Self {
        let (source, config) = (loaded.source.clone(), Mutex::new(loaded.config.clone()));
        Self { source, config, pool, admission, notifier }
    }

    /// Loads and applies the configuration.
    ///
    /// # Errors
    /// When the configuration is invalid or the relays cannot be changed. Nothing changes then.
    pub async fn reload(&self) -> Result<Reloaded, ReloadError> {
        let mut config = self.config.lock().await;
        let _reloading = self.notifier.reloading();
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
        // The maximum frame length is fixed at startup, so `max_event_bytes` cannot change until a
        // restart.
        let max_event_bytes = config.filters.max_event_bytes;
        let filters = Filters { max_event_bytes, ..new.filters.clone() };
        // New kinds must be admitted before they are requested: if admission refused their events,
        // the relay's past would still count as proven.
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
        tracing::info!(
            name: "config_reloaded",
            relays_added, relays_removed, filters_changed, "the configuration was reloaded"
        );
        if !needs_restart.is_empty() {
            tracing::warn!(
                name: "restart_required",
                keys = needs_restart.join(" "), "some changes take effect only after a restart"
            );
        }
        Ok(Reloaded { relays_added, relays_removed, filters_changed, needs_restart })
    }
}
