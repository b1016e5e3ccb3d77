//! Settings whose value is one of a few names.

use strum::{Display, EnumString, IntoStaticStr, VariantNames};

/// The names of a type, as an error message lists them.
pub(super) fn names_of<T: VariantNames>() -> String {
    let quoted: Vec<String> = T::VARIANTS.iter().map(|name| format!("\"{name}\"")).collect();
    match quoted.split_last() {
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

/// The text is not one of the allowed names.
#[derive(Debug)]
pub struct NotAllowed;

/// Who may register new bots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display, EnumString, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "lowercase")]
pub enum Registration {
    /// Everybody who proves the bot's key.
    Open,
    /// Everybody who proves the bot's key, but nobody can follow the bot before the operator
    /// approves it.
    Approve,
    /// Only the operator.
    Closed,
}

/// How much is logged, unless `RUST_LOG` says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display, EnumString, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "lowercase")]
pub enum LogLevel {
    /// Everything, down to single frames.
    Trace,
    /// Single decisions.
    Debug,
    /// State changes and a summary each minute.
    Info,
    /// Problems that an operator should look at.
    Warn,
    /// Failures.
    Error,
}

/// How a line of the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display, EnumString, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for programs.
    Json,
}

/// How events are separated on a TCP connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display, EnumString, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "lowercase")]
pub enum Framing {
    /// A big-endian u32 with the length precedes each event.
    Length,
    /// One event a line.
    Ndjson,
}

/// Where a sink without a cursor begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display, EnumString, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "lowercase")]
pub enum Start {
    /// With the next committed event.
    Now,
    /// With the oldest event in the log.
    Oldest,
}

/// How the body of a request is compressed. Except for `none`, the names are those of
/// `Content-Encoding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display, EnumString, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "lowercase")]
pub enum Compression {
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}
