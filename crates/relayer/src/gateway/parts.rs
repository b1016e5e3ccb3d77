//! The parts of a running gateway.

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use wire::Signer;

use super::build::bounds_of;
use super::liveness::Liveness;
use super::metrics::Metrics;
use crate::config::Config;
use crate::event_log::EventLog;
use crate::event_log::free_space::Reserve;
use crate::event_log::retention::Retention;
use crate::event_log::sequencer::DiskFull;
use crate::fanout::Fanout;
use crate::ingest::admission::Admission;
use crate::ingest::dedupe::Dedupe;
use crate::ingest::{InboxGauge, Refusals};
use crate::relay::{InstanceId, Pool};
use crate::serve::{ClientLimits, Clients, ConsumerLimits, Consumers, Readers};
use crate::sink::Workers;

/// The parts of a running gateway that its servers share.
#[derive(Debug)]
pub struct Parts {
    pub pool: Arc<Pool>,
    pub dedupe: Arc<Dedupe>,
    /// The ids that were refused lately.
    pub refusals: Arc<Refusals>,
    pub inboxes: InboxGauge,
    pub log: Arc<EventLog>,
    pub disk_full: Arc<DiskFull>,
    /// The space that must stay free on the log's disk.
    pub(crate) reserve: Reserve,
    pub metrics: Metrics,
    /// The admission policy. A reload replaces it.
    pub admission: Arc<ArcSwap<Admission>>,
    pub sinks: Arc<Workers>,
    /// The bounds of the log. A reload replaces them.
    pub(super) retention: Arc<ArcSwap<Retention>>,
    /// The clients of `/ws`.
    pub clients: Clients,
    /// The listeners of the overview.
    pub(crate) listeners: Clients,
    /// The named consumers of `/ws`.
    pub consumers: Consumers,
    /// The clients that may read. A reload replaces them.
    pub readers: Readers,
    pub identity: Arc<Signer>,
    /// Identifies this process, so that the gateway notices a connection to itself.
    pub instance: InstanceId,
    pub(super) fanout: OnceLock<Arc<Fanout>>,
    pub(crate) liveness: Liveness,
}

impl Parts {
    /// Updates the gauges from the state of the parts.
    pub(crate) fn refresh_metrics(&self) {
        self.metrics.ingest.refresh(&self.inboxes);
        self.metrics.relay.refresh(&self.pool.peers());
        self.metrics.log.refresh(&self.log, &self.disk_full, &self.reserve);
        self.sinks.refresh_metrics();
        self.metrics.process.refresh(&self.memory());
    }

    /// Takes over the limits and options of a reloaded configuration that cannot fail. `before` is
    /// the configuration in effect until now.
    pub(crate) fn set_limits(&self, before: &Config, config: &Config) {
        self.clients.set_limits(ClientLimits::of(&config.output));
        self.consumers.set_limits(ConsumerLimits::of(&config.output));
        self.retention.store(Arc::new(bounds_of(config)));
        if before.free_bytes_min() != config.free_bytes_min() {
            self.reserve.set_bytes_min(config.free_bytes_min());
        }
        if let Some(fanout) = self.fanout() {
            fanout.reload(config);
        }
    }

    /// Gives each stage a step to make, without waiting.
    pub(crate) fn probe_stages(&self) {
        self.inboxes.probe();
        self.pool.probe();
        self.liveness.probe_runtimes();
    }

    /// The fan-out, if it is enabled and has started.
    pub fn fanout(&self) -> Option<&Arc<Fanout>> {
        self.fanout.get()
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;
    use std::time::Duration;

    use prometheus_client::registry::Registry;
    use tempfile::TempDir;

    use super::super::{Environment, Gateway};
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn retention_is_taken_over() {
        let (folder, mut before) = (TempDir::new().unwrap(), Config::default());
        before.deduplication.rocksdb_path = folder.path().join("log");
        before.storage.min_free_bytes = 0;
        let (identity, environment) = (Arc::new(Signer::from_seed(0)), Environment::of(&before));
        let environment = Environment { dials: false, ..environment };
        let gateway = Gateway::build(&before, identity, environment, &mut Registry::default()).unwrap();
        let mut config = before.clone();
        config.storage.retention = Some(Duration::from_secs(7_200));
        config.storage.max_bytes = NonZeroU64::new(1 << 30);
        gateway.set_limits(&before, &config);
        let bounds = **gateway.retention.load();
        assert_eq!((bounds.age_ms_max, bounds.bytes_max), (7_200_000, 1 << 30));
        gateway.drain().await.unwrap();
    }
}
