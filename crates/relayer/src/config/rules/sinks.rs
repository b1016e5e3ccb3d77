//! Lists of sinks. The keys of a sink's table are checked as strictly as the keys of the file.

use std::collections::BTreeSet;
use std::marker::PhantomData;

use toml::de::DeTable;

use super::{Mismatch, Rule, Shape, Text, host_port, http_url, sink_name, unless_wrong};
use crate::config::address::{HostPort, HttpUrl};
use crate::config::error::{nearest, printable};
use crate::config::key::Key;
use crate::config::sinks::{
    COMMON_OPTIONS, CommonOptions, REST_OPTIONS, RestOptions, SinkConfig, SinkOptions, TCP_OPTIONS,
    TcpOptions,
};
use crate::config::value::Raw;

/// The maximum number of sinks over TCP and HTTP. Each sink takes a task, a socket and up to a few
/// MiB of memory.
pub(crate) const SINKS_MAX: usize = 1000;

/// The keys that a sink must have.
const REQUIRED: [&str; 2] = ["name", "address"];

/// How the tables of one transport are read.
pub(crate) trait SinkTable: SinkOptions {
    /// The template's text about the address, and an example of an address.
    const ADDRESS: [&'static str; 2];
    /// The options of this transport, in addition to [`COMMON_OPTIONS`].
    const OPTIONS: &'static [Key<Self>];

    fn address() -> Text<Self::Address>;

    /// Returns a key that contradicts another key, and the reason.
    fn conflict(&self, address: &Self::Address) -> Option<(&'static str, &'static str)>;
}

impl SinkTable for TcpOptions {
    const ADDRESS: [&'static str; 2] = ["The address of the sink.", "indexer.example:9000"];
    const OPTIONS: &'static [Key<Self>] = TCP_OPTIONS;

    fn address() -> Text<HostPort> {
        host_port()
    }

    fn conflict(&self, _: &HostPort) -> Option<(&'static str, &'static str)> {
        let unused = self.ca_file.is_some() && !self.tls;
        unused.then_some(("ca_file", "it is set; allowed: only with tls = true"))
    }
}

impl SinkTable for RestOptions {
    const ADDRESS: [&'static str; 2] = ["The URL that events are posted to.", "https://hooks.example/nostr"];
    const OPTIONS: &'static [Key<Self>] = REST_OPTIONS;

    fn address() -> Text<HttpUrl> {
        http_url()
    }

    fn conflict(&self, address: &HttpUrl) -> Option<(&'static str, &'static str)> {
        if self.secret.is_some() && self.secret_file.is_some() {
            return Some(("secret_file", "secret is set, too; allowed: one of the two"));
        }
        let unused = self.ca_file.is_some() && !address.is_https();
        unused.then_some(("ca_file", "it is set; allowed: only with an address that begins with https://"))
    }
}

/// A list of sinks of one transport.
pub struct Sinks<O>(PhantomData<fn() -> O>);

pub const fn sinks<O: SinkTable>() -> Sinks<O> {
    Sinks(PhantomData)
}

impl<O: SinkTable> Rule for Sinks<O> {
    type Value = Vec<SinkConfig<O>>;

    fn read(&self, raw: &Raw<'_>) -> Result<Self::Value, Vec<Mismatch>> {
        let Some(tables) = raw.get_ref().as_array() else { return self.mismatch(raw) };
        if tables.len() > SINKS_MAX {
            return self.found(format_args!("{} items", tables.len()), raw);
        }
        let (mut sinks, mut faults, mut names) = (Vec::new(), Vec::new(), BTreeSet::new());
        for table in tables {
            let read = match table.get_ref().as_table() {
                Some(members) => read_sink::<O>(members, table.span().start),
                None => self.mismatch(table),
            };
            match read {
                Ok((sink, name_offset)) => {
                    if !names.insert(sink.name.clone()) {
                        let allowed = "a second time; allowed: a name of its own for each sink";
                        let what = format!("found \"{}\" {allowed}", sink.name);
                        faults.push(Mismatch::new("name", name_offset, what));
                    }
                    sinks.push(sink);
                }
                Err(found) => faults.extend(found),
            }
        }
        unless_wrong(sinks, faults)
    }

    fn show(&self, sinks: &Self::Value) -> Option<String> {
        if sinks.is_empty() {
            return Some("[]".to_owned());
        }
        let lines: Vec<String> = sinks.iter().map(|sink| format!("    {},\n", inline_table(sink))).collect();
        Some(format!("[\n{}]", lines.concat()))
    }

    fn allowed(&self) -> String {
        format!("a list of at most {SINKS_MAX} tables with name, address and the options of a sink")
    }

    fn shape(&self) -> Shape {
        Shape::List { of_text: false }
    }

    fn example(&self, key: &str) -> Option<String> {
        let [what, address] = O::ADDRESS;
        let (names, addresses) = (sink_name().allowed(), O::address().allowed());
        let mut text = format!(
            "[[output.{key}]]\n\
             # The name in the log, the metrics and the API. The cursor is stored under this name.\n\
             # Allowed: {names}.\nname = \"indexer\"\n# {what}\n# Allowed: {addresses}.\naddress = \"{address}\"\n"
        );
        text.extend(O::OPTIONS.iter().map(|key| key.explain(None)));
        text.extend(COMMON_OPTIONS.iter().map(|key| key.explain(None)));
        Some(text)
    }
}

/// Reads one table, and returns the sink with the position of its name. The error names every wrong
/// key.
fn read_sink<O: SinkTable>(
    table: &DeTable<'_>,
    offset: usize,
) -> Result<(SinkConfig<O>, usize), Vec<Mismatch>> {
    let mut faults = Vec::new();
    let name = required(table, offset, "name", &sink_name(), &mut faults);
    let address = required(table, offset, "address", &O::address(), &mut faults);
    let (mut options, mut common) = (O::default(), CommonOptions::default());
    for (key, value) in table {
        let written = &**key.get_ref();
        if REQUIRED.contains(&written) {
            continue;
        }
        let set = set(O::OPTIONS, &mut options, written, value);
        match set.or_else(|| self::set(COMMON_OPTIONS, &mut common, written, value)) {
            Some(Ok(())) => {}
            Some(Err(found)) => faults.extend(within(written, found)),
            None => {
                let what = unknown_key::<O>(written);
                faults.push(Mismatch::new(&printable(written), key.span().start, what));
            }
        }
    }
    let offset_of = |key: &str| table.get(key).map_or(offset, |value| value.span().start);
    if let Some((key, what)) = address.as_ref().and_then(|address| options.conflict(address)) {
        faults.push(Mismatch::new(key, offset_of(key), what));
    }
    match (name, address) {
        (Some(name), Some(address)) if faults.is_empty() => {
            Ok((SinkConfig { name, address, common, options }, offset_of("name")))
        }
        _ => Err(faults),
    }
}

/// Stores a value if the key is in `keys`.
pub(super) fn set<T>(
    keys: &[Key<T>],
    options: &mut T,
    key: &str,
    value: &Raw<'_>,
) -> Option<Result<(), Vec<Mismatch>>> {
    keys.iter().find(|known| known.name == key).map(|known| (known.set)(options, value))
}

/// Reads the value of a key that a table must have.
pub(super) fn required<R: Rule>(
    table: &DeTable<'_>,
    offset: usize,
    key: &str,
    rule: &R,
    faults: &mut Vec<Mismatch>,
) -> Option<R::Value> {
    let Some(value) = table.get(key) else {
        faults.push(Mismatch::new(key, offset, format!("missing; allowed: {}", rule.allowed())));
        return None;
    };
    rule.read(value).map_err(|found| faults.extend(within(key, found))).ok()
}

/// Prefixes each mismatch in a key's value with the key.
pub(super) fn within(key: &str, found: Vec<Mismatch>) -> impl Iterator<Item = Mismatch> {
    found.into_iter().map(move |fault| {
        let key = if fault.key.is_empty() { key.to_owned() } else { format!("{key}.{}", fault.key) };
        Mismatch { key, ..fault }
    })
}

fn unknown_key<O: SinkTable>(key: &str) -> String {
    let own = O::OPTIONS.iter().map(|option| option.name);
    let known = REQUIRED.into_iter().chain(own).chain(COMMON_OPTIONS.iter().map(|option| option.name));
    unknown_key_of(known, key)
}

/// The error for a key that is not one of the `known`.
pub(super) fn unknown_key_of(known: impl Iterator<Item = &'static str>, key: &str) -> String {
    let known: Vec<&str> = known.collect();
    match nearest(key, known.iter().copied()) {
        Some(near) => format!("unknown key; did you mean {near}?"),
        None => format!("unknown key; allowed: {}", known.join(", ")),
    }
}

/// Formats a sink as an inline table of TOML.
fn inline_table<O: SinkTable>(sink: &SinkConfig<O>) -> String {
    let required = [("name", sink_name().show(&sink.name)), ("address", O::address().show(&sink.address))];
    let own = O::OPTIONS.iter().map(|option| (option.name, (option.show)(&sink.options)));
    let common = COMMON_OPTIONS.iter().map(|option| (option.name, (option.show)(&sink.common)));
    let values = required.into_iter().chain(own).chain(common);
    let shown: Vec<String> = values.filter_map(|(key, value)| Some(format!("{key} = {}", value?))).collect();
    format!("{{ {} }}", shown.join(", "))
}
