//! The rules for values: each reads a raw value, says what is allowed, and writes TOML. [`number`]
//! and [`text`] contain the rules for numbers and texts, and [`sinks`] and [`readers`] those for
//! lists of tables.

mod number;
mod readers;
mod sinks;
mod text;

use std::collections::BTreeSet;
use std::marker::PhantomData;

use toml::de::DeValue;

use super::error::printable;
use super::value::{Raw, describe};
use super::webhook::Headers;

pub(super) use number::*;
pub(super) use readers::Readers;
pub(super) use sinks::{SINKS_MAX, sinks};
pub(super) use text::*;

/// A value that breaks its rule.
#[derive(Debug)]
pub(super) struct Mismatch {
    /// The key within a table of a list; empty for the value as a whole.
    pub(super) key: String,
    /// Byte offset in the file.
    pub(super) offset: usize,
    /// The message: `found …; allowed: …`.
    pub(super) what: String,
}

impl Mismatch {
    fn new(key: &str, offset: usize, what: impl Into<String>) -> Self {
        Self { key: key.to_owned(), offset, what: what.into() }
    }
}

/// How the text of an environment variable is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// A number, a flag or a table, in the syntax of TOML.
    Plain,
    /// Literal text.
    Text,
    /// A TOML array, or items separated by commas, semicolons or white space.
    List { of_text: bool },
}

/// One kind of value.
pub(super) trait Rule {
    type Value;

    /// Checks a value. For a list, the error names every wrong item.
    fn read(&self, raw: &Raw<'_>) -> Result<Self::Value, Vec<Mismatch>>;

    /// The value in TOML; `None` if it is not set.
    fn show(&self, value: &Self::Value) -> Option<String>;

    /// What is allowed; the text follows "allowed: ".
    fn allowed(&self) -> String;

    fn shape(&self) -> Shape {
        Shape::Plain
    }

    /// What the template shows for this key if the default says too little.
    fn example(&self, _key: &str) -> Option<String> {
        None
    }

    /// The error for a value that breaks the rule.
    fn mismatch<T>(&self, raw: &Raw<'_>) -> Result<T, Vec<Mismatch>> {
        self.found(describe(raw.get_ref()), raw)
    }

    /// Like [`Rule::mismatch`], with a custom text for what was found.
    fn found<T>(&self, found: impl std::fmt::Display, raw: &Raw<'_>) -> Result<T, Vec<Mismatch>> {
        let what = format!("found {found}; allowed: {}", self.allowed());
        Err(vec![Mismatch::new("", raw.span().start, what)])
    }
}

/// Names the type of a rule's values where it cannot be inferred.
pub(super) fn of_type<T>(rule: impl Rule<Value = T>) -> impl Rule<Value = T> {
    rule
}

/// `Ok` with the values if nothing is wrong.
fn unless_wrong<T>(values: T, faults: Vec<Mismatch>) -> Result<T, Vec<Mismatch>> {
    if faults.is_empty() { Ok(values) } else { Err(faults) }
}

/// `true` or `false`.
pub(super) struct Flag;

impl Rule for Flag {
    type Value = bool;

    fn read(&self, raw: &Raw<'_>) -> Result<bool, Vec<Mismatch>> {
        raw.get_ref().as_bool().map_or_else(|| self.mismatch(raw), Ok)
    }

    fn show(&self, value: &bool) -> Option<String> {
        Some(value.to_string())
    }

    fn allowed(&self) -> String {
        "true or false".to_owned()
    }
}

/// A value that may be unset.
pub(super) struct Optional<R>(R);

pub(super) fn optional<R>(rule: R) -> Optional<R> {
    Optional(rule)
}

impl<R: Rule> Rule for Optional<R> {
    type Value = Option<R::Value>;

    fn read(&self, raw: &Raw<'_>) -> Result<Self::Value, Vec<Mismatch>> {
        self.0.read(raw).map(Some)
    }

    fn show(&self, value: &Self::Value) -> Option<String> {
        value.as_ref().and_then(|value| self.0.show(value))
    }

    fn allowed(&self) -> String {
        self.0.allowed()
    }

    fn shape(&self) -> Shape {
        self.0.shape()
    }
}

/// A list whose items follow one rule; an item that is listed twice counts once.
pub(super) struct List<R, C> {
    item: R,
    items_max: usize,
    collection: PhantomData<fn() -> C>,
}

pub(super) fn list<R, C>(item: R, items_max: usize) -> List<R, C> {
    List { item, items_max, collection: PhantomData }
}

impl<R, C> Rule for List<R, C>
where
    R: Rule,
    R::Value: Ord + Clone,
    C: FromIterator<R::Value>,
    for<'a> &'a C: IntoIterator<Item = &'a R::Value>,
{
    type Value = C;

    fn read(&self, raw: &Raw<'_>) -> Result<C, Vec<Mismatch>> {
        let Some(items) = raw.get_ref().as_array() else { return self.mismatch(raw) };
        if items.len() > self.items_max {
            return self.found(format_args!("{} items", items.len()), raw);
        }
        let (mut values, mut faults, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
        for item in items {
            match self.item.read(item) {
                Ok(value) if seen.insert(value.clone()) => values.push(value),
                Ok(_) => {}
                Err(found) => faults.extend(found),
            }
        }
        unless_wrong(values.into_iter().collect(), faults)
    }

    fn show(&self, values: &C) -> Option<String> {
        const COLUMNS: usize = 80;
        let items: Vec<String> = values.into_iter().filter_map(|value| self.item.show(value)).collect();
        let line = format!("[{}]", items.join(", "));
        if line.len() <= COLUMNS { Some(line) } else { Some(format!("[\n    {},\n]", items.join(",\n    "))) }
    }

    fn allowed(&self) -> String {
        format!("a list of at most {} items, each {}", self.items_max, self.item.allowed())
    }

    fn shape(&self) -> Shape {
        Shape::List { of_text: self.item.shape() == Shape::Text }
    }
}

/// A table of headers for requests.
pub(super) struct HeaderTable;

impl HeaderTable {
    const HEADERS_MAX: usize = 32;
}

impl Rule for HeaderTable {
    type Value = Headers;

    fn read(&self, raw: &Raw<'_>) -> Result<Headers, Vec<Mismatch>> {
        let Some(table) = raw.get_ref().as_table() else { return self.mismatch(raw) };
        if table.len() > Self::HEADERS_MAX {
            return self.found(format_args!("{} headers", table.len()), raw);
        }
        let (mut headers, mut faults) = (Headers::default(), Vec::new());
        for (name, value) in table {
            let added = match value.get_ref() {
                DeValue::String(value) => headers.add(name.get_ref(), value),
                _ => Err("its value is not a text".to_owned()),
            };
            if let Err(fault) = added {
                let allowed = self.allowed();
                let what = format!("found a header (its value is not shown): {fault}; allowed: {allowed}");
                faults.push(Mismatch::new(&printable(name.get_ref()), name.span().start, what));
            }
        }
        unless_wrong(headers, faults)
    }

    fn show(&self, headers: &Headers) -> Option<String> {
        let shown: Vec<String> = headers.map().keys().map(|name| format!("{name} = \"***\"")).collect();
        (!shown.is_empty()).then(|| format!("{{ {} }}", shown.join(", ")))
    }

    fn allowed(&self) -> String {
        format!("a table of at most {} headers that are not the gateway's own", Self::HEADERS_MAX)
    }

    fn example(&self, key: &str) -> Option<String> {
        Some(format!("{key} = {{ Authorization = \"…\" }}"))
    }
}
