//! The names of sections, keys and variables, and corrections of unknown names.

use super::environment;
use super::error::nearest;
use super::settings::{SETTINGS, Setting};

impl Setting {
    /// The dotted key.
    pub(super) fn path(&self) -> String {
        format!("{}.{}", self.section, self.key.name)
    }

    /// The environment variable.
    pub(super) fn variable(&self) -> String {
        let (section, key) = (self.section.to_ascii_uppercase(), self.key.name.to_ascii_uppercase());
        format!("{}{section}__{key}", environment::PREFIX)
    }

    pub(super) fn is_named(&self, variable: &str) -> bool {
        self.variable() == variable
            || (variable == environment::RELAY_URLS && self.path() == environment::RELAY_URLS_KEY)
    }
}

/// The names of the sections, in the order of [`SETTINGS`].
pub(super) fn sections() -> impl Iterator<Item = &'static str> {
    SETTINGS
        .chunk_by(|one, next| one.section == next.section)
        .flat_map(<[_]>::first)
        .map(|first| first.section)
}

/// The section that has a key of this name.
fn section_of(key: &str) -> Option<&'static str> {
    SETTINGS.iter().find(|setting| setting.key.name == key).map(|setting| setting.section)
}

pub(super) fn unknown_section(name: &str) -> String {
    if let Some(section) = section_of(name) {
        return format!("unknown section; as a key it belongs in [{section}]");
    }
    match nearest(name, sections()) {
        Some(near) => format!("unknown section; did you mean [{near}]?"),
        None => format!("unknown section; allowed: {}", sections().collect::<Vec<_>>().join(", ")),
    }
}

pub(super) fn unknown_key(section: &str, name: &str) -> String {
    let siblings = || SETTINGS.iter().filter(|s| s.section == section).map(|setting| setting.key.name);
    if let Some(near) = nearest(name, siblings()) {
        return format!("unknown key; did you mean {near}?");
    }
    if let Some(section) = section_of(name) {
        return format!("unknown key here; it belongs in [{section}]");
    }
    format!("unknown key; allowed: {}", siblings().collect::<Vec<_>>().join(", "))
}
