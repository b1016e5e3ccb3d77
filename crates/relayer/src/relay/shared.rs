//! What all relay connections share.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;
use wire::Signer;

use crate::config::Config;
use crate::event_log::EventLog;
use crate::ingest::{self, Dedupe, Inboxes, Refusals};
use crate::relay::peer::Metrics;
use crate::relay::transport::Dialer;

/// The services, limits and settings that every relay connection uses.
#[derive(Debug)]
pub struct Shared {
    /// Opens connections and fetches NIP-11 documents.
    pub dialer: Arc<Dialer>,
    pub dedupe: Arc<Dedupe>,
    /// The shards' inboxes, which take candidates.
    pub inboxes: Inboxes,
    pub refusals: Arc<Refusals>,
    /// The event log. Reconciliation compares relays with the log.
    pub log: Arc<EventLog>,
    pub metrics: Arc<Metrics>,
    pub(crate) ingest_metrics: Arc<ingest::Metrics>,
    /// The key for NIP-42 authentication; `None` if the configuration does not permit
    /// authentication.
    pub signer: Option<Arc<Signer>>,
    /// Limits the backfill requests that are open at once, over all relays.
    pub repairs: Semaphore,
    /// Limits the log scans that run at once for reconciliations.
    pub(crate) scans: Arc<Semaphore>,
    /// Replaced by a reload.
    pub link_limits: ArcSwap<LinkLimits>,
}

/// Limits of every connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkLimits {
    /// The time between two health checks.
    pub health_check_interval: Duration,
    /// The maximum rate at which frames are read; `None` for no limit.
    pub events_per_second_max: Option<u32>,
}

impl LinkLimits {
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            health_check_interval: config.relay.health_check_interval,
            events_per_second_max: config.relay.max_events_per_second.map(Into::into),
        }
    }
}
