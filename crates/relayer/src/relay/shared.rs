//! What all relay connections share.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use wire::Signer;

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
    /// The time between two health checks of a connection.
    pub health_check_interval: Duration,
    /// The maximum rate at which a connection reads frames; `None` for no limit.
    pub(crate) events_per_second_max: Option<u32>,
}
