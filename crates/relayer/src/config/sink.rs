//! The sinks of `[output]`: where events are sent, and how.
//!
//! As in `settings`, one declaration makes the options, their defaults, and the table by which they are
//! read, checked and printed.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use wire::{Filter, PublicKey};

use super::raw::Raw;
use super::rule::{self, Mismatch, Rule};
use super::types::HostPort;

/// What a sink is called in the log, the metrics and the API. Its cursor is kept under it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SinkName(Arc<str>);

impl SinkName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name, shared.
    pub fn to_arc(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }

    /// `None` unless it has 1 to 64 of the characters that need no escape in a URL.
    pub(super) fn new(text: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        ((1..=64).contains(&text.len()) && text.bytes().all(plain)).then(|| Self(text.into()))
    }

    /// The name of a sink that was given by nothing but its address. With its colon it is the name of no
    /// other.
    fn of(address: &HostPort) -> Self {
        Self(address.as_str().into())
    }
}

/// How events are told apart on a TCP connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// A big-endian u32 with the length goes before each.
    Length,
    /// A line each.
    Ndjson,
}

impl Framing {
    /// As it is written in a configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Length => "length",
            Self::Ndjson => "ndjson",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        [Self::Length, Self::Ndjson].into_iter().find(|framing| framing.as_str() == name)
    }
}

/// Where a sink begins that has no cursor yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With what is committed from now on.
    Now,
    /// With the oldest event that is kept.
    Oldest,
}

impl Start {
    /// As it is written in a configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Now => "now",
            Self::Oldest => "oldest",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        [Self::Now, Self::Oldest].into_iter().find(|start| start.as_str() == name)
    }
}

/// A sink that events are sent to by TCP.
#[derive(Debug, Clone, PartialEq)]
pub struct TcpSink {
    /// Its name; no two sinks have the same.
    pub name: SinkName,
    /// Where it listens.
    pub address: HostPort,
    /// What may be left out.
    pub options: TcpOptions,
}

impl TcpSink {
    /// A sink that was given by nothing but its address.
    pub(super) fn at(address: &HostPort) -> Self {
        let options = TcpOptions::default();
        Self { name: SinkName::of(address), address: address.clone(), options }
    }
}

/// One option of a sink.
pub(super) struct SinkOption {
    pub(super) key: &'static str,
    pub(super) doc: &'static [&'static str],
    pub(super) allowed: fn() -> String,
    /// Checks a value and puts it in.
    pub(super) set: fn(&mut TcpOptions, &Raw) -> Result<(), Vec<Mismatch>>,
    /// The value in TOML; `None` if it is not set.
    pub(super) show: fn(&TcpOptions) -> Option<String>,
}

macro_rules! options {
    (
        $(#[doc = $outer:literal])*
        $Options:ident {
            $( $(#[doc = $doc:literal])* $field:ident $(($key:literal))?: $type:ty = $default:expr, $rule:expr; )*
        }
    ) => {
        $(#[doc = $outer])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $Options {
            $( $(#[doc = $doc])* pub $field: $type, )*
        }

        impl Default for $Options {
            fn default() -> Self {
                Self { $( $field: $default, )* }
            }
        }

        /// Every option, in the order of the template.
        pub(super) const TCP_OPTIONS: &[SinkOption] = &[
            $( SinkOption {
                key: options!(@key $field $($key)?),
                doc: &[$($doc),*],
                allowed: || of_type::<$type>($rule).allowed(),
                set: |options, raw| Ok(options.$field = of_type::<$type>($rule).read(raw)?),
                show: |options| of_type::<$type>($rule).show(&options.$field),
            }, )*
        ];
    };
    (@key $field:ident) => { stringify!($field) };
    (@key $field:ident $key:literal) => { $key };
}

options! {
    /// What may be left out of a sink's table.
    TcpOptions {
        /// How events are told apart: a u32 with the length before each, or a line each.
        framing: Framing = Framing::Length, rule::framing();
        /// Whether the sink acknowledges what it has. It gets envelopes then.
        ack: bool = false, rule::Flag;
        /// The most events that are on their way without being acknowledged.
        max_unacked: NonZeroUsize = NonZeroUsize::MIN.saturating_add(999), rule::count(1..=100_000);
        /// Seconds without an acknowledgement, while one is due, after which the connection is made anew.
        ack_timeout("ack_timeout_secs"): Duration = Duration::from_secs(30), rule::seconds(1..=86_400);
        /// The event kinds that it gets. Empty: all of them.
        kinds: BTreeSet<u16> = BTreeSet::new(), rule::list(rule::kind(), 10_000);
        /// The authors whose events it gets. Empty: all of them.
        authors: BTreeSet<PublicKey> = BTreeSet::new(), rule::list(rule::public_key(), 10_000);
        /// A NIP-01 filter that its events match, too.
        filter: Option<Filter> = None, rule::filter();
        /// Where a new sink begins. It goes on at its cursor ever after.
        start: Start = Start::Now, rule::start();
    }
}

/// Names the type that a rule makes, where the rule alone leaves it open.
fn of_type<T>(rule: impl Rule<Value = T>) -> impl Rule<Value = T> {
    rule
}
