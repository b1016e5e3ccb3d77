//! Lists of sinks: tables whose keys are as strict as those of the file.

use std::collections::BTreeSet;
use std::marker::PhantomData;

use super::{Mismatch, Rule, Text, host_port, http_url, sink_name};
use crate::config::error::{nearest, printable};
use crate::config::raw::{Kind, Member, Raw, Shape};
use crate::config::sink::{
    COMMON_OPTIONS, CommonOptions, REST_OPTIONS, RestOptions, SinkConfig, SinkOption, SinkOptions,
    TCP_OPTIONS, TcpOptions,
};
use crate::config::types::{HostPort, HttpUrl};

/// Sinks of either form together; each has a task, a socket and up to a few MiB.
pub const SINKS_MAX: usize = 1000;

/// The keys that a sink must have.
const REQUIRED: [&str; 2] = ["name", "address"];

/// How the tables of one sort of sink are read.
pub trait SinkTable: SinkOptions {
    /// The key of the list.
    const LIST: &'static str;
    /// What the template says of the address, and what it shows.
    const ADDRESS: [&'static str; 2];
    /// Its options, besides those that all have.
    const OPTIONS: &'static [SinkOption<Self>];

    /// What an address is.
    fn address() -> Text<Self::Address>;

    /// What does not go together with something else: a key, and why.
    fn conflict(&self, address: &Self::Address) -> Option<(&'static str, &'static str)>;
}

impl SinkTable for TcpOptions {
    const LIST: &'static str = "output.tcp";
    const ADDRESS: [&'static str; 2] = ["Where it listens.", "indexer.example:9000"];
    const OPTIONS: &'static [SinkOption<Self>] = TCP_OPTIONS;

    fn address() -> Text<HostPort> {
        host_port()
    }

    fn conflict(&self, _: &HostPort) -> Option<(&'static str, &'static str)> {
        (self.ca_file.is_some() && !self.tls)
            .then_some(("ca_file", "it is set; allowed: only with tls = true"))
    }
}

impl SinkTable for RestOptions {
    const LIST: &'static str = "output.rest";
    const ADDRESS: [&'static str; 2] = ["Where events are posted to.", "https://hooks.example/nostr"];
    const OPTIONS: &'static [SinkOption<Self>] = REST_OPTIONS;

    fn address() -> Text<HttpUrl> {
        http_url()
    }

    fn conflict(&self, address: &HttpUrl) -> Option<(&'static str, &'static str)> {
        if self.secret.is_some() && self.secret_file.is_some() {
            return Some(("secret_file", "secret is set, too; allowed: one of the two"));
        }
        let in_vain = self.ca_file.is_some() && !address.is_https();
        in_vain.then_some(("ca_file", "it is set; allowed: only with an address that begins with https://"))
    }
}

/// A list of one sort of sinks.
pub struct Sinks<O>(PhantomData<fn() -> O>);

/// A list of sinks by TCP.
pub const fn tcp_sinks() -> Sinks<TcpOptions> {
    Sinks(PhantomData)
}

/// A list of sinks by HTTP.
pub const fn rest_sinks() -> Sinks<RestOptions> {
    Sinks(PhantomData)
}

impl<O: SinkTable> Rule for Sinks<O> {
    type Value = Vec<SinkConfig<O>>;

    fn read(&self, raw: &Raw) -> Result<Self::Value, Vec<Mismatch>> {
        let Kind::List(tables) = &raw.kind else { return self.mismatch(raw) };
        if tables.len() > SINKS_MAX {
            let what = format!("found {} items; allowed: {}", tables.len(), self.allowed());
            return Err(vec![Mismatch::new(raw.offset, what)]);
        }
        let (mut sinks, mut faults, mut names) = (Vec::new(), Vec::new(), BTreeSet::new());
        for table in tables {
            let Kind::Table(members) = &table.kind else {
                faults.extend(self.mismatch::<SinkConfig<O>>(table).err().unwrap_or_default());
                continue;
            };
            match read_sink::<O>(table, members) {
                Ok(sink) => {
                    if !names.insert(sink.name.clone()) {
                        let what = format!(
                            "found \"{}\" a second time; allowed: a name of its own for each sink",
                            sink.name.as_str()
                        );
                        let offset = find(members, "name").map_or(table.offset, |name| name.offset);
                        faults.push(Mismatch { key: "name".to_owned(), offset, what });
                    }
                    sinks.push(sink);
                }
                Err(found) => faults.extend(found),
            }
        }
        if faults.is_empty() { Ok(sinks) } else { Err(faults) }
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

    fn example(&self) -> Vec<String> {
        let [what, address] = O::ADDRESS;
        let mut lines = vec![
            format!("[[{}]]", O::LIST),
            "# What it is called, in the log, the metrics and the API. Its cursor is kept under its name."
                .to_owned(),
            format!("# Allowed: {}.", sink_name().allowed()),
            "name = \"indexer\"".to_owned(),
            format!("# {what}\n# Allowed: {}.", O::address().allowed()),
            format!("address = \"{address}\""),
        ];
        explain(O::OPTIONS, &mut lines);
        explain(COMMON_OPTIONS, &mut lines);
        lines.iter().flat_map(|line| line.lines()).map(str::to_owned).collect()
    }
}

/// Adds what the template says of options.
fn explain<T: Default>(options: &[SinkOption<T>], lines: &mut Vec<String>) {
    for option in options {
        lines.extend(option.doc.iter().map(|line| format!("#{line}")));
        lines.push(format!("# Allowed: {}.", (option.allowed)()));
        lines.push(match (option.show)(&T::default()) {
            Some(default) => format!("{} = {default}", option.key),
            None => {
                let example = (option.example)().pop().unwrap_or_else(|| "\"…\"".to_owned());
                format!("# {} = {example}", option.key)
            }
        });
    }
}

fn find<'a>(members: &'a [Member], key: &str) -> Option<&'a Raw> {
    members.iter().find(|member| member.key == key).map(|member| &member.value)
}

/// Reads one table; every key that is wrong is named.
fn read_sink<O: SinkTable>(table: &Raw, members: &[Member]) -> Result<SinkConfig<O>, Vec<Mismatch>> {
    let mut faults = Vec::new();
    let name = required(table, members, "name", &sink_name(), &mut faults);
    let address = required(table, members, "address", &O::address(), &mut faults);
    let (mut options, mut common) = (O::default(), CommonOptions::default());
    for Member { key, offset, value } in members {
        if REQUIRED.contains(&key.as_str()) {
            continue;
        }
        let set = set(O::OPTIONS, &mut options, key, value);
        match set.or_else(|| self::set(COMMON_OPTIONS, &mut common, key, value)) {
            Some(outcome) => note(&mut faults, key, outcome),
            None => {
                let what = unknown_key::<O>(key);
                faults.push(Mismatch { key: printable(key), offset: *offset, what });
            }
        }
    }
    if let Some((key, what)) = address.as_ref().and_then(|address| options.conflict(address)) {
        let offset = find(members, key).map_or(table.offset, |value| value.offset);
        faults.push(Mismatch { key: key.to_owned(), offset, what: what.to_owned() });
    }
    match (name, address) {
        (Some(name), Some(address)) if faults.is_empty() => Ok(SinkConfig { name, address, common, options }),
        _ => Err(faults),
    }
}

/// Puts a value in if the key is among these.
fn set<T>(
    known: &[SinkOption<T>],
    options: &mut T,
    key: &str,
    value: &Raw,
) -> Option<Result<(), Vec<Mismatch>>> {
    known.iter().find(|option| option.key == key).map(|option| (option.set)(options, value))
}

fn required<R: Rule>(
    table: &Raw,
    members: &[Member],
    key: &str,
    rule: &R,
    faults: &mut Vec<Mismatch>,
) -> Option<R::Value> {
    match find(members, key).map(|raw| rule.read(raw)) {
        Some(Ok(value)) => return Some(value),
        Some(Err(found)) => note(faults, key, Err(found)),
        None => {
            let what = format!("missing; allowed: {}", rule.allowed());
            faults.push(Mismatch { key: key.to_owned(), offset: table.offset, what });
        }
    }
    None
}

/// Adds what is wrong with the value of a key.
fn note(faults: &mut Vec<Mismatch>, key: &str, outcome: Result<(), Vec<Mismatch>>) {
    let found = outcome.err().unwrap_or_default();
    faults.extend(found.into_iter().map(|fault| {
        let key = if fault.key.is_empty() { key.to_owned() } else { format!("{key}.{}", fault.key) };
        Mismatch { key, ..fault }
    }));
}

fn unknown_key<O: SinkTable>(key: &str) -> String {
    let own = O::OPTIONS.iter().map(|option| option.key);
    let known: Vec<&str> =
        REQUIRED.into_iter().chain(own).chain(COMMON_OPTIONS.iter().map(|option| option.key)).collect();
    match nearest(key, known.iter().copied()) {
        Some(near) => format!("unknown key; did you mean {near}?"),
        None => format!("unknown key; allowed: {}", known.join(", ")),
    }
}

/// A sink on one line.
fn inline_table<O: SinkTable>(sink: &SinkConfig<O>) -> String {
    let required = [("name", sink_name().show(&sink.name)), ("address", O::address().show(&sink.address))];
    let own = O::OPTIONS.iter().map(|option| (option.key, (option.show)(&sink.options)));
    let common = COMMON_OPTIONS.iter().map(|option| (option.key, (option.show)(&sink.common)));
    let shown: Vec<String> = required
        .into_iter()
        .chain(own)
        .chain(common)
        .filter_map(|(key, value)| Some(format!("{key} = {}", value?)))
        .collect();
    format!("{{ {} }}", shown.join(", "))
}
