//! The metrics of readers.

use std::time::{Duration, Instant};

use enum_map::{Enum, EnumMap};
use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use strum::IntoStaticStr;

use crate::config::SinkName;
use crate::telemetry::metrics::{PerLabel, metrics};

/// Why a request may not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum ReadRefusal {
    /// The request has neither a token nor a ticket.
    NoToken,
    /// The token is no reader's.
    WrongToken,
    /// The ticket is unknown, used or expired.
    WrongTicket,
    /// A reader with a selection asked for state.
    EventsOnly,
    TooManyRequests,
    TooManyConnections,
    TooManyTickets,
}

/// The label `reader`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReaderLabel {
    reader: String,
}

impl ReaderLabel {
    fn new(name: &SinkName) -> Self {
        Self { reader: name.to_string() }
    }
}

metrics! {
    /// The metrics of readers.
    pub struct ReaderMetrics {
        /// Admitted requests of a reader.
        requests: Family<ReaderLabel, Counter> = "reader_requests";
        /// Connections of a reader to /ws and to event streams.
        connections: Family<ReaderLabel, Gauge> = "reader_connections";
        /// Refused requests to read, by reason.
        refused: PerLabel<ReadRefusal, Counter> = "reads_refused", PerLabel::new("reason");
    }
}

impl ReaderMetrics {
    pub(super) fn requests_of(&self, name: &SinkName) -> Counter {
        self.requests.get_or_create(&ReaderLabel::new(name)).clone()
    }

    pub(super) fn connections_of(&self, name: &SinkName) -> Gauge {
        self.connections.get_or_create(&ReaderLabel::new(name)).clone()
    }

    /// Removes the metrics of a reader that is no longer configured.
    pub(super) fn forget(&self, name: &SinkName) {
        let label = ReaderLabel::new(name);
        self.requests.remove(&label);
        self.connections.remove(&label);
    }
}

/// When a refusal of each reason was last logged.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<EnumMap<ReadRefusal, Option<Instant>>>);

impl Refusals {
    /// Whether a refusal may be logged: once per interval and reason, so that a client that keeps
    /// trying does not fill the log.
    pub(super) fn may_log(&self, reason: ReadRefusal, interval: Duration) -> bool {
        let logged = &mut self.0.lock()[reason];
        let may = logged.is_none_or(|at| at.elapsed() >= interval);
        if may {
            *logged = Some(Instant::now());
        }
        may
    }
}
