//! The metrics of `/ws` clients, and the counters that clients of all paths have.

use enum_map::Enum;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use strum::IntoStaticStr;

use super::close::CloseReason;
use crate::telemetry::metrics::{PerLabel, latency_histogram, metrics};

/// Why a client of `/ws` was refused: the `error` code of the response.
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
    pub latency: Histogram,
    /// Closed connections by reason.
    pub closed: PerLabel<CloseReason, Counter>,
}

metrics! {
    /// The metrics of `/ws` clients.
    pub struct WebSocketMetrics {
        /// Connected clients of /ws.
        clients: Gauge = "websocket_clients";
        /// Named consumers of /ws, whose cursors are stored.
        consumers: Gauge = "websocket_consumers";
        /// Messages that were handed to the sockets of /ws clients.
        messages: Counter = "websocket_messages";
        /// Seconds from reading an event's frame until a client's socket has accepted the event: one sample for each write to a client, for the event that waited longest. Replayed events are not included.
        latency: Histogram = "delivery_latency_seconds", latency_histogram();
        /// Closed connections of /ws clients, by reason.
        closed: PerLabel<CloseReason, Counter> = "websocket_clients_closed", PerLabel::new("reason");
        /// Refused clients of /ws, by reason.
        refused: PerLabel<ClientRefusal, Counter> = "websocket_clients_refused", PerLabel::new("reason");
    }
}

impl WebSocketMetrics {
    /// Returns the counters for one client.
    pub fn counts(&self) -> ClientCounts {
        ClientCounts {
            path: "/ws",
            messages: self.messages.clone(),
            latency: self.latency.clone(),
            closed: self.closed.clone(),
        }
    }
}
