//! The list of readers. As for sinks, the keys of a table are checked as strictly as the keys of
//! the file. No error shows a token.

use std::collections::BTreeSet;

use toml::de::DeTable;

use super::sinks::{required, set, unknown_key_of, within};
use super::{Mismatch, Rule, Shape, sink_name, unless_wrong};
use crate::config::error::printable;
use crate::config::readers::{READER_OPTIONS, ReaderConfig, ReaderOptions};
use crate::config::value::Raw;

/// The maximum number of readers. A request's token is compared with each of them.
const READERS_MAX: usize = 1000;

const NAME: &str = "name";

/// A list of readers.
pub struct Readers;

impl Rule for Readers {
    type Value = Vec<ReaderConfig>;

    fn read(&self, raw: &Raw<'_>) -> Result<Self::Value, Vec<Mismatch>> {
        let Some(tables) = raw.get_ref().as_array() else { return self.hidden(raw) };
        if tables.len() > READERS_MAX {
            return self.found(format_args!("{} items", tables.len()), raw);
        }
        let (mut readers, mut faults): (Vec<ReaderConfig>, _) = (Vec::new(), Vec::new());
        let mut names = BTreeSet::new();
        for table in tables {
            let read = match table.get_ref().as_table() {
                Some(members) => read_reader(members, table.span().start),
                None => self.hidden(table),
            };
            let reader = match read {
                Ok(reader) => reader,
                Err(found) => {
                    faults.extend(found);
                    continue;
                }
            };
            if !names.insert(reader.name.clone()) {
                let allowed = "a second time; allowed: a name of its own for each reader";
                let what = format!("found \"{}\" {allowed}", reader.name);
                faults.push(Mismatch::new(NAME, table.span().start, what));
            }
            if let Some(other) = readers.iter().find(|other| other.token() == reader.token()) {
                let what = format!(
                    "found the token of \"{}\" for \"{}\"; allowed: a token of its own for each reader",
                    other.name, reader.name
                );
                faults.push(Mismatch::new("token", table.span().start, what));
            }
            readers.push(reader);
        }
        unless_wrong(readers, faults)
    }

    fn show(&self, readers: &Self::Value) -> Option<String> {
        if readers.is_empty() {
            return Some("[]".to_owned());
        }
        let lines: Vec<String> =
            readers.iter().map(|reader| format!("    {},\n", inline_table(reader))).collect();
        Some(format!("[\n{}]", lines.concat()))
    }

    fn allowed(&self) -> String {
        format!(
            "a list of at most {READERS_MAX} tables with name, token or token_file, and the options of a reader"
        )
    }

    fn shape(&self) -> Shape {
        Shape::List { of_text: false }
    }

    fn example(&self, key: &str) -> Option<String> {
        let mut text = format!(
            "[[api.{key}]]\n\
             # The name in the log and the metrics. The cursors of the reader's consumers are stored\n\
             # under this name.\n\
             # Allowed: {}.\nname = \"dashboard\"\n",
            sink_name().allowed()
        );
        text.extend(READER_OPTIONS.iter().map(|key| key.explain(None)));
        Some(text)
    }
}

impl Readers {
    /// The error for a value that is no table. A text is not shown, because it may be a token.
    fn hidden<T>(&self, raw: &Raw<'_>) -> Result<T, Vec<Mismatch>> {
        if raw.get_ref().is_table() {
            self.mismatch(raw)
        } else {
            self.found("a value that is no table", raw)
        }
    }
}

/// Reads one table. The error names every wrong key.
fn read_reader(table: &DeTable<'_>, offset: usize) -> Result<ReaderConfig, Vec<Mismatch>> {
    let mut faults = Vec::new();
    let name = required(table, offset, NAME, &sink_name(), &mut faults);
    let mut options = ReaderOptions::default();
    for (key, value) in table {
        let written = &**key.get_ref();
        match set(READER_OPTIONS, &mut options, written, value) {
            _ if written == NAME => {}
            Some(Ok(())) => {}
            Some(Err(found)) => faults.extend(within(written, found)),
            None => {
                let known = std::iter::once(NAME).chain(READER_OPTIONS.iter().map(|option| option.name));
                let what = unknown_key_of(known, written);
                faults.push(Mismatch::new(&printable(written), key.span().start, what));
            }
        }
    }
    let given = (table.contains_key("token"), table.contains_key("token_file"));
    let conflict = match given {
        (true, true) => Some("token_file is set, too; allowed: one of the two"),
        (false, false) => Some("missing; allowed: token or token_file"),
        _ => None,
    };
    if let Some(what) = conflict {
        let offset = table.get("token").map_or(offset, |value| value.span().start);
        faults.push(Mismatch::new("token", offset, what));
    }
    match name {
        Some(name) if faults.is_empty() => Ok(ReaderConfig { name, options }),
        _ => Err(faults),
    }
}

/// Formats a reader as an inline table of TOML, with its token masked.
fn inline_table(reader: &ReaderConfig) -> String {
    let options = READER_OPTIONS.iter().map(|option| (option.name, (option.show)(&reader.options)));
    let values = std::iter::once((NAME, sink_name().show(&reader.name))).chain(options);
    let shown: Vec<String> = values.filter_map(|(key, value)| Some(format!("{key} = {}", value?))).collect();
    format!("{{ {} }}", shown.join(", "))
}
