//! All metrics of the gateway, composed of the metrics of its modules.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::serve::WebSocketMetrics;
use crate::sink::SinkMetrics;
use crate::telemetry::metrics::{metrics, set};
use crate::telemetry::{log_buffer, resident_bytes};
use crate::{event_log, fanout, ingest, relay, watchdog};

metrics! {
    /// The metrics of the process.
    pub struct ProcessMetrics {
        /// Resident memory of the process.
        memory_usage: Gauge = "memory_usage_bytes";
        /// Panics. Each panic is a bug in the gateway; the log names the location.
        panics: Counter = "panics";
        /// Log lines that were lost because standard error accepted them too slowly or not at all.
        log_lines_lost: Counter = "log_lines_lost";
    }
}

impl ProcessMetrics {
    pub(super) fn refresh(&self) {
        if let Some(bytes) = resident_bytes() {
            set(&self.memory_usage, bytes);
        }
        self.panics.inner().store(watchdog::panics(), Ordering::Relaxed);
        self.log_lines_lost.inner().store(log_buffer::lines_lost(), Ordering::Relaxed);
    }
}

/// The metrics of the gateway. Its servers add their own.
#[derive(Debug)]
pub struct Metrics {
    pub ingest: Arc<ingest::Metrics>,
    pub relay: Arc<relay::Metrics>,
    pub log: event_log::Metrics,
    pub sinks: SinkMetrics,
    pub websocket: WebSocketMetrics,
    pub fanout: Arc<fanout::Metrics>,
    pub process: ProcessMetrics,
}

impl Metrics {
    pub fn register(registry: &mut Registry) -> Self {
        Self {
            ingest: Arc::new(ingest::Metrics::register(registry)),
            relay: Arc::new(relay::Metrics::register(registry)),
            log: event_log::Metrics::register(registry),
            sinks: SinkMetrics::register(registry),
            websocket: WebSocketMetrics::register(registry),
            fanout: Arc::new(fanout::Metrics::register(registry)),
            process: ProcessMetrics::register(registry),
        }
    }
}
