//! Lists of sinks: tables whose keys are as strict as those of the file.

use std::collections::BTreeSet;

use super::{Mismatch, Rule, host_port, sink_name};
use crate::config::error::{nearest, printable};
use crate::config::raw::{Kind, Member, Raw, Shape};
use crate::config::sink::{TCP_OPTIONS, TcpOptions, TcpSink};

/// Sinks of either form together; each has a task, a socket and up to a few MiB.
pub const SINKS_MAX: usize = 1000;

/// The keys that a sink must have; the others are [`TCP_OPTIONS`].
const REQUIRED: [&str; 2] = ["name", "address"];

/// Sinks by TCP.
pub struct TcpSinks;

/// A list of sinks by TCP.
pub const fn tcp_sinks() -> TcpSinks {
    TcpSinks
}

impl Rule for TcpSinks {
    type Value = Vec<TcpSink>;

    fn read(&self, raw: &Raw) -> Result<Vec<TcpSink>, Vec<Mismatch>> {
        let Kind::List(tables) = &raw.kind else { return self.mismatch(raw) };
        if tables.len() > SINKS_MAX {
            let what = format!("found {} items; allowed: {}", tables.len(), self.allowed());
            return Err(vec![Mismatch::new(raw.offset, what)]);
        }
        let (mut sinks, mut faults, mut names) = (Vec::new(), Vec::new(), BTreeSet::new());
        for table in tables {
            let Kind::Table(members) = &table.kind else {
                faults.extend(self.mismatch::<TcpSink>(table).err().unwrap_or_default());
                continue;
            };
            match read_sink(table, members) {
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

    fn show(&self, sinks: &Vec<TcpSink>) -> Option<String> {
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
        let defaults = TcpOptions::default();
        let mut lines = vec![
            "[[output.tcp]]".to_owned(),
            format!(
                "# What it is called, in the log, the metrics and the API. Its cursor is kept under its name.\n# Allowed: {}.",
                sink_name().allowed()
            ),
            "name = \"indexer\"".to_owned(),
            format!("# Where it listens.\n# Allowed: {}.", host_port().allowed()),
            "address = \"indexer.example:9000\"".to_owned(),
        ];
        for option in TCP_OPTIONS {
            lines.extend(option.doc.iter().map(|line| format!("#{line}")));
            lines.push(format!("# Allowed: {}.", (option.allowed)()));
            let value = (option.show)(&defaults).unwrap_or_else(|| "\"…\"".to_owned());
            lines.push(format!("{} = {value}", option.key));
        }
        lines.iter().flat_map(|line| line.lines()).map(str::to_owned).collect()
    }
}

fn find<'a>(members: &'a [Member], key: &str) -> Option<&'a Raw> {
    members.iter().find(|member| member.key == key).map(|member| &member.value)
}

/// Reads one table; every key that is wrong is named.
fn read_sink(table: &Raw, members: &[Member]) -> Result<TcpSink, Vec<Mismatch>> {
    let mut faults = Vec::new();
    let name = required(table, members, "name", &sink_name(), &mut faults);
    let address = required(table, members, "address", &host_port(), &mut faults);
    let mut options = TcpOptions::default();
    for Member { key, offset, value } in members {
        if REQUIRED.contains(&key.as_str()) {
            continue;
        }
        match TCP_OPTIONS.iter().find(|option| option.key == key) {
            Some(option) => note(&mut faults, key, (option.set)(&mut options, value)),
            None => faults.push(Mismatch { key: printable(key), offset: *offset, what: unknown_key(key) }),
        }
    }
    match (name, address) {
        (Some(name), Some(address)) if faults.is_empty() => Ok(TcpSink { name, address, options }),
        _ => Err(faults),
    }
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
    faults.extend(found.into_iter().map(|fault| Mismatch { key: key.to_owned(), ..fault }));
}

fn unknown_key(key: &str) -> String {
    let known = || REQUIRED.into_iter().chain(TCP_OPTIONS.iter().map(|option| option.key));
    match nearest(key, known()) {
        Some(near) => format!("unknown key; did you mean {near}?"),
        None => format!("unknown key; allowed: {}", known().collect::<Vec<_>>().join(", ")),
    }
}

/// A sink on one line.
fn inline_table(sink: &TcpSink) -> String {
    let required = [("name", sink_name().show(&sink.name)), ("address", host_port().show(&sink.address))];
    let options = TCP_OPTIONS.iter().map(|option| (option.key, (option.show)(&sink.options)));
    let shown: Vec<String> = required
        .into_iter()
        .chain(options)
        .filter_map(|(key, value)| Some(format!("{key} = {}", value?)))
        .collect();
    format!("{{ {} }}", shown.join(", "))
}
