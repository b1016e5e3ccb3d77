//! The metrics of the fan-out and of its registry.

use enum_map::Enum;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use strum::IntoStaticStr;

use super::proof::BadProofReason;
use crate::serve::{ClientCounts, CloseReason};
use crate::telemetry::LatencyHistogram;
use crate::telemetry::metrics::{PerLabel, metrics};

/// Why a client of `/fanout` was refused: the `error` code of the response, even if the refusal
/// came after the upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum FollowerRefusal {
    TooManyClients,
    TooManyClientsFromAddress,
    OriginNotAllowed,
    TooManyConnections,
    RegistryUnavailable,
    Unauthorized,
    Starting,
    RateLimited,
    PublicUrlRequired,
    NotFollowing,
    TooManyConsumers,
    TooManyConsumersOfFollower,
    ConsumerBusy,
    DiskFull,
}

metrics! {
    pub struct Metrics {
        /// Connected clients of /fanout, with or without a proven key.
        clients: Gauge = "fanout_clients";
        /// Signals that were encrypted and handed to the sockets of followers.
        messages: Counter = "fanout_messages";
        /// Seconds from reading a signal's frame until a follower's socket has accepted the signal: one sample for each write to a follower, for the signal that waited longest. Replayed signals are not included.
        latency: LatencyHistogram = "fanout_latency_seconds";
        /// Closed connections of /fanout clients that proved a key, by reason.
        closed: PerLabel<CloseReason, Counter> = "fanout_clients_closed", PerLabel::new("reason");
        /// Refused clients of /fanout, by reason.
        refused: PerLabel<FollowerRefusal, Counter> = "fanout_clients_refused", PerLabel::new("reason");
        /// Invalid proofs of a key (NIP-42, NIP-98), by reason.
        proofs_refused: PerLabel<BadProofReason, Counter> = "proofs_refused", PerLabel::new("reason");
        /// Stored cursors of followers.
        consumers: Gauge = "fanout_consumers";
        /// Registered bots.
        registry_bots: Gauge = "registry_bots";
        /// Follows of registered bots.
        registry_follows: Gauge = "registry_follows";
        /// 1 if the database of the registry can be read and written, or if the fan-out is off.
        registry_up: Gauge = "registry_up", up();
        /// 1 if the database of the registry can be read but accepts no writes.
        registry_read_only: Gauge = "registry_read_only";
        /// Statements that were sent to the Postgres database of the registry. Events cause no statements.
        registry_queries: Counter = "registry_queries";
    }
}

impl Metrics {
    /// Returns the counters of one follower's connection.
    pub fn counts(&self) -> ClientCounts {
        ClientCounts {
            path: "/fanout",
            messages: self.messages.clone(),
            latency: self.latency.clone(),
            closed: self.closed.clone(),
        }
    }
}

fn up() -> Gauge {
    let up = Gauge::default();
    up.set(1);
    up
}
