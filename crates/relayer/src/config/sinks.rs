//! The sinks of `[output]`: where events are sent, and how.
//!
//! As in `settings`, one declaration makes the options, their defaults, and the table by which they are
//! read, checked and printed.

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

/// What a sink is called in the log, the metrics and the API, or a consumer of `/ws`. Its cursor is kept under
/// it.
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

    pub(crate) const ALLOWED: &str = "1 to 64 of the characters A-Z, a-z, 0-9, '.', '_' and '-'";

    /// `None` unless it is [`SinkName::ALLOWED`]: those characters need no escape in a URL.
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
pub trait SinkOptions: fmt::Debug + Clone + PartialEq + Default + 'static {
    /// What leads to such a sink.
    type Address: fmt::Debug + Clone + PartialEq + AsRef<str>;
}

impl SinkOptions for TcpOptions {
    type Address = HostPort;
}

impl SinkOptions for RestOptions {
    type Address = HttpUrl;
}

impl<O: SinkOptions> SinkConfig<O> {
    /// A sink that was given by its address alone; with the colon in it, that is no other sink's name.
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

options! {
    /// What the table of a sink by TCP may leave out.
    TcpOptions in TCP_OPTIONS {
        /// How events are told apart: a u32 with the length before each, or a line each.
        framing: Framing = Framing::Length, rules::choice();
        /// Whether the sink acknowledges what it has. It gets envelopes then.
        ack: bool = false, rules::Flag;
        /// The most events that are on their way without being acknowledged.
        max_unacked: NonZeroUsize = NonZeroUsize::MIN.saturating_add(999), rules::whole(1..=100_000);
        /// Seconds without an acknowledgement, while one is due, after which the connection is made anew.
        ack_timeout("ack_timeout_secs"): Duration = Duration::from_secs(30), rules::seconds(1..=86_400);
        /// Whether to speak TLS. The certificate must be for the host of the address.
        tls: bool = false, rules::Flag;
        /// Certificate authorities (PEM) that are trusted beside the system's.
        ca_file: Option<PathBuf> = None, rules::optional(rules::file());
    }
}

options! {
    /// What the table of a sink by HTTP may leave out.
    RestOptions in REST_OPTIONS {
        /// The most events in one request, as an array of envelopes. 0: one bare event a request.
        batch: Option<NonZeroUsize> = None, rules::whole(1..=10_000);
        /// The size from which on a request gets no more events, in bytes before compression.
        batch_bytes: usize = 1 << 20, rules::bytes(1024..=64 << 20);
        /// The longest that an event waits for others to share its request, in milliseconds. 0: not at all.
        batch_wait("batch_wait_ms"): Duration = Duration::ZERO, rules::milliseconds(0..=60_000);
        /// The most requests under way at once. Above 1 events may arrive out of order.
        concurrency: NonZeroUsize = NonZeroUsize::MIN, rules::whole(1..=64);
        /// Seconds that a request may take, from connecting to the end of the answer.
        timeout("timeout_secs"): Duration = Duration::from_secs(30), rules::seconds(1..=3600);
        /// How bodies are compressed.
        compression: Compression = Compression::None, rules::choice();
        /// What requests are signed with (Standard Webhooks). Several sign each request, the first first: to
        /// change a secret, put the new one before the old one, and take that out when the sink knows the new.
        secret: Option<SigningKeys> = None, rules::optional(rules::signing_keys());
        /// A file that holds the secret, instead of secret.
        secret_file: Option<SecretFile<SigningKeys>> = None, rules::optional(rules::signing_keys_file());
        /// Headers that each request carries. Their values are never shown.
        headers: Headers = Headers::default(), rules::HeaderTable;
        /// Certificate authorities (PEM) that are trusted beside the system's.
        ca_file: Option<PathBuf> = None, rules::optional(rules::file());
    }
}

options! {
    /// What the table of any sink may leave out.
    CommonOptions in COMMON_OPTIONS {
        /// The event kinds that it gets. Empty: all of them.
        kinds: BTreeSet<u16> = BTreeSet::new(), rules::list(rules::kind(), 10_000);
        /// The authors whose events it gets. Empty: all of them.
        authors: BTreeSet<PublicKey> = BTreeSet::new(), rules::list(rules::public_key(), 10_000);
        /// A NIP-01 filter that its events match, too.
        filter: Option<Filter> = None, rules::optional(rules::filter());
        /// Where a new sink begins. It goes on at its cursor ever after.
        start: Start = Start::Now, rules::choice();
    }
}

impl RestOptions {
    /// What requests are signed with, wherever it was set.
    pub fn signing_keys(&self) -> Option<&SigningKeys> {
        self.secret.as_ref().or(self.secret_file.as_ref().map(|file| &file.secret))
    }
}
