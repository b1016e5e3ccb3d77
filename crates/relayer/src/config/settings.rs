//! Every key, once: its help, its type, its default and what is allowed.
//!
//! The one declaration below makes the structs, their defaults, and the [`SETTINGS`] table by which
//! files are read, checked, printed and `config.template.toml` is written. A field has its key's name;
//! where the type carries the unit, the field goes without it (`max_latency_ms` is a `Duration`).

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::num::{NonZeroU16, NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use super::address::{HostPort, HttpUrl, PublicUrl, RelayUrl, WebOrigin};
use super::choices::{LogLevel, Registration};
use super::key::{Key, key};
use super::rules::{self, Rule as _};
use super::secret::{Secret, SecretFile, SecretKey};
use super::sinks::{RestSink, SinkName, TcpSink};
use super::user_agent::UserAgent;

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
        /// The whole configuration, one struct a section. Values that came from outside have been checked.
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
        /// The relays to connect to. One that is written in two ways is still connected to once.
        bootstrap_relays: Vec<RelayUrl> = example_relays(), rules::list(rules::relay_url(), 100_000);
        /// The most relays that are connected to at the same time.
        max_connections: NonZeroUsize = nonzero(10_000), rules::whole(1..=100_000);
        /// Seconds between two health checks of a connection.
        health_check_interval: Duration = Duration::from_secs(30), rules::seconds(1..=86_400);
        /// How many hours back a relay is asked for events when nothing is known of it yet. 0: only
        /// what happens from now on; 1000000: everything that it has.
        backfill("backfill_hours"): Option<Duration> = Some(hours(1)), rules::hours(1..=1_000_000);
        /// How many seconds of what a relay is known to have sent completely are asked for again when it is
        /// connected to: for events that relays get late.
        overlap("overlap_secs"): Duration = Duration::from_secs(120), rules::seconds(0..=86_400);
        /// How the gateway introduces itself to relays (User-Agent): its name, and how to reach somebody
        /// who answers for it. {version} stands for the program's version.
        user_agent: UserAgent = UserAgent::default(), rules::user_agent();
        /// Certificate authorities (PEM) that are trusted beside the system's, for relays with certificates
        /// of their own.
        extra_ca_file: Option<PathBuf> = None, rules::optional(rules::file());
        /// Whether to prove the key of [nostr] to relays that ask for it (NIP-42). A challenge is answered when
        /// it comes. false: a relay that serves only keys it knows is not read, and an empty answer from a
        /// relay that has asked for a key proves nothing.
        authenticate: bool = false, rules::Flag;
        /// Whether relays that are added over the API may have addresses that are not public: of this
        /// machine, or of a private network. Those of bootstrap_relays always may.
        allow_private_addresses: bool = false, rules::Flag;
        /// The most events a second that are read of one relay; other messages, fragments, pings and pongs
        /// count like events. One that sends more is read more slowly; nothing of it is lost. 0: no limit.
        max_events_per_second: Option<NonZeroU32> = NonZeroU32::new(10_000), rules::whole(1..=1_000_000);
        /// How many bad signatures or broken frames a relay may send in an hour, beside one in a thousand
        /// events. One that sends more is quarantined, each time for longer. 0: it never is.
        max_offences_per_hour: Option<NonZeroU32> = NonZeroU32::new(50), rules::whole(1..=1_000_000);
        /// How many seconds a connected relay may send no event, while several others deliver, before it is
        /// reported as silent.
        silent_after("silent_after_secs"): Duration = Duration::from_secs(600), rules::seconds(1..=86_400);
    }

    /// How copies of an event are recognised. More memory saves disk look-ups; the outcome is the same.
    [deduplication] Deduplication {
        /// The folder of the database. It holds the event log and every id that was ever accepted.
        rocksdb_path: PathBuf = PathBuf::from("./data/rocksdb"), rules::folder();
        /// How many of the newest ids are kept in memory, exactly.
        hotset_size: NonZeroUsize = nonzero(10_000), rules::whole(1..=100_000_000);
        /// How many ids the Bloom filter is laid out for (about 1.4 bytes each); it grows beyond.
        bloom_capacity: NonZeroUsize = nonzero(1_000_000), rules::whole(1..=1_000_000_000);
        /// How many ids that were looked up on disk are remembered.
        lru_size: NonZeroUsize = nonzero(50_000), rules::whole(1..=100_000_000);
    }

    /// Which events are let in.
    [filters] Filters {
        /// The event kinds to let in. Empty: all of them.
        allowed_kinds: BTreeSet<u16> = BTreeSet::new(), rules::list(rules::kind(), 65_536);
        /// The largest event, in bytes of its JSON. Larger ones are refused.
        max_event_bytes: usize = 256 * 1024, rules::bytes(1024..=16 * 1024 * 1024);
        /// How many seconds an event's created_at may lie ahead of the clock.
        max_future("max_future_secs"): Duration = Duration::from_secs(900), rules::seconds(0..=10_000_000_000_000);
        /// How many hours old an event may be. Older ones are refused. 0: any age. With retention, the ids of
        /// trimmed events of that age are forgotten: raise it later, and relays that still have them bring
        /// them again.
        max_age("max_age_hours"): Option<Duration> = None, rules::hours(1..=1_000_000);
        /// Whether to let in events whose expiration (NIP-40) has passed.
        admit_expired: bool = false, rules::Flag;
    }

    /// How the event log is kept.
    [storage] Storage {
        /// Whether a batch is on the disk before anyone sees it. false saves time on slow disks, but then
        /// a power failure, unlike a crash of the program, may lose events that were already delivered. They
        /// come again from their relays, under new sequence numbers; no number is ever given twice.
        fsync: bool = true, rules::Flag;
        /// How many hours an event is kept in the log. 0: for ever.
        retention("retention_hours"): Option<Duration> = None, rules::hours(1..=1_000_000);
        /// The size from which on the log is trimmed at its old end, in bytes of events before compression.
        /// The ids, 50 bytes each, are not counted: they outlive the events. 0: no limit.
        max_bytes: Option<NonZeroU64> = None, rules::bytes(1024 * 1024..=1 << 60);
        /// Bytes of free disk below which nothing is added to the database, until there is room again. Less than
        /// the write buffers need (250 MiB) is raised to that, with a warning. 0: never mind.
        min_free_bytes: u64 = 256 * 1024 * 1024, rules::bytes(0..=1 << 60);
        /// How many bytes of the newest events are kept in memory for the consumers.
        tail_bytes: usize = 64 * 1024 * 1024, rules::bytes(1024 * 1024..=64 * 1024 * 1024 * 1024);
    }

    /// Where events go.
    [output] Output {
        /// Whether events are served on /ws.
        websocket_enabled: bool = true, rules::Flag;
        /// The port of /ws and of the HTTP API. 0: a free one that the system picks; the log names it.
        websocket_port: u16 = 8080, rules::whole(0..=65_535);
        /// The address to listen on. "0.0.0.0" is reachable from other machines: put a proxy before it.
        bind_address: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST), rules::ip_address();
        /// The most events that are committed to the log at once.
        batch_size: NonZeroUsize = nonzero(100), rules::whole(1..=100_000);
        /// The longest that a verified event waits while others are being verified, in milliseconds, before
        /// it is handed over to be committed. It is a cap: nothing waits when there is nothing else to do.
        max_latency("max_latency_ms"): Duration = Duration::from_millis(100), rules::milliseconds(0..=60_000);
        /// Receivers by TCP that need no options. Each gets every event's JSON, with its length as a
        /// big-endian u32 before it. The address is the name, too, under which its cursor is kept.
        downstream_tcp: Vec<HostPort> = Vec::new(), rules::list(rules::host_port(), 1000);
        /// Receivers by HTTP that need no options. Each event's JSON is posted to each of them, one request after
        /// the other. The address is the name, too, under which its cursor is kept.
        downstream_rest: Vec<HttpUrl> = Vec::new(), rules::list(rules::http_url_without_query(), 1000);
        /// How many events a client of /ws or /fanout may be behind while its socket takes nothing.
        slow_client_lag: u64 = 10_000, rules::events(1..=1_000_000_000_000);
        /// How many seconds the socket of a client that is further behind may take nothing before it is
        /// closed, with the cursor to resume from.
        slow_client("slow_client_secs"): Duration = Duration::from_secs(30), rules::seconds(1..=86_400);
        /// How many seconds there are between two pings to a client of /ws or /fanout. One that gives no sign of life
        /// for two such spans is closed. 0: no pings.
        ping_interval("ping_interval_secs"): Option<Duration> = Some(Duration::from_secs(30)), rules::seconds(1..=86_400);
        /// The most clients of /ws at the same time.
        max_clients: NonZeroUsize = nonzero(10_000), rules::whole(1..=1_000_000);
        /// The most of them from one address; of IPv6 the first 64 bits count. Behind a proxy all clients
        /// have its address. 0: as many as there may be.
        max_clients_per_address: Option<NonZeroUsize> = NonZeroUsize::new(1_000), rules::whole(1..=1_000_000);
        /// The origins whose pages may open /ws and /fanout in a browser. Empty: any page may read, and none may connect
        /// to /ws with `consumer`, which moves a cursor. Programs that send no Origin are not concerned.
        allowed_origins: Vec<WebOrigin> = Vec::new(), rules::list(rules::web_origin(), 1000);
        /// Receivers by TCP with options. Each has a cursor of its own in the database: what it missed while it
        /// was away, or the gateway was, it gets when it is back.
        tcp: Vec<TcpSink> = Vec::new(), rules::sinks();
        /// Receivers by HTTP with options: events are posted to them. Each has a cursor of its own, as those by
        /// TCP have.
        rest: Vec<RestSink> = Vec::new(), rules::sinks();
        /// The most consumers of /ws whose cursors are kept, by the names that they give themselves.
        max_consumers: NonZeroUsize = nonzero(1_000), rules::whole(1..=100_000);
        /// How many hours the cursor and the dead letters of a sink are kept that is no longer configured, and
        /// the cursor of a consumer of /ws or /fanout that does not come back.
        keep_unused("keep_unused_hours"): Duration = hours(720), rules::hours(1..=1_000_000);
    }

    /// The encrypted fan-out: trade signals of bots, for each of their followers, on /fanout.
    [fanout] Fanout {
        /// Whether there is a fan-out.
        enabled: bool = true, rules::Flag;
        /// The kinds that are signals, of authors that are registered as bots.
        kinds: BTreeSet<u16> = (30_931..=30_934).collect(), rules::list(rules::kind(), 1_000);
        /// How many seconds old a signal may be. An older one is delivered with "stale":true, so that nobody
        /// trades on it unknowingly. 0: any age.
        max_age("max_age_secs"): Option<Duration> = Some(Duration::from_secs(600)), rules::seconds(1..=1_000_000_000);
        /// How often a day a key, and an address, may register, subscribe and unsubscribe; of IPv6 the first
        /// 64 bits count. Who has the admin token is not counted. Behind a proxy all have its address. 0: no limit.
        daily_limit: Option<NonZeroU32> = NonZeroU32::new(1_000), rules::whole(1..=1_000_000_000);
        /// Who may register new bots. "open": everybody who proves the bot's key. "approve": the same, but nobody can
        /// follow the bot until the operator approves it. "closed": the operator, with the admin token.
        registration: Registration = Registration::Open, rules::choice();
        /// How many new bots an address may register in a day; of IPv6 the first 64 bits count. Bots that are
        /// registered already, and calls with the admin token, are not counted. 0: no limit.
        daily_new_bots: Option<NonZeroU32> = NonZeroU32::new(100), rules::whole(1..=1_000_000_000);
        /// The most connections to /fanout at the same time. For single addresses, slow ones, pings and origins there
        /// are the keys of [output].
        max_clients: NonZeroUsize = nonzero(10_000), rules::whole(1..=1_000_000);
        /// The most bots that may be registered. When there are so many, the first that nobody follows, and that has
        /// not published a signal, gives way to a new one.
        max_bots: NonZeroUsize = nonzero(10_000), rules::whole(1..=10_000_000);
        /// The most follows of bots, about 300 bytes of memory each.
        max_follows: NonZeroUsize = nonzero(1_000_000), rules::whole(1..=100_000_000);
        /// The most cursors of followers that are kept. They are forgotten as those of /ws are.
        max_consumers: NonZeroUsize = nonzero(100_000), rules::whole(1..=10_000_000);
    }

    /// Who may change something over the API, and what it is called from outside.
    [api] Api {
        /// The URL that others reach the API by: what comes before /fanout and /api. Who proves a key signs for
        /// it (NIP-42, NIP-98). Unset: http://127.0.0.1 and localhost, with the port, while bind_address is a
        /// loopback address; otherwise nobody can prove a key.
        public_url: Option<PublicUrl> = None, rules::optional(rules::public_url());
        /// What a request that changes something must carry: "Authorization: Bearer <admin_token>". It is
        /// never shown. Unset: such requests may only come from this machine, and only while bind_address is
        /// a loopback address.
        admin_token: Option<Secret> = None, rules::optional(rules::admin_token());
        /// The most connections that are no clients of /ws or /fanout, or not yet: those are counted by [output]
        /// max_clients and [fanout] max_clients. One that sends no request for 30 seconds is closed.
        max_connections: NonZeroUsize = nonzero(4_096), rules::whole(1..=1_000_000);
        /// The most of them from one address; of IPv6 the first 64 bits count. 0: as many as there may be, as also
        /// when [output] max_clients_per_address is 0, because of a proxy whose address all have.
        max_connections_per_address: Option<NonZeroUsize> = NonZeroUsize::new(256), rules::whole(1..=1_000_000);
    }

    /// The key that the gateway signs with when it speaks in its own name.
    [nostr] Nostr {
        /// The secret key. It is never shown. If neither of the two is set, the fan-out uses the key in the file
        /// relayer.key beside the folder of the database, and makes one there at the first start.
        secret_key: Option<SecretKey> = None, rules::optional(rules::secret_key());
        /// A file that holds the secret key, instead of secret_key.
        secret_key_file: Option<SecretFile<SecretKey>> = None, rules::optional(rules::secret_key_file());
    }

    /// Where bots and followers of the fan-out are kept, if not in the gateway's own database: so that several
    /// gateways share them. They must have the same key of [nostr], too.
    [postgres] Postgres {
        /// The database to use, with its password: PostgreSQL 14 or later. TLS as it says (sslmode, sslrootcert).
        /// It is never shown.
        dsn: Option<Secret> = None, rules::optional(rules::postgres_dsn());
        /// The most connections to it.
        max_connections: NonZeroUsize = nonzero(5), rules::whole(1..=1000);
    }

    /// What an operator sees.
    [monitoring] Monitoring {
        /// How much is logged. RUST_LOG, if set, goes before it: RUST_LOG=moltrade_relayer=debug.
        log_level: LogLevel = LogLevel::Info, rules::choice();
        /// The port that serves nothing but /metrics. 0: none; the API's port has it in any case. If the default
        /// is in use, by Prometheus itself for one, the gateway starts without this port.
        prometheus_port: Option<NonZeroU16> = NonZeroU16::new(9090), rules::whole(1..=65_535);
    }
}

impl Output {
    /// All sinks by TCP, in whichever form they were given. Their names differ.
    pub fn tcp_sinks(&self) -> Vec<TcpSink> {
        self.downstream_tcp.iter().map(TcpSink::at).chain(self.tcp.iter().cloned()).collect()
    }

    /// All sinks by HTTP, in whichever form they were given. Their names differ from all others.
    pub fn rest_sinks(&self) -> Vec<RestSink> {
        self.downstream_rest.iter().map(RestSink::at).chain(self.rest.iter().cloned()).collect()
    }

    /// A name that a sink of `tcp` and one of `rest` have both.
    pub(super) fn name_twice(&self) -> Option<&SinkName> {
        self.tcp.iter().map(|sink| &sink.name).find(|name| self.rest.iter().any(|sink| sink.name == **name))
    }

    /// How many sinks there are.
    pub(super) const fn sinks(&self) -> usize {
        self.downstream_tcp.len() + self.tcp.len() + self.downstream_rest.len() + self.rest.len()
    }
}

impl Config {
    /// How many of the connections that are no clients may come from one address.
    pub fn connections_per_address(&self) -> Option<NonZeroUsize> {
        self.output.max_clients_per_address.and(self.api.max_connections_per_address)
    }
}

impl Nostr {
    /// The key to sign with, wherever it was set.
    pub fn key(&self) -> Option<&SecretKey> {
        self.secret_key.as_ref().or(self.secret_key_file.as_ref().map(|file| &file.secret))
    }
}

/// A few open relays, so that the first start shows something.
fn example_relays() -> Vec<RelayUrl> {
    ["wss://relay.damus.io", "wss://nos.lol"].into_iter().filter_map(|url| url.parse().ok()).collect()
}

const fn nonzero(n: usize) -> NonZeroUsize {
    NonZeroUsize::MIN.saturating_add(n.saturating_sub(1))
}

const fn hours(n: u64) -> Duration {
    Duration::from_secs(n * 3600)
}
