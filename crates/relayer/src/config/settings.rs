//! Every key with its help, its type, its default, its allowed values, and when a change takes
//! effect.
//!
//! The declaration below generates the structs, their defaults, and the [`SETTINGS`] table, which
//! is used to read, check and print files and to write `config.template.toml`. A field has the name
//! of its key, but without the unit if the type has it (`max_latency_ms` is a `Duration`).

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::{NonZeroU16, NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use super::address::{HostPort, HttpUrl, PublicUrl, RelayUrl, WebOrigin};
use super::choices::{LogFormat, LogLevel, Registration};
use super::key::{Key, key};
use super::network::Network;
use super::readers::ReaderConfig;
use super::reload::Effect::{self, Reload, Restart};
use super::reload::{BUFFERS, DATABASE, DIALLER, FANOUT, INGEST, KEYS, PORTS, PROOFS, PROXIES, TABLES};
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
    pub(super) effect: Effect,
}

macro_rules! settings {
    ($(
        $(#[doc = $section_doc:literal])*
        [$section:ident] $Section:ident {
            $( $(#[doc = $doc:literal])* $field:ident $(($key:literal))?: $type:ty = $default:expr, $rule:expr, $effect:expr; )*
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
                effect: $effect,
            }, )*)*
        ];
    };
}

settings! {
    /// The relays that events come from.
    [relay] Relay {
        /// The relays to connect to. Two spellings of one URL count as one relay.
        bootstrap_relays: Vec<RelayUrl> = example_relays(), rules::list(rules::relay_url(), 100_000), Reload;
        /// The maximum number of relays that are connected at the same time.
        max_connections: NonZeroUsize = nonzero(10_000), rules::whole(1..=100_000), Reload;
        /// Seconds between two health checks of a connection.
        health_check_interval: Duration = Duration::from_secs(30), rules::seconds(1..=86_400), Reload;
        /// How many hours of past events to request from a relay that is new to the log. 0: none;
        /// 1000000: everything that the relay has.
        backfill("backfill_hours"): Option<Duration> = Some(hours(1)), rules::hours(1..=1_000_000), Reload;
        /// After a reconnect, this many seconds of already complete history are requested again,
        /// because some events reach a relay late.
        overlap("overlap_secs"): Duration = Duration::from_secs(120), rules::seconds(0..=86_400), Reload;
        /// The User-Agent header that relays see: the gateway's name, and how to reach its
        /// operator. {version} stands for the program's version.
        user_agent: UserAgent = UserAgent::default(), rules::user_agent(), Restart(DIALLER);
        /// A file of certificate authorities (PEM) to trust in addition to the system's, for relays
        /// with certificates from a private authority.
        extra_ca_file: Option<PathBuf> = None, rules::optional(rules::file()), Restart(DIALLER);
        /// Whether to prove the key in [nostr] to relays that ask for a proof (NIP-42). If false,
        /// relays that serve only known keys cannot be read, and an empty answer from a relay that
        /// has asked for a proof does not count as complete.
        authenticate: bool = false, rules::Flag, Restart(KEYS);
        /// Whether relays that are added over the API may have an address on this machine or in a
        /// private network. Relays in bootstrap_relays always may.
        allow_private_addresses: bool = false, rules::Flag, Reload;
        /// The maximum number of events that are read from one relay per second. Other messages,
        /// fragments, pings and pongs count as events. A relay that sends more is read more slowly;
        /// nothing is lost. 0: no limit.
        max_events_per_second: Option<NonZeroU32> = NonZeroU32::new(10_000), rules::whole(1..=1_000_000), Reload;
        /// How many bad signatures and broken frames a relay may send per hour. Every 1000 events
        /// allow one more. A relay that sends more is quarantined, each time for longer. 0: no
        /// limit.
        max_offences_per_hour: Option<NonZeroU32> = NonZeroU32::new(50), rules::whole(1..=1_000_000), Reload;
        /// A connected relay that has sent no event for this many seconds is reported as silent, if
        /// several other relays deliver events.
        silent_after("silent_after_secs"): Duration = Duration::from_secs(600), rules::seconds(1..=86_400), Reload;
    }

    /// How copies of an event are recognised. More memory saves disk reads; the result is the same.
    [deduplication] Deduplication {
        /// The folder of the database. It holds the event log and the ids of all accepted events.
        rocksdb_path: PathBuf = PathBuf::from("./data/rocksdb"), rules::folder(), Restart(DATABASE);
        /// How many of the newest ids are kept in an exact set in memory.
        hotset_size: NonZeroUsize = nonzero(10_000), rules::whole(1..=100_000_000), Restart(TABLES);
        /// How many ids the Bloom filter is sized for, at about 1.4 bytes each. The filter grows if
        /// needed.
        bloom_capacity: NonZeroUsize = nonzero(1_000_000), rules::whole(1..=1_000_000_000), Restart(TABLES);
        /// How many ids a cache in memory holds. An id is cached when it is found on disk.
        lru_size: NonZeroUsize = nonzero(50_000), rules::whole(1..=100_000_000), Restart(TABLES);
    }

    /// Which events are accepted.
    [filters] Filters {
        /// The event kinds to accept. Empty: all kinds.
        allowed_kinds: BTreeSet<u16> = BTreeSet::new(), rules::list(rules::kind(), 65_536), Reload;
        /// The maximum size of an event, in bytes of its JSON.
        max_event_bytes: usize = 256 * 1024, rules::bytes(1024..=16 * 1024 * 1024), Restart(BUFFERS);
        /// How many seconds an event's created_at may be ahead of the clock.
        max_future("max_future_secs"): Duration = Duration::from_secs(900), rules::seconds(0..=10_000_000_000_000), Reload;
        /// The maximum age of an event, in hours. 0: no limit. With retention, the ids of trimmed
        /// events above this age are deleted. If you raise the limit later, such events are
        /// accepted again from relays that still have them.
        max_age("max_age_hours"): Option<Duration> = None, rules::hours(1..=1_000_000), Reload;
        /// Whether to accept events whose expiration (NIP-40) has passed.
        admit_expired: bool = false, rules::Flag, Reload;
    }

    /// How the event log is stored.
    [storage] Storage {
        /// Whether a batch is synced to the disk before consumers see it. false saves time on slow
        /// disks, but a power failure, unlike a crash of the program, may then lose events that
        /// were already delivered. Relays send these events again, and the events get new sequence
        /// numbers; no number is ever used twice.
        fsync: bool = true, rules::Flag, Restart(DATABASE);
        /// How many hours an event is kept in the log. 0: forever.
        retention("retention_hours"): Option<Duration> = None, rules::hours(1..=1_000_000), Reload;
        /// The maximum size of the log, in bytes of events before compression. Above this size, the
        /// oldest events are deleted. Their ids, 50 bytes each, stay and do not count. 0: no limit.
        max_bytes: Option<NonZeroU64> = None, rules::bytes(1024 * 1024..=1 << 60), Reload;
        /// While fewer bytes of the disk are free than this, nothing is added to the database.
        /// Smaller values than the write buffers need (250 MiB with the default
        /// write_buffer_bytes) are raised to what they need, with a warning. 0: no limit.
        min_free_bytes: u64 = 256 * 1024 * 1024, rules::bytes(0..=1 << 60), Reload;
        /// How many bytes of the newest events are kept in memory for consumers.
        tail_bytes: usize = 64 * 1024 * 1024, rules::bytes(1024 * 1024..=64 * 1024 * 1024 * 1024), Restart(TABLES);
        /// Memory for blocks of RocksDB's files, in bytes: all of it is used in time. More saves
        /// disk reads when consumers replay old events and when ids are looked up.
        block_cache_bytes: usize = StoreOptions::default().block_cache_bytes, rules::bytes(1024 * 1024..=64 * 1024 * 1024 * 1024), Restart(DATABASE);
        /// Memory for one write buffer of events, in bytes. Up to three times this value may be in
        /// use, because a buffer is filled while another is written, and ids have buffers of half
        /// the size; other tables need up to 50 MiB. The same number of bytes must stay free on the
        /// disk. More means fewer and larger files, and less to compact.
        write_buffer_bytes: usize = StoreOptions::default().write_buffer_bytes, rules::bytes(4 * 1024 * 1024..=1024 * 1024 * 1024), Restart(DATABASE);
        /// How many threads write buffers to files and compact files. Each compaction needs some
        /// MiB of memory. More helps if RocksDB cannot keep up (pending_compaction_bytes grows) and
        /// the disk is not busy.
        background_jobs: u16 = StoreOptions::default().background_jobs, rules::whole(1..=64), Restart(DATABASE);
        /// How new files of events are compressed. "zstd" needs less disk than "lz4", but several
        /// times its CPU time. No effect on memory: cached blocks are not compressed. Ids are never
        /// compressed.
        compression: EventCompression = StoreOptions::default().compression, rules::choice(), Restart(DATABASE);
    }

    /// Where events are delivered.
    [output] Output {
        /// Whether events are served on /ws.
        websocket_enabled: bool = true, rules::Flag, Reload;
        /// The port of /ws and of the HTTP API. 0: a free port; the log names the port.
        websocket_port: u16 = 8080, rules::whole(0..=65_535), Restart(PORTS);
        /// The address to listen on. With "0.0.0.0", other machines can reach the gateway: put a
        /// proxy in front of it.
        bind_address: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST), rules::ip_address(), Restart(PORTS);
        /// The maximum number of events in one commit to the log.
        batch_size: NonZeroUsize = nonzero(100), rules::whole(1..=100_000), Restart(INGEST);
        /// How many milliseconds a verified event may wait for other events to be verified before
        /// it is passed on to be committed. An event never waits when nothing else is being
        /// verified.
        max_latency("max_latency_ms"): Duration = Duration::from_millis(100), rules::milliseconds(0..=60_000), Restart(INGEST);
        /// TCP sinks without options. Each sink gets the JSON of every event, preceded by the
        /// length of the JSON as a big-endian u32. A sink's cursor is stored under its address.
        downstream_tcp: Vec<HostPort> = Vec::new(), rules::list(rules::host_port(), 1000), Reload;
        /// HTTP sinks without options. The JSON of every event is posted to each sink, one request
        /// after the other. A sink's cursor is stored under its address.
        downstream_rest: Vec<HttpUrl> = Vec::new(), rules::list(rules::http_url_without_query(), 1000), Reload;
        /// How many events a client of /ws, /api/events/stream or /fanout may lag behind while its
        /// socket accepts no data.
        slow_client_lag: u64 = 10_000, rules::events(1..=1_000_000_000_000), Reload;
        /// A client that lags by more than slow_client_lag is disconnected if its socket accepts no
        /// data for this many seconds. The close message contains the cursor to resume from.
        slow_client("slow_client_secs"): Duration = Duration::from_secs(30), rules::seconds(1..=86_400), Reload;
        /// Seconds between two pings to a client of /ws or /fanout. A client that sends nothing for
        /// two intervals is disconnected. An event stream gets a comment instead. 0: no pings.
        ping_interval("ping_interval_secs"): Option<Duration> = Some(Duration::from_secs(30)), rules::seconds(1..=86_400), Reload;
        /// The maximum number of simultaneous clients of /ws and /api/events/stream.
        max_clients: NonZeroUsize = nonzero(10_000), rules::whole(1..=1_000_000), Reload;
        /// The maximum number of simultaneous clients from one address (for IPv6, a /64), on each
        /// of /ws and /fanout. Behind a proxy that is not one of [api] trusted_proxies, all clients
        /// have the proxy's address. 0: no limit.
        max_clients_per_address: Option<NonZeroUsize> = NonZeroUsize::new(1_000), rules::whole(1..=1_000_000), Reload;
        /// The origins whose web pages may open /ws and /fanout. Empty: all pages may open them,
        /// but only the gateway's own may use `consumer` on /ws, because that moves a cursor.
        /// Programs that send no Origin header are always allowed.
        allowed_origins: Vec<WebOrigin> = Vec::new(), rules::list(rules::web_origin(), 1000), Reload;
        /// TCP sinks with options. Each sink has a stored cursor: after an outage of the sink or of
        /// the gateway, the sink gets the events that it missed.
        tcp: Vec<TcpSink> = Vec::new(), rules::sinks(), Reload;
        /// HTTP sinks with options. Each sink has a stored cursor, as TCP sinks have.
        rest: Vec<RestSink> = Vec::new(), rules::sinks(), Reload;
        /// The maximum number of named consumers of /ws whose cursors are stored.
        max_consumers: NonZeroUsize = nonzero(1_000), rules::whole(1..=100_000), Reload;
        /// How many hours an unused cursor is kept: the cursor of a sink that is no longer
        /// configured, or of a consumer of /ws or /fanout that does not reconnect. Dead letters of
        /// such a sink are kept for the same time.
        keep_unused("keep_unused_hours"): Duration = hours(720), rules::hours(1..=1_000_000), Reload;
    }

    /// The encrypted fan-out: delivers the trade signals of bots to each of their followers on
    /// /fanout.
    [fanout] Fanout {
        /// Whether the fan-out runs.
        enabled: bool = true, rules::Flag, Restart(FANOUT);
        /// The event kinds that are signals if their author is registered as a bot.
        kinds: BTreeSet<u16> = (30_931..=30_934).collect(), rules::list(rules::kind(), 1_000), Restart(FANOUT);
        /// Signals older than this many seconds are delivered with "stale":true, so that nobody
        /// trades on them by mistake. 0: no limit.
        max_age("max_age_secs"): Option<Duration> = Some(Duration::from_secs(600)), rules::seconds(1..=1_000_000_000), Reload;
        /// How many times per day a key, and an address (for IPv6, a /64), may register, subscribe
        /// and unsubscribe. Calls with the admin token do not count. Behind a proxy that is not one
        /// of [api] trusted_proxies, all callers have the proxy's address. 0: no limit.
        daily_limit: Option<NonZeroU32> = NonZeroU32::new(1_000), rules::whole(1..=1_000_000_000), Reload;
        /// Who may register new bots. "open": everybody who proves the bot's key. "approve": the
        /// same, but nobody can follow a bot until the operator approves the bot. "closed": only
        /// the operator, with the admin token.
        registration: Registration = Registration::Open, rules::choice(), Reload;
        /// How many new bots an address (for IPv6, a /64) may register in a day. Bots that are
        /// already registered, and calls with the admin token, do not count. 0: no limit.
        daily_new_bots: Option<NonZeroU32> = NonZeroU32::new(100), rules::whole(1..=1_000_000_000), Reload;
        /// The maximum number of simultaneous connections to /fanout. The limit per address and the
        /// settings for slow clients, pings and origins are in [output].
        max_clients: NonZeroUsize = nonzero(10_000), rules::whole(1..=1_000_000), Reload;
        /// The maximum number of registered bots. At the maximum, a new bot replaces the oldest bot
        /// that has no followers and has published no signal.
        max_bots: NonZeroUsize = nonzero(10_000), rules::whole(1..=10_000_000), Reload;
        /// The maximum number of follows. Each takes about 300 bytes of memory.
        max_follows: NonZeroUsize = nonzero(1_000_000), rules::whole(1..=100_000_000), Reload;
        /// The maximum number of stored cursors of followers. keep_unused_hours applies to these
        /// cursors, too.
        max_consumers: NonZeroUsize = nonzero(100_000), rules::whole(1..=10_000_000), Reload;
    }

    /// Who may use the API, and its public address.
    [api] Api {
        /// The URL at which clients reach the API, without /fanout and /api. Keys are proven for
        /// this URL (NIP-42, NIP-98). Unset: http://127.0.0.1 and http://localhost, with the port,
        /// while bind_address is a loopback address; otherwise nobody can prove a key.
        public_url: Option<PublicUrl> = None, rules::optional(rules::public_url()), Restart(PROOFS);
        /// The token for requests that change something: "Authorization: Bearer <admin_token>". The
        /// token is never shown. Unset: such requests are accepted from this machine only, and only
        /// while bind_address is a loopback address.
        admin_token: Option<Secret> = None, rules::optional(rules::admin_token()), Reload;
        /// The origins whose web pages may use the HTTP API from a browser (CORS), for example with
        /// EventSource. Such a page may change something only with the admin token or a proof of
        /// its key. Empty: none. For /ws and /fanout, see allowed_origins in [output].
        allowed_origins: Vec<WebOrigin> = Vec::new(), rules::list(rules::web_origin(), 1000), Reload;
        /// The maximum number of simultaneous connections. A client of /ws, /api/events/stream or
        /// /fanout counts towards [output] or [fanout] max_clients instead. A connection that sends
        /// no request for 30 seconds is closed.
        max_connections: NonZeroUsize = nonzero(4_096), rules::whole(1..=1_000_000), Reload;
        /// The maximum number of such connections from one address (for IPv6, a /64). 0: no limit.
        /// Connections of trusted_proxies do not count. There is also no limit if [output]
        /// max_clients_per_address is 0.
        max_connections_per_address: Option<NonZeroUsize> = NonZeroUsize::new(256), rules::whole(1..=1_000_000), Reload;
        /// The addresses of proxies in front of the gateway. The address of a client of such a
        /// proxy, for limits per address, is the rightmost address in X-Forwarded-For that is not a
        /// trusted proxy. Other peers cannot set their address. Trust gives no rights.
        trusted_proxies: Vec<Network> = Vec::new(), rules::list(rules::network(), 1000), Restart(PROXIES);
        /// Whether connections from trusted_proxies begin with a header of the PROXY protocol,
        /// version 2, as those of a load balancer for TCP do. If true, such a connection without
        /// the header is closed.
        proxy_protocol: bool = false, rules::Flag, Restart(PROXIES);
        /// Tokens for reading: "Authorization: Bearer <token>". Once there is a reader, events and
        /// state are served only with a reader's token or with admin_token. What contains neither stays
        /// open (/health, /ready, the files of the pages), and so do /fanout, which has its own proofs,
        /// and the port for /metrics while bind_address is a loopback address.
        readers: Vec<ReaderConfig> = Vec::new(), rules::Readers, Reload;
    }

    /// The gateway's own Nostr key.
    [nostr] Nostr {
        /// The secret key, which is never shown. If neither this key nor secret_key_file is set,
        /// the fan-out uses the key in the file relayer.key beside the folder of the database. The
        /// gateway creates the file at the first start.
        secret_key: Option<SecretKey> = None, rules::optional(rules::secret_key()), Restart(KEYS);
        /// A file with the secret key, instead of secret_key.
        secret_key_file: Option<SecretFile<SecretKey>> = None, rules::optional(rules::secret_key_file()), Restart(KEYS);
    }

    /// A PostgreSQL database that stores bots and followers of the fan-out instead of the gateway's
    /// own database, so that several gateways can share them. These gateways also need the same key
    /// in [nostr].
    [postgres] Postgres {
        /// The URL of the database (PostgreSQL 14 or later), with the password and the TLS options
        /// (sslmode, sslrootcert). The URL is never shown.
        dsn: Option<Secret> = None, rules::optional(rules::postgres_dsn()), Restart(FANOUT);
        /// The maximum number of connections to the database.
        max_connections: NonZeroUsize = nonzero(5), rules::whole(1..=1000), Restart(FANOUT);
    }

    /// Logs and metrics.
    [monitoring] Monitoring {
        /// How much is logged. RUST_LOG overrides this key, as in RUST_LOG=moltrade_relayer=debug.
        log_level: LogLevel = LogLevel::Info, rules::choice(), Reload;
        /// How a line of the log is written to standard error. "text": for people. "json": one
        /// object a line, for programs, with timestamp, level, target, event, message and fields.
        log_format: LogFormat = LogFormat::Text, rules::choice(), Reload;
        /// A port that serves only /metrics. 0: no such port; the API's port always serves
        /// /metrics. If the default port is in use, for example by Prometheus, the gateway starts
        /// without this port.
        prometheus_port: Option<NonZeroU16> = NonZeroU16::new(9090), rules::whole(1..=65_535), Restart(PORTS);
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

    /// The address at which other programs of this machine reach the API; `None` if the port is not
    /// configured.
    pub(crate) fn local_api_address(&self) -> Option<SocketAddr> {
        let ip = match self.output.bind_address {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        let port = self.output.websocket_port;
        (port != 0).then(|| SocketAddr::new(ip, port))
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
