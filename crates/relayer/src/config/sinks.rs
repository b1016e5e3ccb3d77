//! The sinks of `[output]`: where events are sent, and how.
//!
//! As in `settings`, the declarations below generate the options, their defaults, and the tables
//! that are used to read, check and print them.

use std::collections::BTreeSet;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use wire::{Filter, PublicKey};

use super::address::{HostPort, HttpUrl};
use super::choices::{Compression, Framing, NotAllowed, Start};
use super::key::{Key, key};
use super::rules::{self, Rule as _};
use super::secret::SecretFile;
use super::webhook::{Headers, SigningKeys};
use crate::limits::HEARTBEAT_SECS;

/// The name of a sink in the log, the metrics and the API. Its cursor is stored under the name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SinkName(Arc<str>);

impl SinkName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name, shared.
    pub(crate) fn to_arc(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }

    pub(crate) const ALLOWED: &str = "1 to 64 of the characters A-Z, a-z, 0-9, '.', '_' and '-'";

    /// `None` unless the text is [allowed](SinkName::ALLOWED): those characters need no escape in a
    /// URL.
    pub(crate) fn new(text: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        ((1..=64).contains(&text.len()) && text.bytes().all(plain)).then(|| Self(text.into()))
    }
}

impl FromStr for SinkName {
    type Err = NotAllowed;

    fn from_str(text: &str) -> Result<Self, NotAllowed> {
        Self::new(text).ok_or(NotAllowed)
    }
}

impl fmt::Display for SinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A sink with its options.
#[derive(Debug, Clone, PartialEq)]
pub struct SinkConfig<O: SinkOptions> {
    /// The unique name.
    pub name: SinkName,
    /// The address.
    pub address: O::Address,
    /// The options of all sinks.
    pub common: CommonOptions,
    /// The options of this transport.
    pub options: O,
}

/// A sink over TCP.
pub type TcpSink = SinkConfig<TcpOptions>;

/// A sink over HTTP.
pub(crate) type RestSink = SinkConfig<RestOptions>;

/// The options of one transport.
pub trait SinkOptions: fmt::Debug + Clone + PartialEq + Default + 'static {
    /// The type of the address.
    type Address: fmt::Debug + Clone + PartialEq + AsRef<str>;
}

impl SinkOptions for TcpOptions {
    type Address = HostPort;
}

impl SinkOptions for RestOptions {
    type Address = HttpUrl;
}

impl<O: SinkOptions> SinkConfig<O> {
    /// A sink given by its address alone. Its name is the address, which contains a colon and so
    /// cannot equal another sink's name.
    pub(super) fn at(address: &O::Address) -> Self {
        Self {
            name: SinkName(address.as_ref().into()),
            address: address.clone(),
            common: CommonOptions::default(),
            options: O::default(),
        }
    }
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
        pub(super) const $TABLE: &[Key<$Options>] =
            &[$( key!(($($key)?) [$($doc)*] $type, $rule, $field), )*];
    };
}

pub(super) use options;

options! {
    /// The optional keys of a sink over TCP.
    TcpOptions in TCP_OPTIONS {
        /// How events are separated. "length": each event is preceded by its length as a big-endian
        /// u32. "ndjson": each event is on its own line.
        framing: Framing = Framing::Length, rules::choice();
        /// Whether the sink acknowledges events. If true, events are sent in envelopes.
        ack: bool = false, rules::Flag;
        /// The maximum number of events that are sent but not yet acknowledged.
        max_unacked: NonZeroUsize = NonZeroUsize::MIN.saturating_add(999), rules::whole(1..=100_000);
        /// How many seconds the gateway waits for an acknowledgement before it reconnects.
        ack_timeout("ack_timeout_secs"): Duration = Duration::from_secs(30), rules::seconds(1..=86_400);
        /// After how many seconds without an event the sink gets a line with the position, so that
        /// it can tell a quiet connection from a dead one. Needs framing = "ndjson". 0: never.
        heartbeat("heartbeat_secs"): Option<Duration> = None, rules::seconds(HEARTBEAT_SECS);
        /// Whether to use TLS. The certificate must be valid for the host of the address.
        tls: bool = false, rules::Flag;
        /// A file of certificate authorities (PEM) to trust in addition to the system's.
        ca_file: Option<PathBuf> = None, rules::optional(rules::file());
    }
}

options! {
    /// The optional keys of a sink over HTTP.
    RestOptions in REST_OPTIONS {
        /// The maximum number of events in a request; its body is an array of envelopes. 0: the
        /// body is one event without an envelope.
        batch: Option<NonZeroUsize> = None, rules::whole(1..=10_000);
        /// No more events are added to a request that has reached this size, in bytes before
        /// compression.
        batch_bytes: usize = 1 << 20, rules::bytes(1024..=64 << 20);
        /// How many milliseconds an event may wait for other events to share its request. 0: an
        /// event never waits.
        batch_wait("batch_wait_ms"): Duration = Duration::ZERO, rules::milliseconds(0..=60_000);
        /// The maximum number of concurrent requests. Above 1, events may arrive out of order.
        concurrency: NonZeroUsize = NonZeroUsize::MIN, rules::whole(1..=64);
        /// How many seconds a request may take, from connecting to the end of the response.
        timeout("timeout_secs"): Duration = Duration::from_secs(30), rules::seconds(1..=3600);
        /// How bodies are compressed.
        compression: Compression = Compression::None, rules::choice();
        /// The secrets that requests are signed with (Standard Webhooks), in this order. To change
        /// a secret, put the new one first, and remove the old one when the sink knows the new one.
        secret: Option<SigningKeys> = None, rules::optional(rules::signing_keys());
        /// A file with the secrets, instead of `secret`.
        secret_file: Option<SecretFile<SigningKeys>> = None, rules::optional(rules::signing_keys_file());
        /// Additional headers of each request. Their values are never shown.
        headers: Headers = Headers::default(), rules::HeaderTable;
        /// A file of certificate authorities (PEM) to trust in addition to the system's.
        ca_file: Option<PathBuf> = None, rules::optional(rules::file());
    }
}

options! {
    /// The optional keys of any sink.
    CommonOptions in COMMON_OPTIONS {
        /// The event kinds that the sink gets. Empty: all kinds.
        kinds: BTreeSet<u16> = BTreeSet::new(), rules::list(rules::kind(), 10_000);
        /// The authors whose events the sink gets. Empty: all authors.
        authors: BTreeSet<PublicKey> = BTreeSet::new(), rules::list(rules::public_key(), 10_000);
        /// A NIP-01 filter that events must match as well.
        filter: Option<Filter> = None, rules::optional(rules::filter());
        /// Where a new sink begins. A known sink continues at its cursor.
        start: Start = Start::Now, rules::choice();
    }
}

impl RestOptions {
    /// The secrets that requests are signed with, from either setting.
    pub fn signing_keys(&self) -> Option<&SigningKeys> {
        self.secret.as_ref().or(self.secret_file.as_ref().map(|file| &file.secret))
    }
}
