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
}

/// Whether a new value of this dotted key needs a restart to take effect.
///
/// The relays and the filters of events take effect at once. The exception is the maximum size of
/// an event, because the buffers and limits of every connection depend on it.
pub fn needs_restart(key: &str) -> bool {
    let at_once =
        key == "relay.bootstrap_relays" || (key.starts_with("filters.") && key != "filters.max_event_bytes");
    !at_once
}
