//! Every key with its help, its type, its default and what is allowed.
//!
//! The declaration below generates the structs, their defaults, and the [`SETTINGS`] table, which
//! is used to read, check and print files and to write `config.template.toml`. A field has the name
//! of its key, but without the unit if the type has it (`max_latency_ms` is a `Duration`).

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::num::{NonZeroU16, NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use super::address::{HostPort, HttpUrl, PublicUrl, RelayUrl, WebOrigin};
use super::choices::{LogFormat, LogLevel, Registration};
use super::key::{Key, key};
use super::rules::{self, Rule as _};
use super::secret::{Secret, SecretFile, SecretKey};
use super::sinks::{RestSink, SinkName, TcpSink};
use super::user_agent::UserAgent;
use crate::event_log::{EventCompression, StoreOptions};

/// One key of the file.
pub(super) struct Setting {
    pub(super) section: &'static str,
    pub(super) section_doc: &'static [&'static str],
    pub(super) key: Key<Config>,
}

macro_rules! settings {
    ($(
        $(#[doc = $section_doc:literal])*
        [$section:ident] $Section:ident {
            $( $(#[doc = $doc:literal])* $field:ident $(($key:literal))?: $type:ty = $default:expr, $rule:expr; )*
        }
    )*) => {
        /// The whole configuration, one struct for each section. All values are checked.
        #[derive(Debug, Clone, PartialEq, Default)]
        pub struct Config {
            $( $(#[doc = $section_doc])* pub $section: $Section, )*
        }

        $(
            $(#[doc = $section_doc])*
            #[derive(Debug, Clone, PartialEq)]
            pub struct $Section {
                $( $(#[doc = $doc])* pub $field: $type, )*
            }

            impl $Section {
                const DOC: &[&str] = &[$($section_doc),*];
            }

            impl Default for $Section {
                fn default() -> Self {
                    Self { $( $field: $default, )* }
                }
            }
        )*

        /// Every key, in the order of the template.
        pub(super) const SETTINGS: &[Setting] = &[
            $($( Setting {
                section: stringify!($section),
                section_doc: $Section::DOC,
                key: key!(($($key)?) [$($doc)*] $type, $rule, $section.$field),
            }, )*)*
        ];
    };
}

settings! {
    /// The relays that events come from.
    [relay] Relay {
        /// The relays to connect to. Two spellings of one URL count as one relay.
        bootstrap_relays: Vec<RelayUrl> = example_relays(), rules::list(rules::relay_url(), 100_000);
        /// The maximum number of relays that are connected at the same time.
        max_connections: NonZeroUsize = nonzero(10_000), rules::whole(1..=100_000);
        /// Seconds between two health checks of a connection.
        health_check_interval: Duration = Duration::from_secs(30), rules::seconds(1..=86_400);
        /// How many hours of past events to request from a relay that is new to the log. 0: none;
        /// 1000000: everything that the relay has.
        backfill("backfill_hours"): Option<Duration> = Some(hours(1)), rules::hours(1..=1_000_000);
        /// How many seconds of already complete history are requested again when a relay is
        /// connected: for events that reach relays late.
        overlap("overlap_secs"): Duration = Duration::from_secs(120), rules::seconds(0..=86_400);
        /// The User-Agent header for relays: the gateway's name, and how to reach its operator.
        /// {version} stands for the program's version.
        user_agent: UserAgent = UserAgent::default(), rules::user_agent();
        /// Certificate authorities (PEM) that are trusted in addition to the system's, for relays
        /// with their own certificates.
        extra_ca_file: Option<PathBuf> = None, rules::optional(rules::file());
        /// Whether to prove the key of [nostr] to relays that ask for it (NIP-42). If false, relays
        /// that serve only known keys cannot be read, and an empty answer of a relay that has asked
        /// for a key proves nothing.
        authenticate: bool = false, rules::Flag;
        /// Whether relays that are added over the API may have private addresses: of this machine,
        /// or of a private network. bootstrap_relays always may.
        allow_private_addresses: bool = false, rules::Flag;
        /// The maximum number of events read from one relay in a second; other messages, fragments,
        /// pings and pongs count as events. Above it, the relay is read more slowly, and nothing is
        /// lost. 0: no limit.
        max_events_per_second: Option<NonZeroU32> = NonZeroU32::new(10_000), rules::whole(1..=1_000_000);
        /// How many bad signatures or broken frames a relay may send in an hour, plus one for each
        /// 1000 events. Above it, the relay is quarantined, each time for longer. 0: no limit.
        max_offences_per_hour: Option<NonZeroU32> = NonZeroU32::new(50), rules::whole(1..=1_000_000);
        /// After how many seconds without an event a connected relay is reported as silent, if
        /// several others deliver events.
        silent_after("silent_after_secs"): Duration = Duration::from_secs(600), rules::seconds(1..=86_400);
    }

    /// How copies of an event are recognised. More memory saves disk reads; the result is the same.
    [deduplication] Deduplication {
        /// The folder of the database. It holds the event log and the ids of all accepted events.
        rocksdb_path: PathBuf = PathBuf::from("./data/rocksdb"), rules::folder();
        /// How many of the newest ids are kept in an exact set in memory.
        hotset_size: NonZeroUsize = nonzero(10_000), rules::whole(1..=100_000_000);
        /// How many ids the Bloom filter is sized for, at about 1.4 bytes each. It grows if needed.
        bloom_capacity: NonZeroUsize = nonzero(1_000_000), rules::whole(1..=1_000_000_000);
        /// How many ids that were found on disk are cached.
        lru_size: NonZeroUsize = nonzero(50_000), rules::whole(1..=100_000_000);
    }

    /// Which events are accepted.
    [filters] Filters {
        /// The event kinds to accept. Empty: all of them.
        allowed_kinds: BTreeSet<u16> = BTreeSet::new(), rules::list(rules::kind(), 65_536);
        /// The maximum size of an event, in bytes of its JSON.
        max_event_bytes: usize = 256 * 1024, rules::bytes(1024..=16 * 1024 * 1024);
        /// How many seconds an event's created_at may be ahead of the clock.
        max_future("max_future_secs"): Duration = Duration::from_secs(900), rules::seconds(0..=10_000_000_000_000);
        /// The maximum age of an event, in hours. 0: no limit. With retention, the ids of trimmed
        /// events above this age are deleted. If you raise the limit later, relays that still have
        /// such events send them again.
        max_age("max_age_hours"): Option<Duration> = None, rules::hours(1..=1_000_000);
        /// Whether to accept events whose expiration (NIP-40) has passed.
        admit_expired: bool = false, rules::Flag;
    }

    /// How the event log is stored.
    [storage] Storage {
        /// Whether a batch is on the disk before anyone sees it. false saves time on slow disks,
        /// but a power failure, unlike a crash of the program, may then lose events that were
        /// already delivered. The relays send them again, and they get new sequence numbers; no
        /// number is ever used twice.
        fsync: bool = true, rules::Flag;
        /// How many hours an event is kept in the log. 0: forever.
        retention("retention_hours"): Option<Duration> = None, rules::hours(1..=1_000_000);
        /// The size above which the oldest events are deleted, in bytes of events before
        /// compression. Their ids, 50 bytes each, stay and do not count. 0: no limit.
        max_bytes: Option<NonZeroU64> = None, rules::bytes(1024 * 1024..=1 << 60);
        /// Bytes of free disk below which nothing is added to the database. Values below what the
        /// write buffers need (250 MiB with the default write_buffer_bytes) are raised to that, with
        /// a warning. 0: no limit.
        min_free_bytes: u64 = 256 * 1024 * 1024, rules::bytes(0..=1 << 60);
        /// How many bytes of the newest events are kept in memory for consumers.
        tail_bytes: usize = 64 * 1024 * 1024, rules::bytes(1024 * 1024..=64 * 1024 * 1024 * 1024);
        /// Memory for blocks of RocksDB's files, in bytes: all of it is used in time. More saves disk
        /// reads when consumers replay old events and when ids are looked up.
        block_cache_bytes: usize = StoreOptions::default().block_cache_bytes, rules::bytes(1024 * 1024..=64 * 1024 * 1024 * 1024);
        /// Memory for one write buffer of events, in bytes. Up to three times this value may be in
        /// use, because a buffer is filled while another is written, and ids have buffers of half
        /// the size; other tables need up to 50 MiB. The same number of bytes must stay free on the
        /// disk. More means fewer and larger files, and less to compact.
        write_buffer_bytes: usize = StoreOptions::default().write_buffer_bytes, rules::bytes(4 * 1024 * 1024..=1024 * 1024 * 1024);
        /// How many threads write buffers to files and compact files. Each compaction needs some
        /// MiB of memory. More helps if RocksDB cannot keep up (pending_compaction_bytes grows) and
        /// the disk is not busy.
        background_jobs: u16 = StoreOptions::default().background_jobs, rules::whole(1..=64);
        /// How new files of events are compressed. "zstd" needs less disk than "lz4", but several
        /// times its CPU time. No effect on memory: cached blocks are not compressed. Ids are never
        /// compressed.
        compression: EventCompression = StoreOptions::default().compression, rules::choice();
    }

    /// Where events are delivered.
    [output] Output {
        /// Whether events are served on /ws.
        websocket_enabled: bool = true, rules::Flag;
        /// The port of /ws and of the HTTP API. 0: a free port; the log names it.
        websocket_port: u16 = 8080, rules::whole(0..=65_535);
        /// The address to listen on. "0.0.0.0" is reachable from other machines: put a proxy before
        /// it.
        bind_address: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST), rules::ip_address();
        /// The maximum number of events in one commit to the log.
        batch_size: NonZeroUsize = nonzero(100), rules::whole(1..=100_000);
        /// How many milliseconds a verified event may wait for the verification of others before it
        /// is passed on to be committed. An event never waits when nothing else is being verified.
        max_latency("max_latency_ms"): Duration = Duration::from_millis(100), rules::milliseconds(0..=60_000);
        /// Sinks over TCP without options. Each gets the JSON of every event, preceded by its
        /// length as a big-endian u32. The cursor is stored under the address.
        downstream_tcp: Vec<HostPort> = Vec::new(), rules::list(rules::host_port(), 1000);
        /// Sinks over HTTP without options. Each event's JSON is posted to each of them, one
        /// request after the other. The cursor is stored under the address.
        downstream_rest: Vec<HttpUrl> = Vec::new(), rules::list(rules::http_url_without_query(), 1000);
        /// How many events a client of /ws or /fanout may lag behind while its socket accepts no
        /// data.
        slow_client_lag: u64 = 10_000, rules::events(1..=1_000_000_000_000);
        /// After how many seconds without progress the socket of a client with a larger lag is
        /// closed, with the cursor to resume from.
        slow_client("slow_client_secs"): Duration = Duration::from_secs(30), rules::seconds(1..=86_400);
        /// Seconds between two pings to a client of /ws or /fanout. A client that sends nothing for
        /// two intervals is closed. 0: no pings.
        ping_interval("ping_interval_secs"): Option<Duration> = Some(Duration::from_secs(30)), rules::seconds(1..=86_400);
        /// The maximum number of simultaneous clients of /ws.
        max_clients: NonZeroUsize = nonzero(10_000), rules::whole(1..=1_000_000);
        /// The maximum number of them from one address; of IPv6, the first 64 bits count. Behind a
        /// proxy, all clients have the proxy's address. 0: no limit.
        max_clients_per_address: Option<NonZeroUsize> = NonZeroUsize::new(1_000), rules::whole(1..=1_000_000);
        /// The origins whose web pages may open /ws and /fanout. Empty: all pages may read, and
        /// none may use `consumer` on /ws, which moves a cursor. Programs that send no Origin are
        /// always allowed.
        allowed_origins: Vec<WebOrigin> = Vec::new(), rules::list(rules::web_origin(), 1000);
        /// Sinks over TCP with options. Each has a stored cursor: after an outage of the sink or of
        /// the gateway, it gets the events that it missed.
        tcp: Vec<TcpSink> = Vec::new(), rules::sinks();
        /// Sinks over HTTP with options. Each has a stored cursor, as those over TCP have.
        rest: Vec<RestSink> = Vec::new(), rules::sinks();
        /// The maximum number of named consumers of /ws whose cursors are stored.
        max_consumers: NonZeroUsize = nonzero(1_000), rules::whole(1..=100_000);
        /// How many hours unused cursors are kept: those of sinks that are no longer configured,
        /// with their dead letters, and those of consumers of /ws or /fanout that do not reconnect.
        keep_unused("keep_unused_hours"): Duration = hours(720), rules::hours(1..=1_000_000);
    }

    /// The encrypted fan-out: trade signals of bots, for each of their followers, on /fanout.
    [fanout] Fanout {
        /// Whether the fan-out runs.
        enabled: bool = true, rules::Flag;
        /// The event kinds that are signals if their author is registered as a bot.
        kinds: BTreeSet<u16> = (30_931..=30_934).collect(), rules::list(rules::kind(), 1_000);
        /// The age in seconds above which a signal is delivered with "stale":true, so that nobody
        /// trades on it by mistake. 0: no limit.
        max_age("max_age_secs"): Option<Duration> = Some(Duration::from_secs(600)), rules::seconds(1..=1_000_000_000);
        /// How often a key, and an address, may register, subscribe and unsubscribe in a day; of
        /// IPv6, the first 64 bits count. Calls with the admin token do not count. Behind a proxy,
        /// all callers have the proxy's address. 0: no limit.
        daily_limit: Option<NonZeroU32> = NonZeroU32::new(1_000), rules::whole(1..=1_000_000_000);
        /// Who may register new bots. "open": everybody who proves the bot's key. "approve": the
        /// same, but nobody can follow the bot until the operator approves it. "closed": the
        /// operator, with the admin token.
        registration: Registration = Registration::Open, rules::choice();
        /// How many new bots an address may register in a day; of IPv6, the first 64 bits count.
        /// Bots that are already registered, and calls with the admin token, do not count. 0: no
        /// limit.
        daily_new_bots: Option<NonZeroU32> = NonZeroU32::new(100), rules::whole(1..=1_000_000_000);
        /// The maximum number of simultaneous connections to /fanout. Limits by address, slow
        /// clients, pings and origins are configured in [output].
        max_clients: NonZeroUsize = nonzero(10_000), rules::whole(1..=1_000_000);
        /// The maximum number of registered bots. At the maximum, a new bot replaces the oldest one
        /// that has no followers and has published no signal.
        max_bots: NonZeroUsize = nonzero(10_000), rules::whole(1..=10_000_000);
        /// The maximum number of follows, about 300 bytes of memory each.
        max_follows: NonZeroUsize = nonzero(1_000_000), rules::whole(1..=100_000_000);
        /// The maximum number of stored cursors of followers. keep_unused_hours applies to them,
        /// too.
        max_consumers: NonZeroUsize = nonzero(100_000), rules::whole(1..=10_000_000);
    }

    /// Who may change something over the API, and the API's public address.
    [api] Api {
        /// The URL of the API from outside, without /fanout and /api. Keys are proven for this URL
        /// (NIP-42, NIP-98). Unset: http://127.0.0.1 and localhost, with the port, while
        /// bind_address is a loopback address; otherwise nobody can prove a key.
        public_url: Option<PublicUrl> = None, rules::optional(rules::public_url());
        /// The token for requests that change something: "Authorization: Bearer <admin_token>". It
        /// is never shown. Unset: such requests are accepted from this machine only, and only while
        /// bind_address is a loopback address.
        admin_token: Option<Secret> = None, rules::optional(rules::admin_token());
        /// The maximum number of connections that are not, or not yet, clients of /ws or /fanout,
        /// which have limits of their own. A connection without a request for 30 seconds is closed.
        max_connections: NonZeroUsize = nonzero(4_096), rules::whole(1..=1_000_000);
        /// The maximum number of them from one address; of IPv6, the first 64 bits count. 0: no
        /// limit. There is no limit either if [output] max_clients_per_address is 0, as behind a
        /// proxy.
        max_connections_per_address: Option<NonZeroUsize> = NonZeroUsize::new(256), rules::whole(1..=1_000_000);
    }

    /// The gateway's own Nostr key.
    [nostr] Nostr {
        /// The secret key. It is never shown. If neither key is set, the fan-out uses the key in
        /// the file relayer.key beside the folder of the database, and creates it at the first
        /// start.
        secret_key: Option<SecretKey> = None, rules::optional(rules::secret_key());
        /// A file with the secret key, instead of secret_key.
        secret_key_file: Option<SecretFile<SecretKey>> = None, rules::optional(rules::secret_key_file());
    }

    /// Where bots and followers of the fan-out are stored, instead of the gateway's own database,
    /// so that several gateways can share them. These gateways need the same key in [nostr], too.
    [postgres] Postgres {
        /// The database (PostgreSQL 14 or later) with its password, and TLS (sslmode, sslrootcert).
        /// It is never shown.
        dsn: Option<Secret> = None, rules::optional(rules::postgres_dsn());
        /// The maximum number of connections to the database.
        max_connections: NonZeroUsize = nonzero(5), rules::whole(1..=1000);
    }

    /// Logs and metrics.
    [monitoring] Monitoring {
        /// How much is logged. RUST_LOG overrides it, as in RUST_LOG=moltrade_relayer=debug.
        log_level: LogLevel = LogLevel::Info, rules::choice();
        /// How a line of the log is written to standard error. "text": for people. "json": one
        /// object a line, for programs, with timestamp, level, target, event, message and fields.
        log_format: LogFormat = LogFormat::Text, rules::choice();
        /// A port that serves /metrics only. 0: none; the API's port always serves it. If the
        /// default port is in use, for example by Prometheus, the gateway starts without it.
        prometheus_port: Option<NonZeroU16> = NonZeroU16::new(9090), rules::whole(1..=65_535);
    }
}

impl Output {
    /// All sinks over TCP, with and without options. Their names differ.
    pub fn tcp_sinks(&self) -> Vec<TcpSink> {
        self.downstream_tcp.iter().map(TcpSink::at).chain(self.tcp.iter().cloned()).collect()
    }

    /// All sinks over HTTP, with and without options. Their names differ from all others.
    pub fn rest_sinks(&self) -> Vec<RestSink> {
        self.downstream_rest.iter().map(RestSink::at).chain(self.rest.iter().cloned()).collect()
    }

    /// A name that occurs both in `tcp` and in `rest`.
    pub(super) fn name_twice(&self) -> Option<&SinkName> {
        self.tcp.iter().map(|sink| &sink.name).find(|name| self.rest.iter().any(|sink| sink.name == **name))
    }

    pub(super) const fn sinks(&self) -> usize {
        self.downstream_tcp.len() + self.tcp.len() + self.downstream_rest.len() + self.rest.len()
    }
}

impl Config {
    /// The limit of connections from one address, apart from clients of `/ws` and `/fanout`.
    pub(crate) fn connections_per_address(&self) -> Option<NonZeroUsize> {
        self.output.max_clients_per_address.and(self.api.max_connections_per_address)
    }
}

impl Nostr {
    /// The key to sign with, from either setting.
    pub fn key(&self) -> Option<&SecretKey> {
        self.secret_key.as_ref().or(self.secret_key_file.as_ref().map(|file| &file.secret))
    }
}

/// A few public relays, so that the first start shows events.
fn example_relays() -> Vec<RelayUrl> {
    ["wss://relay.damus.io", "wss://nos.lol"].into_iter().filter_map(|url| url.parse().ok()).collect()
}

const fn nonzero(n: usize) -> NonZeroUsize {
    NonZeroUsize::MIN.saturating_add(n.saturating_sub(1))
}

const fn hours(n: u64) -> Duration {
    Duration::from_secs(n * 3600)
}
