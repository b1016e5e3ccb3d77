//! The metrics of sinks.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use strum::IntoEnumIterator;

use super::state::{Sink, SinkStatus};
use crate::event_log::EventLog;
use crate::telemetry::metrics::{metrics, set};

/// The label `sink`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SinkLabel {
    sink: String,
}

impl SinkLabel {
    pub fn new(sink: &str) -> Self {
        Self { sink: sink.to_owned() }
    }
}

/// The labels `sink` and `state`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SinkStateLabel {
    sink: String,
    state: &'static str,
}

metrics! {
    /// The metrics of sinks.
    pub struct SinkMetrics {
        /// 1 for the current state of a sink, 0 for all other states.
        state: Family<SinkStateLabel, Gauge> = "downstream_state";
        /// Sequences from a sink's cursor to the head.
        lag: Family<SinkLabel, Gauge> = "downstream_lag_events";
        /// Events that a sink acknowledged, or that its socket accepted if the sink does not acknowledge. Repeats are included.
        delivered: Family<SinkLabel, Counter> = "downstream_delivered_events";
        /// Connections to a sink after the first.
        reconnects: Family<SinkLabel, Counter> = "downstream_reconnects";
        /// Connections to a sink that were closed for a wrong or missing acknowledgement.
        ack_errors: Family<SinkLabel, Counter> = "downstream_ack_errors";
        /// Requests to a sink that had to be repeated.
        retries: Family<SinkLabel, Counter> = "downstream_retries";
        /// Events that a sink rejected; they became dead letters.
        refused: Family<SinkLabel, Counter> = "downstream_refused_events";
        /// Stored dead letters of a sink.
        dead_letters: Family<SinkLabel, Gauge> = "downstream_dead_letters";
        /// Dead letters of a sink that were dropped for lack of space.
        dead_letters_dropped: Family<SinkLabel, Counter> = "downstream_dead_letters_dropped";
        /// Sequences that retention trimmed before a sink received them.
        lost: Family<SinkLabel, Counter> = "downstream_lost_events";
    }
}

impl SinkMetrics {
    /// Removes the metrics of a sink that was removed from the configuration.
    pub(super) fn forget(&self, sink: &str) {
        for state in SinkStatus::iter() {
            self.state.remove(&SinkStateLabel { sink: sink.to_owned(), state: state.into() });
        }
        let label = SinkLabel::new(sink);
        for gauge in [&self.lag, &self.dead_letters] {
            gauge.remove(&label);
        }
        for counter in [
            &self.delivered,
            &self.reconnects,
            &self.ack_errors,
            &self.retries,
            &self.refused,
            &self.dead_letters_dropped,
            &self.lost,
        ] {
            counter.remove(&label);
        }
    }

    /// Updates the gauges from the state of the sinks.
    pub(super) fn refresh<'a>(&self, sinks: impl Iterator<Item = &'a Sink>, log: &EventLog) {
        for sink in sinks {
            let present = SinkStatus::from(&sink.state());
            for state in SinkStatus::iter() {
                let label = SinkStateLabel { sink: sink.name.to_string(), state: state.into() };
                self.state.get_or_create(&label).set((state == present).into());
            }
            let lag = log.head().get().saturating_sub(sink.cursor().get());
            set(&self.lag.get_or_create(&SinkLabel::new(&sink.name)), lag);
        }
    }
}
