//! The metrics of the log and of its clock.

use std::sync::atomic::Ordering;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::EventLog;
use super::free_space::Reserve;
use super::sequencer::DiskFull;
use crate::telemetry::metrics::{metrics, set};

metrics! {
    /// The metrics of the log, which are read from the log for each scrape.
    pub struct Metrics {
        /// The newest committed sequence.
        log_head: Gauge = "log_head_seq";
        /// The oldest stored sequence.
        log_floor: Gauge = "log_floor_seq";
        /// Steps of the wall clock since the gateway started.
        clock_steps: Counter = "clock_steps";
        /// 1 while the clock is in doubt, so that nothing is deleted because of its age.
        clock_in_doubt: Gauge = "clock_in_doubt";
        /// 1 while ingest is paused because the disk is full.
        ingest_paused: Gauge = "ingest_paused";
        /// Free bytes of the disk of the log, for an unprivileged process.
        disk_free: Gauge = "disk_free_bytes";
        /// The free bytes below which ingest pauses.
        disk_min_free: Gauge = "disk_min_free_bytes";
        /// Figures of RocksDB, in bytes if the name of the figure ends in bytes.
        rocksdb: Family<[(&'static str, &'static str); 1], Gauge> = "rocksdb";
    }
}

impl Metrics {
    /// Reads the figures that the log keeps.
    pub(crate) fn refresh(&self, log: &EventLog, disk_full: &DiskFull, reserve: &Reserve) {
        set(&self.log_head, log.head().get());
        set(&self.log_floor, log.floor().get());
        let clock = log.clock().status();
        self.clock_steps.inner().store(clock.steps, Ordering::Relaxed);
        set(&self.clock_in_doubt, (!clock.deletes_by_age).into());
        set(&self.ingest_paused, disk_full.is_paused().into());
        if let Ok(bytes) = reserve.free_space.bytes() {
            set(&self.disk_free, bytes);
        }
        set(&self.disk_min_free, reserve.bytes_min());
        for (figure, value) in log.store().figures() {
            set(&self.rocksdb.get_or_create(&[("figure", figure)]), value);
        }
    }
}
