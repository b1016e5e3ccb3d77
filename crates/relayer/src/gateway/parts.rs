//! The parts of a running gateway.

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use wire::Signer;

use super::liveness::Liveness;
use super::metrics::Metrics;
use crate::event_log::EventLog;
use crate::event_log::free_space::Reserve;
use crate::event_log::sequencer::DiskFull;
use crate::fanout::Fanout;
use crate::ingest::admission::Admission;
use crate::ingest::dedupe::Dedupe;
use crate::ingest::{InboxGauge, Refusals};
use crate::relay::{InstanceId, Pool};
use crate::serve::{Clients, Consumers, Readers};
use crate::sink::Sink;

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
    pub sinks: Arc<[Arc<Sink>]>,
    /// The clients of `/ws`.
    pub clients: Clients,
    /// The listeners of the overview.
    pub(crate) listeners: Clients,
    /// The named consumers of `/ws`.
    pub consumers: Consumers,
    /// Who may read. A reload replaces them.
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
        self.metrics.sinks.refresh(&self.sinks, &self.log);
        self.metrics.process.refresh(&self.memory());
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
