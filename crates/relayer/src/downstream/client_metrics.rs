//! The metrics of clients of `/ws`, and what is counted of the clients of either path.

use enum_map::Enum;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use strum::IntoStaticStr;

use super::farewell::CloseReason;
use crate::telemetry::metrics::{PerLabel, latency_histogram, metrics};

/// Why a client of `/ws` was not let in, as the answer that it got says it in `error`.
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

/// What is counted of the clients that come by one path. Clones share their counters.
#[derive(Debug, Clone)]
pub struct ClientCounts {
    /// The path, as the log names it.
    pub path: &'static str,
    /// Messages that were handed to their sockets.
    pub messages: Counter,
    /// Seconds from reading an event's frame until a client's socket has it.
    pub latency: Histogram,
    /// Clients that are gone, by reason.
    pub closed: PerLabel<CloseReason, Counter>,
}

metrics! {
    /// What is counted of clients of `/ws`.
    pub struct WebSocketMetrics {
        /// Clients that are connected to /ws.
        clients: Gauge = "websocket_clients";
        /// Consumers of /ws whose cursors are kept.
        consumers: Gauge = "websocket_consumers";
        /// Messages that were handed to the sockets of /ws clients.
        messages: Counter = "websocket_messages";
        /// Seconds from reading an event's frame until a client's socket has it, once for each write to a client, of the event that waited longest; replayed events do not count.
        latency: Histogram = "delivery_latency_seconds", latency_histogram();
        /// Clients of /ws that are gone, by reason.
        closed: PerLabel<CloseReason, Counter> = "websocket_clients_closed", PerLabel::new("reason");
        /// Clients of /ws that were not let in, by reason.
        refused: PerLabel<ClientRefusal, Counter> = "websocket_clients_refused", PerLabel::new("reason");
    }
}

impl WebSocketMetrics {
    /// What one client counts.
    pub fn counts(&self) -> ClientCounts {
        ClientCounts {
            path: "/ws",
            messages: self.messages.clone(),
            latency: self.latency.clone(),
            closed: self.closed.clone(),
        }
    }
}
