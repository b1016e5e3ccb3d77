//! Settings that have one of a few names.

use std::fmt;
use std::str::FromStr;

use strum::VariantNames;

use crate::event_log::EventCompression;

/// A type whose values are written as one of a few names.
pub(super) trait Choice: FromStr + fmt::Display {
    const NAMES: &'static [&'static str];

    /// The names, as an error message lists them.
    fn allowed() -> String {
        let quoted: Vec<String> = Self::NAMES.iter().map(|name| format!("\"{name}\"")).collect();
        match quoted.split_last() {
            Some((last, others)) => format!("{} or {last}", others.join(", ")),
            None => String::new(),
        }
    }
}

/// The text is not one of the allowed names.
#[derive(Debug)]
pub struct NotAllowed;

impl Choice for EventCompression {
    const NAMES: &'static [&'static str] = EventCompression::VARIANTS;
}

macro_rules! choice {
    (
        $(#[$about:meta])*
        $Name:ident { $( $(#[$of_variant:meta])* $Variant:ident = $name:literal, )* }
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $Name { $( $(#[$of_variant])* $Variant, )* }

        impl $Name {
            /// The name in the configuration.
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$Variant => $name, )* }
            }
        }

        impl fmt::Display for $Name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $Name {
            type Err = NotAllowed;

            fn from_str(name: &str) -> Result<Self, NotAllowed> {
                match name { $( $name => Ok(Self::$Variant), )* _ => Err(NotAllowed) }
            }
        }

        impl Choice for $Name {
            const NAMES: &'static [&'static str] = &[$($name),*];
        }
    };
}

choice! {
    /// Who may register new bots.
    Registration {
        /// Everybody who proves the bot's key.
        Open = "open",
        /// The same, but the operator must approve the bot before it can be followed.
        Approve = "approve",
        /// Only the operator.
        Closed = "closed",
    }
}

choice! {
    /// How much is logged, unless `RUST_LOG` says otherwise.
    LogLevel {
        /// Everything, down to single frames.
        Trace = "trace",
        /// Single decisions.
        Debug = "debug",
        /// State changes and a summary each minute.
        Info = "info",
        /// Problems that an operator should look at.
        Warn = "warn",
        /// Failures.
        Error = "error",
    }
}

choice! {
    /// How a line of the log is written.
    LogFormat {
        /// For people.
        Text = "text",
        /// One JSON object a line, for programs.
        Json = "json",
    }
}

choice! {
    /// How events are separated on a TCP connection.
    Framing {
        /// A big-endian u32 with the length precedes each event.
        Length = "length",
        /// One event a line.
        Ndjson = "ndjson",
    }
}

choice! {
    /// Where a sink without a cursor begins.
    Start {
        /// With the next event that is committed.
        Now = "now",
        /// With the oldest event that is kept.
        Oldest = "oldest",
    }
}

choice! {
    /// How the body of a request is compressed. Except for `none`, the names are those of
    /// `Content-Encoding`.
    Compression {
        /// No compression.
        None = "none",
        /// RFC 1952.
        Gzip = "gzip",
        /// RFC 8878.
        Zstd = "zstd",
    }
}
