//! The metrics of clients of `/ws` and of event streams, and the counters that clients of all paths
//! have.

use enum_map::Enum;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use strum::IntoStaticStr;

use super::close::CloseReason;
use crate::telemetry::LatencyHistogram;
use crate::telemetry::metrics::{PerLabel, metrics};

/// Why a client of `/ws` or of an event stream was refused: the `error` code of the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum ClientRefusal {
    TooManyClients,
    TooManyClientsFromAddress,
    OriginNotAllowed,
    TooManyConsumers,
    ConsumerBusy,
    DiskFull,
}

/// The counters of the clients of one path. Clones share them.
#[derive(Debug, Clone)]
pub struct ClientCounts {
    /// The path, for log messages.
    pub path: &'static str,
    /// Messages written to the clients' sockets.
    pub messages: Counter,
    /// Seconds from reading an event's frame until a client's socket has accepted the event.
    pub latency: LatencyHistogram,
    /// Closed connections by reason.
    pub closed: PerLabel<CloseReason, Counter>,
}

metrics! {
    /// The metrics of clients of `/ws` and of event streams, which share limits and rules.
    pub struct WebSocketMetrics {
        /// Connected clients of /ws and of event streams.
        clients: Gauge = "websocket_clients";
        /// Connected clients of event streams.
        streams: Gauge = "event_streams";
        /// Named consumers of /ws, whose cursors are stored.
        consumers: Gauge = "websocket_consumers";
        /// Messages that were handed to the sockets of clients of /ws and of event streams.
        messages: Counter = "websocket_messages";
        /// Seconds from reading an event's frame until a client's socket has accepted the event: one sample for each write to a client, for the event that waited longest. Replayed events are not included.
        latency: LatencyHistogram = "delivery_latency_seconds";
        /// Closed connections of clients of /ws and of event streams, by reason.
        closed: PerLabel<CloseReason, Counter> = "websocket_clients_closed", PerLabel::new("reason");
        /// Refused clients of /ws and of event streams, by reason.
        refused: PerLabel<ClientRefusal, Counter> = "websocket_clients_refused", PerLabel::new("reason");
    }
}

impl WebSocketMetrics {
    /// Returns the counters for one client of this path.
    pub(crate) fn counts(&self, path: &'static str) -> ClientCounts {
        ClientCounts {
            path,
            messages: self.messages.clone(),
            latency: self.latency.clone(),
            closed: self.closed.clone(),
        }
    }
}
