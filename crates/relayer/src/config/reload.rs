//! Loading the configuration again while the program runs, and what differs then.

use std::path::PathBuf;

use super::error::ConfigErrors;
use super::load::Loaded;
use super::secret::Secret;
use super::settings::{Config, SETTINGS, Setting};

/// From what a configuration was loaded: which file, and which variables.
#[derive(Debug, Clone)]
pub struct Source {
    file: Option<PathBuf>,
    /// They may be secrets.
    environment: Vec<(String, Secret)>,
}

impl Source {
    /// `file` is what was read, even if nobody named it: it must be there the next time, because defaults in
    /// its place would change everything.
    pub(super) const fn new(file: Option<PathBuf>, environment: Vec<(String, Secret)>) -> Self {
        Self { file, environment }
    }

    /// Loads it again: the file as it is now, under the variables as they were.
    ///
    /// # Errors
    /// As [`Config::load`]; also when the file is gone.
    pub fn load(&self) -> Result<Loaded, ConfigErrors> {
        let environment = self.environment.iter();
        let environment = environment.map(|(name, value)| (name.clone(), value.reveal().to_owned()));
        Config::load(self.file.as_deref(), environment)
    }
}

impl Config {
    /// The dotted keys whose values differ, in the order of the template. Of `nostr.secret_key_file`, what
    /// the file holds counts, too.
    pub fn changed_keys(&self, other: &Self) -> Vec<String> {
        SETTINGS.iter().filter(|setting| !(setting.key.same)(self, other)).map(Setting::path).collect()
    }
}

/// Whether a new value of this dotted key takes effect only when the program is started again.
///
/// What takes effect at once is which relays are wanted and which events are let in. The largest event is
/// no part of it: buffers and limits of every connection are laid out for it.
pub fn needs_restart(key: &str) -> bool {
    let at_once =
        key == "relay.bootstrap_relays" || (key.starts_with("filters.") && key != "filters.max_event_bytes");
    !at_once
}
