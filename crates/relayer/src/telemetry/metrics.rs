//! The metrics. Each is declared once, and its doc comment is its help text.
//!
//! Counters that every frame touches are added to in bulk by the connections; figures that somebody else
//! keeps (queues, memory, RocksDB, relay states) are read when the metrics are asked for.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::fanout::proof::BadProof;
use crate::ingest::{DropReason, Layer};

/// Why a client of `/ws` is gone: it left, the gateway stopped, it was too slow, it gave no sign of life, what it
/// needed next was trimmed, another connection took over its name, it acknowledged what cannot be, the log could
/// not be read.
pub const CLOSED: [&str; 8] =
    ["left", "stopping", "slow", "silent", "trimmed", "replaced", "bad_ack", "failed"];

/// Why a client of `/ws` was not let in: the codes of the answers that it got.
pub const REFUSED: [&str; 6] = [
    "too_many_clients",
    "too_many_clients_from_address",
    "origin_not_allowed",
    "too_many_consumers",
    "consumer_busy",
    "disk_full",
];

/// Why a client of `/fanout` was not let in: the codes of the answers that it got, or would have got if it had proved
/// its key with the request.
pub const FANOUT_REFUSED: [&str; 14] = [
    "too_many_clients",
    "too_many_clients_from_address",
    "origin_not_allowed",
    "too_many_connections",
    "registry_unavailable",
    "unauthorized",
    "starting",
    "rate_limited",
    "public_url_required",
    "not_following",
    "too_many_consumers",
    "too_many_consumers_of_follower",
    "consumer_busy",
    "disk_full",
];

/// Why a connection to one of our ports was not let in: there are too many, in all or from its address, the gateway
/// stops, the system does not hand it out.
pub const CONNECTIONS_REFUSED: [&str; 4] = ["too_many", "too_many_from_address", "stopping", "accept_failed"];

/// What did not come or was not taken in time on a connection that was closed.
pub const CONNECTIONS_TIMED_OUT: [&str; 2] = ["request", "response"];

/// A label `reason`, `layer`, `state` or `figure`.
macro_rules! label {
    ($Name:ident { $field:ident }) => {
        #[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
        #[doc(hidden)]
        pub struct $Name {
            $field: &'static str,
        }
    };
}

label!(ReasonLabel { reason });
label!(LayerLabel { layer });
label!(StateLabel { state });
label!(FigureLabel { figure });

/// A label `sink`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
#[doc(hidden)]
pub struct SinkLabel {
    sink: String,
}

/// Labels `sink` and `state`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
#[doc(hidden)]
pub struct SinkStateLabel {
    sink: String,
    state: &'static str,
}

/// What is counted of the clients that come by one path. Clones are the same.
#[derive(Debug, Clone)]
pub struct ClientCounts {
    /// The path, as the log names it.
    pub path: &'static str,
    /// Messages that were handed to their sockets.
    pub messages: Counter,
    /// Seconds from reading an event's frame until a client's socket has it.
    pub latency: Histogram,
    /// Those that are gone, by reason.
    pub closed: Family<ReasonLabel, Counter>,
}

impl ClientCounts {
    /// The counter of a reason, one of [`CLOSED`], for which a client is gone.
    pub fn closed(&self, reason: &'static str) -> Counter {
        self.closed.get_or_create_owned(&ReasonLabel { reason })
    }
}

macro_rules! metrics {
    ($( #[doc = $help:literal] $field:ident: $type:ty = $make:expr, $name:literal; )*) => {
        /// All metrics.
        #[derive(Debug)]
        pub struct Metrics {
            registry: Registry,
            reasons: Vec<Counter>,
            layers: Vec<Counter>,
            $( #[doc = $help] pub $field: $type, )*
        }

        impl Metrics {
            fn declare() -> Self {
                let mut registry = Registry::default();
                $(
                    let $field: $type = $make;
                    registry.register($name, $help.trim().trim_end_matches('.'), $field.clone());
                )*
                Self { registry, reasons: Vec::new(), layers: Vec::new(), $( $field, )* }
            }
        }
    };
}

metrics! {
    /// Events that were verified and committed to the log.
    events_processed: Counter = Counter::default(), "events_processed";
    /// Copies of events that were seen before, by the layer that recognised them.
    duplicates_filtered: Family<LayerLabel, Counter> = Family::default(), "duplicates_filtered";
    /// Frames and events that were refused, by reason.
    events_dropped: Family<ReasonLabel, Counter> = Family::default(), "events_dropped";
    /// WebSocket messages that relays sent.
    frames_received: Counter = Counter::default(), "frames_received";
    /// Bytes of their payloads.
    frame_bytes_received: Counter = Counter::default(), "frame_bytes_received";
    /// WebSocket frames of relays that were handled: messages, their fragments, pings and pongs.
    relay_frames_handled: Counter = Counter::default(), "relay_frames_handled";
    /// Ids that were certainly new to the Bloom filter, so that no disk was asked.
    lookups_in_memory: Counter = Counter::default(), "lookups_in_memory";
    /// Ids for which only RocksDB could tell.
    lookups_on_disk: Counter = Counter::default(), "lookups_on_disk";
    /// Seconds from reading an event's frame until it is committed.
    processing_latency: Histogram = latency_histogram(), "processing_latency_seconds";
    /// Seconds from reading an event's frame until a client's socket has it, once for each write to a client, of the event that waited longest; replayed events do not count.
    delivery_latency: Histogram = latency_histogram(), "delivery_latency_seconds";
    /// Events in a commit.
    batch_events: Histogram = Histogram::new(exponential_buckets(1.0, 2.0, 14)), "batch_events";
    /// Commits to the log.
    batches_committed: Counter = Counter::default(), "batches_committed";
    /// Resident memory of the process.
    memory_usage: Gauge = Gauge::default(), "memory_usage_bytes";
    /// Relays with an open connection.
    active_connections: Gauge = Gauge::default(), "active_connections";
    /// Relays by the state of their connection.
    relays: Family<StateLabel, Gauge> = Family::default(), "relays";
    /// Connections to relays that were opened.
    relay_connections: Counter = Counter::default(), "relay_connections";
    /// Requests that were sent to relays.
    relay_requests: Counter = Counter::default(), "relay_requests";
    /// How often a relay said that it is asked too much.
    rate_limited: Counter = Counter::default(), "rate_limited";
    /// Quarantines that relays were put into.
    quarantines: Counter = Counter::default(), "quarantines";
    /// Spans of relays' past that are not proven complete.
    relay_gaps: Gauge = Gauge::default(), "relay_gaps";
    /// Relays with such a span.
    relays_with_gaps: Gauge = Gauge::default(), "relays_with_gaps";
    /// Relays of which all is proven that they were asked for.
    relays_proven: Gauge = Gauge::default(), "relays_proven";
    /// Relays that are connected and send nothing that others deliver.
    relays_silent: Gauge = Gauge::default(), "relays_silent";
    /// Relays that are being asked for their past.
    repairs: Gauge = Gauge::default(), "repairs";
    /// Seconds from the earliest watermark of a connected relay until now.
    relays_lag: Gauge = Gauge::default(), "relays_lag_seconds";
    /// Events between the sockets and the shards.
    events_in_queue: Gauge = Gauge::default(), "events_in_queue";
    /// Bytes of events between the sockets and the commit.
    bytes_in_queue: Gauge = Gauge::default(), "bytes_in_queue";
    /// Clients that are connected to /ws.
    websocket_clients: Gauge = Gauge::default(), "websocket_clients";
    /// Consumers of /ws whose cursors are kept.
    websocket_consumers: Gauge = Gauge::default(), "websocket_consumers";
    /// Messages that were handed to the sockets of /ws clients.
    websocket_messages: Counter = Counter::default(), "websocket_messages";
    /// Clients of /ws that are gone, by reason.
    websocket_clients_closed: Family<ReasonLabel, Counter> = Family::default(), "websocket_clients_closed";
    /// Clients of /ws that were not let in, by reason.
    websocket_clients_refused: Family<ReasonLabel, Counter> = Family::default(), "websocket_clients_refused";
    /// 1 for the state that a sink is in, 0 for the others.
    downstream_state: Family<SinkStateLabel, Gauge> = Family::default(), "downstream_state";
    /// Sequences from a sink's cursor to the head.
    downstream_lag: Family<SinkLabel, Gauge> = Family::default(), "downstream_lag_events";
    /// Events that a sink has: acknowledged, or without acknowledgements taken by its socket. Repeats count.
    downstream_delivered: Family<SinkLabel, Counter> = Family::default(), "downstream_delivered_events";
    /// Connections to a sink after the first.
    downstream_reconnects: Family<SinkLabel, Counter> = Family::default(), "downstream_reconnects";
    /// Connections to a sink that were closed for a wrong or missing acknowledgement.
    downstream_ack_errors: Family<SinkLabel, Counter> = Family::default(), "downstream_ack_errors";
    /// Posts to a sink that have to be repeated.
    downstream_retries: Family<SinkLabel, Counter> = Family::default(), "downstream_retries";
    /// Events that a sink refused, which became dead letters.
    downstream_refused: Family<SinkLabel, Counter> = Family::default(), "downstream_refused_events";
    /// Dead letters that are kept of a sink.
    downstream_letters: Family<SinkLabel, Gauge> = Family::default(), "downstream_dead_letters";
    /// Dead letters of a sink that were dropped to make room for others.
    downstream_letters_dropped: Family<SinkLabel, Counter> = Family::default(), "downstream_dead_letters_dropped";
    /// Sequences that retention trimmed before a sink had them.
    downstream_lost: Family<SinkLabel, Counter> = Family::default(), "downstream_lost_events";
    /// Clients that are connected to /fanout, with or without having proved a key.
    fanout_clients: Gauge = Gauge::default(), "fanout_clients";
    /// Signals that were encrypted and handed to the sockets of followers.
    fanout_messages: Counter = Counter::default(), "fanout_messages";
    /// Seconds from reading a signal's frame until a follower's socket has it, once for each write to a follower, of the signal that waited longest; replayed signals do not count.
    fanout_latency: Histogram = latency_histogram(), "fanout_latency_seconds";
    /// Clients of /fanout that are gone, by reason.
    fanout_clients_closed: Family<ReasonLabel, Counter> = Family::default(), "fanout_clients_closed";
    /// Clients of /fanout that were not let in, by reason.
    fanout_clients_refused: Family<ReasonLabel, Counter> = Family::default(), "fanout_clients_refused";
    /// Proofs of a key (NIP-42, NIP-98) that did not hold, by reason.
    proofs_refused: Family<ReasonLabel, Counter> = Family::default(), "proofs_refused";
    /// Cursors of followers that are kept.
    fanout_consumers: Gauge = Gauge::default(), "fanout_consumers";
    /// Bots that are registered.
    registry_bots: Gauge = Gauge::default(), "registry_bots";
    /// Follows of bots.
    registry_follows: Gauge = Gauge::default(), "registry_follows";
    /// Whether the database of the registry can be read and written; 1 also without a fan-out.
    registry_up: Gauge = Gauge::default(), "registry_up";
    /// Whether the database of the registry can be read, but takes no writes.
    registry_read_only: Gauge = Gauge::default(), "registry_read_only";
    /// Statements that were sent to the database of the registry; none for an event.
    registry_queries: Counter = Counter::default(), "registry_queries";
    /// The last sequence that was committed.
    log_head: Gauge = Gauge::default(), "log_head_seq";
    /// The oldest sequence that is kept.
    log_floor: Gauge = Gauge::default(), "log_floor_seq";
    /// Steps of the wall clock that were noticed since the start.
    clock_steps: Counter = Counter::default(), "clock_steps";
    /// Whether the clock is in doubt, so that nothing is deleted for its age.
    clock_in_doubt: Gauge = Gauge::default(), "clock_in_doubt";
    /// Whether ingest is paused for lack of disk space.
    ingest_paused: Gauge = Gauge::default(), "ingest_paused";
    /// Connections to our ports that are open and no clients of /ws or /fanout, or not yet.
    connections: Gauge = Gauge::default(), "connections";
    /// Connections to our ports that were let in.
    connections_accepted: Counter = Counter::default(), "connections_accepted";
    /// Connections to our ports that were not let in, by reason.
    connections_refused: Family<ReasonLabel, Counter> = Family::default(), "connections_refused";
    /// Connections to our ports that were closed because a request did not come, or a response was not taken, in time.
    connections_timed_out: Family<ReasonLabel, Counter> = Family::default(), "connections_timed_out";
    /// Panics, each of which is a fault of the program. The log says where it was.
    panics: Counter = Counter::default(), "panics";
    /// Log lines that were lost, because standard error took them too slowly or not at all.
    log_lines_lost: Counter = Counter::default(), "log_lines_lost";
    /// Figures of RocksDB, in bytes or as their name says.
    rocksdb: Family<FigureLabel, Gauge<i64>> = Family::default(), "rocksdb";
}

/// From a quarter of a millisecond to 16 seconds.
fn latency_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.000_25, 2.0, 17))
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All metrics, at zero.
    pub fn new() -> Self {
        let mut metrics = Self::declare();
        let reasons = DropReason::ALL.iter().map(|reason| ReasonLabel { reason: reason.label() });
        metrics.reasons = reasons.map(|label| metrics.events_dropped.get_or_create_owned(&label)).collect();
        let layers = Layer::ALL.iter().map(|layer| LayerLabel { layer: layer.label() });
        metrics.layers =
            layers.map(|label| metrics.duplicates_filtered.get_or_create_owned(&label)).collect();
        metrics.registry_up.set(1);
        for reason in CLOSED {
            drop(metrics.client_closed(reason));
        }
        for reason in REFUSED {
            drop(metrics.client_refused(reason));
        }
        for reason in CLOSED {
            drop(metrics.fanout_counts().closed(reason));
        }
        for reason in FANOUT_REFUSED {
            drop(metrics.fanout_refused(reason));
        }
        for reason in CONNECTIONS_REFUSED {
            drop(metrics.connection_refused(reason));
        }
        for reason in CONNECTIONS_TIMED_OUT {
            drop(metrics.connection_timed_out(reason));
        }
        for reason in BadProof::REASONS {
            drop(metrics.proof_refused(reason));
        }
        metrics
    }

    /// What is counted of the clients of `/ws`.
    pub fn websocket_counts(&self) -> ClientCounts {
        ClientCounts {
            path: "/ws",
            messages: self.websocket_messages.clone(),
            latency: self.delivery_latency.clone(),
            closed: self.websocket_clients_closed.clone(),
        }
    }

    /// The counter of a reason, one of [`CLOSED`], for which a client of `/ws` is gone.
    pub fn client_closed(&self, reason: &'static str) -> Counter {
        self.websocket_counts().closed(reason)
    }

    /// What is counted of the clients of `/fanout`.
    pub fn fanout_counts(&self) -> ClientCounts {
        ClientCounts {
            path: "/fanout",
            messages: self.fanout_messages.clone(),
            latency: self.fanout_latency.clone(),
            closed: self.fanout_clients_closed.clone(),
        }
    }

    /// The counter of a reason, one of [`FANOUT_REFUSED`], for which a client of `/fanout` was not let in.
    pub fn fanout_refused(&self, reason: &'static str) -> Counter {
        self.fanout_clients_refused.get_or_create_owned(&ReasonLabel { reason })
    }

    /// The counter of a reason, one of [`BadProof::REASONS`], for which a proof did not hold.
    pub fn proof_refused(&self, reason: &'static str) -> Counter {
        self.proofs_refused.get_or_create_owned(&ReasonLabel { reason })
    }

    /// The counter of a reason, one of [`REFUSED`], for which a client of `/ws` was not let in.
    pub fn client_refused(&self, reason: &'static str) -> Counter {
        self.websocket_clients_refused.get_or_create_owned(&ReasonLabel { reason })
    }

    /// The counter of a reason, one of [`CONNECTIONS_REFUSED`], for which a connection was not let in.
    pub fn connection_refused(&self, reason: &'static str) -> Counter {
        self.connections_refused.get_or_create_owned(&ReasonLabel { reason })
    }

    /// The counter of a reason, one of [`CONNECTIONS_TIMED_OUT`], for which a connection was closed.
    pub fn connection_timed_out(&self, reason: &'static str) -> Counter {
        self.connections_timed_out.get_or_create_owned(&ReasonLabel { reason })
    }

    /// The counter of a drop reason.
    pub fn dropped(&self, reason: DropReason) -> &Counter {
        self.reasons.get(reason.index()).unwrap_or(&self.events_processed)
    }

    /// The counter of a layer.
    pub fn duplicates(&self, layer: Layer) -> &Counter {
        self.layers.get(layer as usize).unwrap_or(&self.events_processed)
    }

    /// All duplicates.
    pub fn duplicates_total(&self) -> u64 {
        self.layers.iter().map(Counter::get).sum()
    }

    /// All that was refused.
    pub fn dropped_total(&self) -> u64 {
        self.reasons.iter().map(Counter::get).sum()
    }

    /// The text that Prometheus reads (OpenMetrics).
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let encoded = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        debug_assert!(encoded.is_ok());
        text
    }

    /// The label of a sink.
    pub fn sink_label(&self, sink: &str) -> SinkLabel {
        SinkLabel { sink: sink.to_owned() }
    }

    /// Notes which of these states a sink is in.
    pub fn set_sink_state(&self, sink: &str, states: &[&'static str], present: &str) {
        for state in states {
            let label = SinkStateLabel { sink: sink.to_owned(), state };
            self.downstream_state.get_or_create(&label).set((*state == present).into());
        }
    }

    /// Notes a figure of RocksDB.
    pub fn set_rocksdb(&self, figure: &'static str, value: u64) {
        self.rocksdb.get_or_create(&FigureLabel { figure }).set(i64::try_from(value).unwrap_or(i64::MAX));
    }

    /// Notes how many relays are in a state.
    pub fn set_relays(&self, state: &'static str, count: usize) {
        self.relays.get_or_create(&StateLabel { state }).set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
