//! The sinks of `[output]`: where events are sent, and how.
//!
//! As in `settings`, one declaration makes the options, their defaults, and the table by which they are
//! read, checked and printed.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use wire::{Filter, PublicKey};

use super::raw::Raw;
use super::rule::{self, Mismatch, Rule};
use super::secret::SecretFile;
use super::types::{HostPort, HttpUrl};
use super::webhook::{Headers, SigningKeys};

/// The name of a sink in the log, the metrics and the API. Its cursor is stored under it.
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

    /// What a name must be.
    pub const ALLOWED: &str = "1 to 64 of the characters A-Z, a-z, 0-9, '.', '_' and '-'";

    /// `None` unless it has 1 to 64 of the characters that need no escape in a URL.
    pub fn new(text: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        ((1..=64).contains(&text.len()) && text.bytes().all(plain)).then(|| Self(text.into()))
    }

    /// The name of a sink that was given by nothing but its address. With its colon it is the name of no
    /// other.
    fn of(address: &str) -> Self {
        Self(address.into())
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

/// How the body of a request is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Compression {
    /// As it is written in a configuration, and but for `none` in `Content-Encoding`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        [Self::None, Self::Gzip, Self::Zstd].into_iter().find(|compression| compression.as_str() == name)
    }
}

/// A sink, with the options of its sort.
#[derive(Debug, Clone, PartialEq)]
pub struct SinkConfig<O: SinkOptions> {
    /// Its name; no two sinks have the same.
    pub name: SinkName,
    /// Where it is.
    pub address: O::Address,
    /// What every sort of sink has and may leave out.
    pub common: CommonOptions,
    /// What its sort has and may leave out.
    pub options: O,
}

/// A sink that events are sent to by TCP.
pub type TcpSink = SinkConfig<TcpOptions>;

/// A sink that events are posted to.
pub type RestSink = SinkConfig<RestOptions>;

/// The options of one sort of sink.
pub trait SinkOptions: std::fmt::Debug + Clone + PartialEq + Default + 'static {
    /// What leads to such a sink.
    type Address: std::fmt::Debug + Clone + PartialEq;
}

impl SinkOptions for TcpOptions {
    type Address = HostPort;
}

impl SinkOptions for RestOptions {
    type Address = HttpUrl;
}

impl TcpSink {
    /// A sink that was given by nothing but its address.
    pub(super) fn at(address: &HostPort) -> Self {
        SinkConfig::plain(SinkName::of(address.as_str()), address.clone())
    }
}

impl RestSink {
    /// A sink that was given by nothing but its address.
    pub(super) fn at(address: &HttpUrl) -> Self {
        SinkConfig::plain(SinkName::of(address.as_str()), address.clone())
    }
}

impl<O: SinkOptions> SinkConfig<O> {
    fn plain(name: SinkName, address: O::Address) -> Self {
        Self { name, address, common: CommonOptions::default(), options: O::default() }
    }
}

/// One option of a sink.
pub(super) struct SinkOption<O> {
    pub(super) key: &'static str,
    pub(super) doc: &'static [&'static str],
    pub(super) allowed: fn() -> String,
    /// What the template shows of one that is not set.
    pub(super) example: fn() -> Vec<String>,
    /// Checks a value and puts it in.
    pub(super) set: fn(&mut O, &Raw) -> Result<(), Vec<Mismatch>>,
    /// The value in TOML; `None` if it is not set.
    pub(super) show: fn(&O) -> Option<String>,
}

macro_rules! options {
    (
        $(#[doc = $outer:literal])*
        $Options:ident in $TABLE:ident {
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

        #[doc = "Every option, in the order of the template."]
        pub(super) const $TABLE: &[SinkOption<$Options>] = &[
            $( SinkOption {
                key: options!(@key $field $($key)?),
                doc: &[$($doc),*],
                allowed: || of_type::<$type>($rule).allowed(),
                example: || of_type::<$type>($rule).example(),
                set: |options, raw| Ok(options.$field = of_type::<$type>($rule).read(raw)?),
                show: |options| of_type::<$type>($rule).show(&options.$field),
            }, )*
        ];
    };
    (@key $field:ident) => { stringify!($field) };
    (@key $field:ident $key:literal) => { $key };
}

options! {
    /// What the table of a sink by TCP may leave out.
    TcpOptions in TCP_OPTIONS {
        /// How events are told apart: a u32 with the length before each, or a line each.
        framing: Framing = Framing::Length, rule::framing();
        /// Whether the sink acknowledges what it has. It gets envelopes then.
        ack: bool = false, rule::Flag;
        /// The most events that are on their way without being acknowledged.
        max_unacked: NonZeroUsize = NonZeroUsize::MIN.saturating_add(999), rule::count(1..=100_000);
        /// Seconds without an acknowledgement, while one is due, after which the connection is made anew.
        ack_timeout("ack_timeout_secs"): Duration = Duration::from_secs(30), rule::seconds(1..=86_400);
        /// Whether to speak TLS. The certificate must be for the host of the address.
        tls: bool = false, rule::Flag;
        /// Certificate authorities (PEM) that are trusted beside the system's.
        ca_file: Option<PathBuf> = None, rule::file_or_none();
    }
}

options! {
    /// What the table of a sink by HTTP may leave out.
    RestOptions in REST_OPTIONS {
        /// The most events in one request, as an array of envelopes. 0: one bare event a request.
        batch: Option<NonZeroUsize> = None, rule::count_or_none(1..=10_000);
        /// The size from which on a request gets no more events, in bytes before compression.
        batch_bytes: usize = 1 << 20, rule::bytes(1024..=64 << 20);
        /// The longest that an event waits for others to share its request, in milliseconds. 0: not at all.
        batch_wait("batch_wait_ms"): Duration = Duration::ZERO, rule::milliseconds(0..=60_000);
        /// The most requests under way at once. Above 1 events may arrive out of order.
        concurrency: NonZeroUsize = NonZeroUsize::MIN, rule::count(1..=64);
        /// Seconds that a request may take, from connecting to the end of the answer.
        timeout("timeout_secs"): Duration = Duration::from_secs(30), rule::seconds(1..=3600);
        /// How bodies are compressed.
        compression: Compression = Compression::None, rule::compression();
        /// What requests are signed with (Standard Webhooks). Several sign each request, the first first: to
        /// change a secret, put the new one before the old one, and take that out when the sink knows the new.
        secret: Option<SigningKeys> = None, rule::signing_keys();
        /// A file that holds the secret, instead of secret.
        secret_file: Option<SecretFile<SigningKeys>> = None, rule::signing_keys_file();
        /// Headers that each request carries. Their values are never shown.
        headers: Headers = Headers::default(), rule::headers();
        /// Certificate authorities (PEM) that are trusted beside the system's.
        ca_file: Option<PathBuf> = None, rule::file_or_none();
    }
}

options! {
    /// What the table of any sink may leave out.
    CommonOptions in COMMON_OPTIONS {
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

impl RestOptions {
    /// What requests are signed with, wherever it was set.
    pub fn signing_keys(&self) -> Option<&SigningKeys> {
        self.secret.as_ref().or(self.secret_file.as_ref().map(|file| &file.secret))
    }
}

/// Names the type that a rule makes, where the rule alone leaves it open.
fn of_type<T>(rule: impl Rule<Value = T>) -> impl Rule<Value = T> {
    rule
}
