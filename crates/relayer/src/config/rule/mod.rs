//! The rules that values are checked by: each reads a raw value, says what is allowed, and writes TOML.

mod headers;
mod number;
mod sink;
mod text;

use std::collections::BTreeSet;
use std::marker::PhantomData;

use super::raw::{Kind, Raw, Shape};

pub(super) use headers::headers;
pub(super) use number::*;
pub(super) use sink::{SINKS_MAX, rest_sinks, tcp_sinks};
pub(super) use text::*;

/// A value that breaks its rule.
#[derive(Debug)]
pub(super) struct Mismatch {
    /// The key within a table of a list; empty for the value as a whole.
    pub(super) key: String,
    /// Where, as [`Raw::offset`].
    pub(super) offset: usize,
    /// `found …; allowed: …`.
    pub(super) what: String,
}

/// One kind of value.
pub(super) trait Rule {
    /// What a value becomes once it is checked.
    type Value;

    /// Checks a value; every item of a list that is wrong is named.
    fn read(&self, raw: &Raw) -> Result<Self::Value, Vec<Mismatch>>;

    /// The value in TOML; `None` if it is not set.
    fn show(&self, value: &Self::Value) -> Option<String>;

    /// What is allowed, to be read after "allowed: ".
    fn allowed(&self) -> String;

    /// How the environment spells it.
    fn shape(&self) -> Shape;

    /// What the template shows in place of the default, a line each, if the default says too little.
    fn example(&self) -> Vec<String> {
        Vec::new()
    }

    /// The complaint about a value that breaks the rule.
    fn mismatch<T>(&self, raw: &Raw) -> Result<T, Vec<Mismatch>> {
        let what = format!("found {}; allowed: {}", raw.describe(), self.allowed());
        Err(vec![Mismatch::new(raw.offset, what)])
    }
}

impl Mismatch {
    fn new(offset: usize, what: String) -> Self {
        Self { key: String::new(), offset, what }
    }
}

/// `true` or `false`.
pub(super) struct Flag;

impl Rule for Flag {
    type Value = bool;

    fn read(&self, raw: &Raw) -> Result<bool, Vec<Mismatch>> {
        match raw.kind {
            Kind::Flag(flag) => Ok(flag),
            _ => self.mismatch(raw),
        }
    }

    fn show(&self, value: &bool) -> Option<String> {
        Some(value.to_string())
    }

    fn allowed(&self) -> String {
        "true or false".to_owned()
    }

    fn shape(&self) -> Shape {
        Shape::Plain
    }
}

/// A list whose items obey one rule; an item that is listed twice counts once.
pub(super) struct List<R, C> {
    item: R,
    items_max: usize,
    collection: PhantomData<fn() -> C>,
}

/// A list of at most `items_max`.
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

    fn read(&self, raw: &Raw) -> Result<C, Vec<Mismatch>> {
        let Kind::List(items) = &raw.kind else { return self.mismatch(raw) };
        if items.len() > self.items_max {
            let what = format!("found {} items; allowed: {}", items.len(), self.allowed());
            return Err(vec![Mismatch::new(raw.offset, what)]);
        }
        let (mut values, mut faults, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
        for item in items {
            match self.item.read(item) {
                Ok(value) if seen.insert(value.clone()) => values.push(value),
                Ok(_) => {}
                Err(fault) => faults.extend(fault),
            }
        }
        if faults.is_empty() { Ok(values.into_iter().collect()) } else { Err(faults) }
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
