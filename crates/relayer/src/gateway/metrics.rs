//! All metrics of the gateway, composed of the metrics of its modules.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::memory::{Memory, MemoryPart};
use crate::clock::unix_secs;
use crate::serve::{ReaderMetrics, WebSocketMetrics};
use crate::sink::SinkMetrics;
use crate::telemetry::log_buffer;
use crate::telemetry::memory::memory_limit_bytes;
use crate::telemetry::metrics::{PerLabel, metrics, set};
use crate::{event_log, fanout, ingest, relay, watchdog};

metrics! {
    /// The metrics of the process.
    pub struct ProcessMetrics {
        /// Resident memory of the process.
        memory_usage: Gauge = "memory_usage_bytes";
        /// The memory that the process may use.
        memory_limit: Gauge = "memory_limit_bytes";
        /// Memory of the process by the part that uses it, counted or estimated.
        memory: PerLabel<MemoryPart, Gauge> = "memory_part_bytes", PerLabel::new("part");
        /// The rest of the resident memory.
        memory_unaccounted: Gauge = "memory_unaccounted_bytes";
        /// When the process started, in Unix seconds.
        start_time: Gauge = "process_start_time_seconds";
        /// Panics. Each panic is a bug in the gateway; the log names the location.
        panics: Counter = "panics";
        /// Connected listeners of the overview.
        overview_listeners: Gauge = "overview_listeners";
        /// How often the overview was computed.
        overviews_computed: Counter = "overviews_computed";
        /// Log lines that were lost because standard error accepted them too slowly or not at all.
        log_lines_lost: Counter = "log_lines_lost";
    }
}

impl ProcessMetrics {
    pub(super) fn refresh(&self, memory: &Memory) {
        set(&self.memory_usage, memory.resident.unwrap_or(0));
        set(&self.memory_limit, memory_limit_bytes().unwrap_or(0));
        for (part, bytes) in &memory.parts {
            set(&self.memory[part], *bytes as u64);
        }
        self.memory_unaccounted.set(memory.unaccounted().unwrap_or(0));
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
    pub sinks: Arc<SinkMetrics>,
    pub websocket: WebSocketMetrics,
    pub readers: Arc<ReaderMetrics>,
    pub fanout: Arc<fanout::Metrics>,
    pub process: ProcessMetrics,
}

impl Metrics {
    /// Registers the metrics. The process counts as started now.
    pub fn register(registry: &mut Registry) -> Self {
        let process = ProcessMetrics::register(registry);
        set(&process.start_time, unix_secs());
        Self {
            ingest: Arc::new(ingest::Metrics::register(registry)),
            relay: Arc::new(relay::Metrics::register(registry)),
            log: event_log::Metrics::register(registry),
            sinks: Arc::new(SinkMetrics::register(registry)),
            websocket: WebSocketMetrics::register(registry),
            readers: Arc::new(ReaderMetrics::register(registry)),
            fanout: Arc::new(fanout::Metrics::register(registry)),
            process,
        }
    }
}
