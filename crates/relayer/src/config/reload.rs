//! Loads the configuration again while the program runs, and compares the new values with the old
//! values.

use std::path::PathBuf;

use super::error::ConfigErrors;
use super::load::Loaded;
use super::secret::Secret;
use super::settings::{Config, SETTINGS, Setting};

/// The file and the variables that a configuration was loaded from.
#[derive(Debug, Clone)]
pub struct Source {
    file: Option<PathBuf>,
    /// The values may be secrets.
    environment: Vec<(String, Secret)>,
}

impl Source {
    /// `file` is the file that was read, even if it was not named: it must exist at the next load,
    /// because falling back to the defaults would change everything.
    pub(super) const fn new(file: Option<PathBuf>, environment: Vec<(String, Secret)>) -> Self {
        Self { file, environment }
    }

    /// Loads the current file, with the variables from the start.
    ///
    /// # Errors
    /// As [`Config::load`], and when the file no longer exists.
    pub fn load(&self) -> Result<Loaded, ConfigErrors> {
        let environment = self.environment.iter();
        let environment = environment.map(|(name, value)| (name.clone(), value.reveal().to_owned()));
        Config::load(self.file.as_deref(), environment)
    }
}

impl Config {
    /// The dotted keys whose values differ, in the order of the template. Also compares the
    /// contents of secret files.
    pub fn changed_keys(&self, other: &Self) -> Vec<String> {
        SETTINGS.iter().filter(|setting| !(setting.key.same)(self, other)).map(Setting::path).collect()
    }

    /// This configuration with the values of `new` that take effect at a reload.
    #[must_use]
    pub fn reloaded(&self, new: &Self) -> Self {
        let mut reloaded = self.clone();
        for setting in SETTINGS.iter().filter(|setting| setting.effect == Effect::Reload) {
            (setting.key.copy)(&mut reloaded, new);
        }
        reloaded
    }
}

/// When a new value of a key takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// At a reload. Limits of connections apply to connections that are opened from then on.
    Reload,
    /// The change takes effect at the next start, for this reason.
    Restart(&'static str),
}

pub(super) const PORTS: &str = "ports are opened at the start";
pub(super) const PROXIES: &str = "the servers of the ports get the trusted proxies at the start";
pub(super) const DATABASE: &str = "the database is opened at the start";
pub(super) const TABLES: &str = "tables in memory get their size at the start";
pub(super) const DIALLER: &str = "the dialler of relays is set up at the start";
pub(super) const INGEST: &str = "the threads that verify and commit events get it at the start";
pub(super) const BUFFERS: &str = "the buffers of every relay connection get their size at the start";
pub(super) const KEYS: &str = "the gateway's key is read at the start";
pub(super) const PROOFS: &str = "proofs of keys are checked against the URL of the start";
pub(super) const FANOUT: &str = "the fan-out and its registry are set up at the start";

impl Effect {
    /// The line of the template about keys that need a restart.
    pub(super) const fn remark(self) -> Option<&'static str> {
        match self {
            Self::Reload => None,
            Self::Restart(_) => Some("A change needs a restart."),
        }
    }
}

/// Why a new value of this dotted key needs a restart; `None` if it takes effect at a reload.
pub fn restart_reason(key: &str) -> Option<&'static str> {
    let setting = SETTINGS.iter().find(|setting| setting.path() == key)?;
    match setting.effect {
        Effect::Reload => None,
        Effect::Restart(reason) => Some(reason),
    }
}
