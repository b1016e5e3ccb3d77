//! Loads a checked [`Config`]: the environment overrides the file, and the file overrides the
//! defaults.

use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigErrors, Place, Problem, printable};
use super::file::{self, Document};
use super::names::{sections, unknown_key, unknown_section};
use super::reload::Source;
use super::rules::{self, Rule as _};
use super::secret::Secret;
use super::settings::{Config, SETTINGS};
use super::value::{Raw, describe, from_environment};
use super::{check, environment};

/// The file that is read, if it exists, when no file is named.
pub const DEFAULT_FILE: &str = "config.toml";

/// A configuration and where it came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The source to reload from.
    pub source: Source,
    /// The checked values.
    pub config: Config,
    /// The file that was read, if any.
    pub file: Option<PathBuf>,
    /// Warnings about values that are allowed but probably not intended, one sentence each.
    pub warnings: Vec<String>,
    /// Where each key was set, in the order of [`SETTINGS`].
    pub(super) places: Vec<Place>,
}

impl Loaded {
    /// Whether the file or the environment sets this dotted key.
    pub fn sets(&self, key: &str) -> bool {
        place_of(key, &self.places) != Place::Default
    }
}

/// Where a dotted key was set.
fn place_of(key: &str, places: &[Place]) -> Place {
    let index = SETTINGS.iter().position(|setting| setting.path() == key);
    index.and_then(|index| places.get(index)).cloned().unwrap_or(Place::Default)
}

impl Config {
    /// Reads the configuration: the defaults, overridden by the file (`file`, or `config.toml` in
    /// the working directory if it exists), overridden by our variables in `environment`.
    ///
    /// # Errors
    ///
    /// All problems that were found, each with its place. If the syntax of the file is broken, the
    /// values are not checked.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Loaded, ConfigErrors> {
        let path = file.unwrap_or(Path::new(DEFAULT_FILE));
        match file::read(path, file.is_some()) {
            Ok(text) => Self::parse(text.as_deref().map(|text| (path, text)), environment),
            Err(problem) => {
                let log_format = match Self::parse(None, environment) {
                    Ok(loaded) => loaded.config.monitoring.log_format,
                    Err(errors) => errors.log_format,
                };
                Err(ConfigErrors::one(problem, log_format))
            }
        }
    }

    /// Like [`Config::load`], but takes the file's name and text.
    ///
    /// # Errors
    ///
    /// As [`Config::load`].
    pub fn parse(
        file: Option<(&Path, &str)>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Loaded, ConfigErrors> {
        let mut loading = Loading {
            config: Self::default(),
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
        ConfigErrors::unless_empty(problems, config.monitoring.log_format)?;
        let file = file.map(|(path, _)| path.to_owned());
        let warnings = misspelt.into_iter().chain(config.warnings()).collect();
        Ok(Loaded { source: Source::new(file.clone(), environment), config, file, warnings, places })
    }
}

/// A configuration that is being loaded.
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
        } else {
            self.log_format(table.get_ref());
        }
        for fault in faults {
            // `message` does not quote the line, which may hold a secret; `Display` would.
            let place = fault.span().map_or_else(|| source.whole(), |span| source.place(span.start));
            self.problems.push(Problem { place, key: None, what: fault.message().to_owned() });
        }
    }

    /// Reads from a broken file how its problems are to be logged.
    fn log_format(&mut self, table: &DeTable<'_>) {
        let section = table.get("monitoring").and_then(|section| section.get_ref().as_table());
        if let Some(Ok(format)) =
            section.and_then(|keys| keys.get("log_format")).map(|raw| rules::choice().read(raw))
        {
            self.config.monitoring.log_format = format;
        }
    }

    fn section(&mut self, source: &Document<'_>, name: &Spanned<impl AsRef<str>>, value: &Raw<'_>) {
        let section = name.get_ref().as_ref();
        let Some(known) = sections().find(|known| *known == section) else {
            let place = source.place(name.span().start);
            return self.problem(place, printable(section), unknown_section(section));
        };
        let DeValue::Table(keys) = value.get_ref() else {
            // A text is not shown: it may be a secret that was written in the wrong place.
            let text = value.get_ref().is_str();
            let found = if text { "a text".to_owned() } else { describe(value.get_ref()) };
            let what = format!("found {found}; allowed: a section [{known}]");
            return self.problem(source.place(value.span().start), known.to_owned(), what);
        };
        for (name, value) in keys {
            let key = &**name.get_ref();
            let place = source.place(name.span().start);
            match SETTINGS.iter().position(|s| s.section == section && s.key.name == key) {
                Some(index) => self.set(index, value, place, |offset| source.place(offset)),
                None => self.problem(place, format!("{known}.{}", printable(key)), unknown_key(known, key)),
            }
        }
    }

    fn environment(&mut self, ours: &[(String, Secret)]) {
        for (name, value) in ours {
            let place = Place::Environment(name.clone());
            let Some((index, setting)) = SETTINGS.iter().enumerate().find(|(_, s)| s.is_named(name)) else {
                let place = Place::Environment(printable(name));
                self.problems.push(Problem { place, key: None, what: environment::unknown(name) });
                continue;
            };
            if let Some(Place::Environment(other)) = self.places.get(index) {
                let what = format!("{other} sets it too; allowed: one of the two");
                self.problem(place, setting.path(), what);
                continue;
            }
            let raw = from_environment(value.reveal(), (setting.key.shape)());
            self.set(index, &raw, place.clone(), |_| place.clone());
        }
    }

    /// Stores a value, or reports what is wrong with it.
    fn set(&mut self, index: usize, raw: &Raw<'_>, place: Place, place_at: impl Fn(usize) -> Place) {
        let (Some(setting), Some(known)) = (SETTINGS.get(index), self.places.get_mut(index)) else { return };
        *known = place;
        for fault in (setting.key.set)(&mut self.config, raw).err().unwrap_or_default() {
            let within = if fault.key.is_empty() { String::new() } else { format!(".{}", fault.key) };
            self.problem(place_at(fault.offset), setting.path() + &within, fault.what);
        }
    }

    /// Reports keys that contradict each other, and blames the last one that was set.
    fn combinations(&mut self) {
        for (keys, what) in check::contradictions(&self.config) {
            let places = keys.iter().rev().map(|key| place_of(key, &self.places));
            let place = places.into_iter().find(|place| *place != Place::Default).unwrap_or(Place::Default);
            self.problem(place, keys.join(" and "), what);
        }
    }

    fn problem(&mut self, place: Place, key: String, what: String) {
        self.problems.push(Problem { place, key: Some(key), what });
    }
}
