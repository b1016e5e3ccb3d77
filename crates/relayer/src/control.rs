//! Reloads the configuration while the gateway runs and applies the differences.
//!
//! A reload first checks the whole new configuration. If anything is wrong, nothing changes. Then
//! it replaces filters and relays, limits, readers and options, and finally sinks, because these
//! first finish what is in flight. Keys that need a restart keep their old values and are reported.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::resume_unwind;
use std::sync::Arc;

use parking_lot::RwLock;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::Mutex;

use crate::config::{Config, ConfigErrors, Loaded, LogFormat, Source, restart_reason};
use crate::crash_point;
use crate::descriptors::{self, TooFew};
use crate::gateway::Parts;
use crate::ingest::admission::Admission;
use crate::relay::PoolError;
use crate::serve::ReadersReplaced;
use crate::sink::{ApplyError, SinkChanges, SinkPlan, SinkSetupError};
use crate::systemd::Notifier;
use crate::telemetry;

/// What a reload changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Reloaded {
    pub relays_added: usize,
    pub relays_removed: usize,
    /// Whether admission changes from now on.
    pub filters_changed: bool,
    /// The changed keys that took effect.
    pub changed: Vec<String>,
    pub sinks: SinkChanges,
    /// How many readers were added, changed and removed. Connections of changed and removed readers
    /// were closed.
    pub readers: ReadersReplaced,
    /// The changed keys that take effect at the next start.
    pub needs_restart: Vec<String>,
    /// For each key in `needs_restart`, why it needs a restart.
    pub restart_reasons: BTreeMap<String, &'static str>,
}

/// Why the configuration was not reloaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReloadError {
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    #[error(transparent)]
    Descriptors(#[from] TooFew),
    #[error(transparent)]
    SinkSetup(#[from] SinkSetupError),
    #[error(transparent)]
    Pool(#[from] PoolError),
    #[error(transparent)]
    Sinks(#[from] ApplyError),
}

/// Reloads the configuration of a running gateway.
#[derive(Debug)]
pub(crate) struct Control {
    source: Source,
    /// The maximum number of open files, which limits connections.
    open_files: usize,
    /// The configuration in effect. The lock allows one reload at a time.
    config: Mutex<Config>,
    parts: Arc<Parts>,
    notifier: Arc<Notifier>,
    observers: RwLock<Vec<Observer>>,
}

/// Takes over the settings of a reloaded configuration.
struct Observer(Box<dyn Fn(&Config) + Send + Sync>);

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}

/// A new configuration that was checked.
struct Checked {
    /// The values that take effect, as configured. Keys that need a restart have their old values.
    config: Config,
    /// The same, with the limits on connections that the limit on open files permits.
    fitted: Config,
    changed: Vec<String>,
    needs_restart: Vec<String>,
    sinks: SinkPlan,
}

impl Control {
    /// `parts` must have been built from `loaded`, on a system that allows `open_files`.
    pub fn new(loaded: &Loaded, open_files: usize, parts: &Arc<Parts>, notifier: Arc<Notifier>) -> Self {
        Self {
            source: loaded.source.clone(),
            open_files,
            config: Mutex::new(loaded.config.clone()),
            parts: Arc::clone(parts),
            notifier,
            observers: RwLock::default(),
        }
    }

    /// At each reload, calls `apply` with the values in effect. `apply` must not hold the parts of
    /// the gateway, which hold this value.
    pub fn on_reload(&self, apply: impl Fn(&Config) + Send + Sync + 'static) {
        self.observers.write().push(Observer(Box::new(apply)));
    }

    /// Loads and applies the configuration.
    ///
    /// # Errors
    /// When the configuration is invalid or cannot be used. Nothing changes then. Also when the
    /// gateway is stopping, or RocksDB fails, which stops the gateway.
    pub async fn reload(&self) -> Result<Reloaded, ReloadError> {
        let mut config = self.config.lock().await;
        let _reloading = self.notifier.reloading();
        let (source, before, open_files) = (self.source.clone(), config.clone(), self.open_files);
        let sinks = Arc::clone(&self.parts.sinks);
        let check = move || -> Result<Checked, ReloadError> {
            crash_point::reached("reload");
            let mut loaded = source.load()?;
            let changed = before.changed_keys(&loaded.config);
            let (needs_restart, changed) = changed.into_iter().partition(|key| restart_reason(key).is_some());
            loaded.config = before.reloaded(&loaded.config);
            let fitted = descriptors::fit_and_log(&loaded, open_files)?;
            let sinks = sinks.plan(&fitted.output)?;
            for warning in &loaded.warnings {
                tracing::warn!(name: "config_warning", "{warning}");
            }
            Ok(Checked { config: loaded.config, fitted, changed, needs_restart, sinks })
        };
        let checked = match tokio::task::spawn_blocking(check).await {
            Ok(checked) => checked?,
            Err(failed) if failed.is_panic() => resume_unwind(failed.into_panic()),
            Err(_) => return Err(PoolError::Stopping.into()),
        };
        let Checked { config: new, fitted, changed, needs_restart, sinks } = checked;
        let (relays_added, relays_removed) = self.replace_relays(&config, &fitted).await?;
        self.parts.set_limits(&config, &fitted);
        set_logging(&config, &fitted);
        self.observers.read().iter().for_each(|observer| (observer.0)(&fitted));
        let readers = self.parts.readers.replace(&fitted.api.readers);
        if config.api.admin_token != new.api.admin_token {
            self.parts.readers.revoke_admin();
        }
        // Last, because it waits for what is in flight: a token that was disclosed ends at once.
        let sinks = self.parts.sinks.apply(sinks).await?;
        *config = new;
        let reason = |key: &String| Some((key.clone(), restart_reason(key)?));
        let reloaded = Reloaded {
            relays_added,
            relays_removed,
            filters_changed: changed.iter().any(|key| key.starts_with("filters.")),
            restart_reasons: needs_restart.iter().filter_map(reason).collect(),
            changed,
            sinks,
            readers,
            needs_restart,
        };
        reloaded.log();
        Ok(reloaded)
    }

    /// Replaces the filters and the relays, and returns how many relays were added and removed.
    async fn replace_relays(&self, before: &Config, new: &Config) -> Result<(usize, usize), PoolError> {
        let admission = &self.parts.admission;
        // New kinds must be admitted before they are requested: if admission refused their events,
        // the relay's past would still count as proven.
        admission.store(Arc::new(Admission::new(&new.filters)));
        match self.parts.pool.reload(new).await {
            Ok(changes) => Ok((changes.added, changes.removed)),
            Err(error) => {
                admission.store(Arc::new(Admission::new(&before.filters)));
                Err(error)
            }
        }
    }
}

fn set_logging(before: &Config, new: &Config) {
    let (before, new) = (&before.monitoring, &new.monitoring);
    if before.log_level != new.log_level {
        telemetry::tracing::set_level(new.log_level.into());
    }
    if before.log_format != new.log_format {
        telemetry::record::use_json(new.log_format == LogFormat::Json);
    }
}

impl Reloaded {
    fn log(&self) {
        let Self {
            relays_added,
            relays_removed,
            filters_changed,
            changed,
            sinks,
            readers,
            needs_restart,
            ..
        } = self;
        tracing::info!(
            name: "config_reloaded",
            changed = changed.join(" "),
            relays_added,
            relays_removed,
            filters_changed,
            sinks_added = sinks.added.join(" "),
            sinks_changed = sinks.changed.join(" "),
            sinks_removed = sinks.removed.join(" "),
            readers_added = readers.added,
            readers_changed = readers.changed,
            readers_removed = readers.removed,
            "the configuration was reloaded"
        );
        if !needs_restart.is_empty() {
            tracing::warn!(
                name: "restart_required",
                keys = needs_restart.join(" "), "some changes take effect only after a restart"
            );
        }
    }
}
