//! From file and environment to a checked [`Config`]: defaults under the file under the environment.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::environment;
use super::error::{ConfigErrors, Place, Problem, nearest, printable};
use super::raw::{Kind, Raw};
use super::reload::Source;
use super::rule::SINKS_MAX;
use super::secret::Secret;
use super::settings::{Config, SETTINGS, Setting};
use crate::event_log::free_bytes_needed;

/// The file that is read if none is named and it exists.
pub const DEFAULT_FILE: &str = "config.toml";

/// The largest file that is read: room for 100,000 relays. It keeps a wrong path (a device, a database)
/// from filling the memory.
const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// A configuration and where it came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// From what it can be loaded again.
    pub source: Source,
    /// The checked values.
    pub config: Config,
    /// The file that was read, if any.
    pub file: Option<PathBuf>,
    /// What is allowed but probably not meant, a sentence each.
    pub warnings: Vec<String>,
    /// Where each key of [`SETTINGS`] was set, in their order.
    pub(super) places: Vec<Place>,
}

impl Loaded {
    /// Whether the file or the environment sets this dotted key.
    pub fn sets(&self, key: &str) -> bool {
        let index = SETTINGS.iter().position(|setting| setting.path() == key);
        index.and_then(|index| self.places.get(index)).is_some_and(|place| *place != Place::Default)
    }
}

impl Config {
    /// Reads the configuration: defaults, over them the file (`file`, or `config.toml` in the working
    /// directory if it exists), over them the variables among `environment`.
    ///
    /// # Errors
    ///
    /// All problems that were found, each with its place; a file with broken syntax is not looked into
    /// any further.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Loaded, ConfigErrors> {
        let (named, path) = match file {
            Some(path) => (true, path),
            None => (false, Path::new(DEFAULT_FILE)),
        };
        match read_file(path, named) {
            Ok(text) => Self::parse(text.as_deref().map(|text| (path, text)), environment),
            Err(problem) => {
                ConfigErrors::unless_empty(vec![problem]).and_then(|()| Self::parse(None, std::iter::empty()))
            }
        }
    }

    /// As [`Config::load`], with the file's name and text at hand.
    ///
    /// # Errors
    ///
    /// As [`Config::load`].
    pub fn parse(
        file: Option<(&Path, &str)>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Loaded, ConfigErrors> {
        let mut loading = Loading {
            config: Config::default(),
            places: vec![Place::Default; SETTINGS.len()],
            problems: Vec::new(),
        };
        if let Some((path, text)) = file {
            loading.file(&Document { path, text });
        }
        let (environment, misspelt) = environment::ours_and_misspelt(environment);
        loading.environment(&environment);
        if loading.problems.is_empty() {
            loading.combinations();
        }
        let Loading { config, places, problems } = loading;
        ConfigErrors::unless_empty(problems)?;
        let file = file.map(|(path, _)| path.to_owned());
        let warnings = misspelt.into_iter().chain(config.warnings()).collect();
        Ok(Loaded { source: Source::new(file.clone(), environment), config, file, warnings, places })
    }

    /// What is allowed but probably not meant, a sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let (relays, room) = (self.relay.bootstrap_relays.len(), self.relay.max_connections.get());
        if relays == 0 {
            warnings.push("relay.bootstrap_relays is empty: no events will arrive".to_owned());
        }
        if relays > room {
            warnings.push(format!(
                "relay.bootstrap_relays names {relays} relays, relay.max_connections allows {room}: \
                 the rest is not connected to"
            ));
        }
        let (min_free_bytes, effective) = (self.storage.min_free_bytes, self.free_bytes_min());
        if min_free_bytes != effective {
            warnings.push(format!(
                "storage.min_free_bytes is {min_free_bytes}, but the database may need {effective} bytes to write down \
                 what it holds in memory: that many are kept free"
            ));
        }
        warnings.extend(self.fanout_warnings());
        warnings
    }

    /// The bytes of disk below which nothing is written: as configured, but no fewer than RocksDB
    /// may need for its write buffers; 0 if the operator does not mind.
    pub fn free_bytes_min(&self) -> u64 {
        match self.storage.min_free_bytes {
            0 => 0,
            configured => configured.max(free_bytes_needed()),
        }
    }

    fn fanout_warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if !self.fanout.enabled {
            if self.postgres.dsn.is_some() {
                warnings.push("postgres.dsn is set, but fanout.enabled is false: it is not used".to_owned());
            }
            return warnings;
        }
        let allowed = &self.filters.allowed_kinds;
        if !allowed.is_empty() && self.fanout.kinds.is_disjoint(allowed) {
            warnings.push(
                "filters.allowed_kinds has none of fanout.kinds: there will be no signals for followers"
                    .to_owned(),
            );
        }
        let is_loopback = self.output.bind_address.to_canonical().is_loopback();
        if !is_loopback && self.api.public_url.is_none() {
            warnings.push(
                "output.bind_address is no loopback address and api.public_url is not set: followers and bots \
                 cannot prove their keys, so /fanout lets nobody in"
                    .to_owned(),
            );
        }
        warnings
    }
}

/// The text of the file; `None` if it does not exist and nobody asked for it.
fn read_file(path: &Path, named: bool) -> Result<Option<String>, Problem> {
    let problem = |what: String| Problem { place: Document { path, text: "" }.whole(), key: None, what };
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    match read {
        Err(fault) if fault.kind() == ErrorKind::NotFound && !named => return Ok(None),
        Err(fault) => return Err(problem(format!("the configuration file cannot be read: {fault}"))),
        Ok(_) if bytes.len() as u64 > FILE_BYTES_MAX => {
            return Err(problem(format!(
                "larger than {FILE_BYTES_MAX} bytes: this is no configuration file"
            )));
        }
        Ok(_) => {}
    }
    String::from_utf8(bytes).map(Some).map_err(|fault| {
        let valid = fault.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(fault.as_bytes());
        // Up to the first bad byte the lossy text is the same, byte for byte.
        let place = Document { path, text: &text }.place(valid);
        Problem { place, key: None, what: "found a byte that is not UTF-8; allowed: UTF-8 text".to_owned() }
    })
}

/// A file's name and text.
struct Document<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Document<'_> {
    fn place(&self, offset: usize) -> Place {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.matches('\n').count() + 1;
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        Place::File { path: self.path.into(), line, column }
    }

    fn whole(&self) -> Place {
        Place::File { path: self.path.into(), line: 0, column: 0 }
    }
}

/// A configuration on its way.
struct Loading {
    config: Config,
    places: Vec<Place>,
    problems: Vec<Problem>,
}

impl Loading {
    fn file(&mut self, source: &Document<'_>) {
        let (table, faults) = DeTable::parse_recoverable(source.text);
        if faults.is_empty() {
            for (name, value) in table.get_ref() {
                self.section(source, name, value);
            }
        }
        for fault in faults {
            // The message names the syntax only. The library's own display quotes the line, which may
            // hold a secret.
            let place = fault.span().map_or_else(|| source.whole(), |span| source.place(span.start));
            self.problems.push(Problem { place, key: None, what: fault.message().to_owned() });
        }
    }

    fn section(
        &mut self,
        source: &Document<'_>,
        name: &Spanned<impl AsRef<str>>,
        value: &Spanned<DeValue<'_>>,
    ) {
        let section = name.get_ref().as_ref();
        let Some(known) = sections().find(|known| *known == section) else {
            return self.problem(
                source.place(name.span().start),
                printable(section),
                unknown_section(section),
            );
        };
        let DeValue::Table(keys) = value.get_ref() else {
            // Not the text itself: it may be a secret that was written in the wrong place.
            let found = match Raw::from_toml(value) {
                Raw { kind: Kind::Text(_), .. } => "a text".to_owned(),
                other => other.describe(),
            };
            let what = format!("found {found}; allowed: a section [{known}]");
            return self.problem(source.place(value.span().start), known.to_owned(), what);
        };
        for (name, value) in keys {
            let key = name.get_ref();
            let place = source.place(name.span().start);
            let setting = SETTINGS.iter().enumerate().find(|(_, s)| s.section == section && s.key == key);
            match setting {
                Some((index, setting)) => {
                    self.set(index, setting, &Raw::from_toml(value), place, |offset| source.place(offset));
                }
                None => self.problem(place, format!("{known}.{}", printable(key)), unknown_key(known, key)),
            }
        }
    }

    fn environment(&mut self, ours: &[(String, Secret)]) {
        for (name, value) in ours {
            let place = Place::Environment(name.clone());
            let Some((index, setting)) = SETTINGS.iter().enumerate().find(|(_, s)| s.is_named(name)) else {
                let what = environment::unknown(name);
                self.problems.push(Problem { place: Place::Environment(printable(name)), key: None, what });
                continue;
            };
            if let Some(Place::Environment(other)) = self.places.get(index) {
                let what = format!("{other} sets it too; allowed: one of the two");
                self.problem(place, setting.path(), what);
                continue;
            }
            let raw = Raw::from_environment(value.reveal(), (setting.shape)());
            self.set(index, setting, &raw, place.clone(), |_| place.clone());
        }
    }

    /// Puts a value in, or reports what is wrong with it.
    fn set(
        &mut self,
        index: usize,
        setting: &Setting,
        raw: &Raw,
        place: Place,
        place_of: impl Fn(usize) -> Place,
    ) {
        if let Some(known) = self.places.get_mut(index) {
            *known = place;
        }
        for fault in (setting.set)(&mut self.config, raw).err().unwrap_or_default() {
            let within = if fault.key.is_empty() { String::new() } else { format!(".{}", fault.key) };
            self.problem(place_of(fault.offset), setting.path() + &within, fault.what);
        }
    }

    /// What is wrong with values that are right by themselves.
    fn combinations(&mut self) {
        let output = self.config.output.clone();
        let monitoring = &self.config.monitoring;
        if monitoring.prometheus_port.is_some_and(|port| port.get() == output.websocket_port) {
            let what = format!(
                "found {} for both; allowed: two different ports, or 0 for monitoring.prometheus_port",
                output.websocket_port
            );
            self.conflict(["output.websocket_port", "monitoring.prometheus_port"], what);
        }
        let nostr = &self.config.nostr;
        let (key, key_file) = (nostr.secret_key.is_some(), nostr.secret_key_file.is_some());
        if key && key_file {
            let what = "both are set; allowed: one of the two".to_owned();
            self.conflict(["nostr.secret_key", "nostr.secret_key_file"], what);
        }
        if self.config.relay.authenticate && !key && !key_file {
            let what = "found true, but there is no key to prove; allowed: true with nostr.secret_key or \
                        nostr.secret_key_file, or false";
            self.problem(
                self.place_of("relay.authenticate"),
                "relay.authenticate".to_owned(),
                what.to_owned(),
            );
        }
        if let Some(name) = output.name_twice() {
            let what = format!(
                "found the name \"{}\" in both; allowed: a name of its own for each sink",
                name.as_str()
            );
            self.conflict(["output.tcp", "output.rest"], what);
        }
        if self.config.output.sinks() > SINKS_MAX {
            let what =
                format!("found {} sinks in all; allowed: at most {SINKS_MAX}", self.config.output.sinks());
            self.conflict(["output.tcp", "output.rest"], what);
        }
    }

    /// Reports keys that do not go together, and blames one that somebody set.
    fn conflict(&mut self, keys: [&str; 2], what: String) {
        let set = keys.into_iter().rev().find(|key| self.place_of(key) != Place::Default);
        self.problem(self.place_of(set.unwrap_or_default()), keys.join(" and "), what);
    }

    fn place_of(&self, path: &str) -> Place {
        let index = SETTINGS.iter().position(|setting| setting.path() == path);
        index.and_then(|index| self.places.get(index)).cloned().unwrap_or(Place::Default)
    }

    fn problem(&mut self, place: Place, key: String, what: String) {
        self.problems.push(Problem { place, key: Some(key), what });
    }
}

impl Setting {
    /// The dotted key.
    pub(super) fn path(&self) -> String {
        format!("{}.{}", self.section, self.key)
    }

    /// The environment variable.
    pub(super) fn variable(&self) -> String {
        format!(
            "{}{}__{}",
            environment::PREFIX,
            self.section.to_ascii_uppercase(),
            self.key.to_ascii_uppercase()
        )
    }

    fn is_named(&self, variable: &str) -> bool {
        self.variable() == variable
            || (variable == environment::RELAY_URLS && self.path() == environment::RELAY_URLS_KEY)
    }
}

/// The names of the sections, in their order.
pub(super) fn sections() -> impl Iterator<Item = &'static str> {
    let mut last = "";
    SETTINGS
        .iter()
        .map(|setting| setting.section)
        .filter(move |name| std::mem::replace(&mut last, *name) != *name)
}

fn unknown_section(name: &str) -> String {
    if let Some(setting) = SETTINGS.iter().find(|setting| setting.key == name) {
        return format!("unknown section; as a key it belongs into [{}]", setting.section);
    }
    match nearest(name, sections()) {
        Some(near) => format!("unknown section; did you mean [{near}]?"),
        None => format!("unknown section; allowed: {}", sections().collect::<Vec<_>>().join(", ")),
    }
}

fn unknown_key(section: &str, name: &str) -> String {
    let siblings = || SETTINGS.iter().filter(|s| s.section == section).map(|setting| setting.key);
    if let Some(near) = nearest(name, siblings()) {
        return format!("unknown key; did you mean {near}?");
    }
    if let Some(setting) = SETTINGS.iter().find(|setting| setting.key == name) {
        return format!("unknown key here; it belongs into [{}]", setting.section);
    }
    format!("unknown key; allowed: {}", siblings().collect::<Vec<_>>().join(", "))
}
