//! What handlers know of the gateway.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use wire::PublicKey;

use super::auth::Access;
use super::websocket::WebSocketOptions;
use crate::clock::unix_ms;
use crate::control::Control;
use crate::event_log::EventLog;
use crate::event_log::free_space::Reserve;
use crate::event_log::sequencer::DiskFull;
use crate::fanout::Fanout;
use crate::ingest::{Dedupe, InboxGauge};
use crate::limits::REFUSAL_LOGGED_EVERY;
use crate::relay::Pool;
use crate::relay::instance::InstanceId;
use crate::serve::{Clients, Consumers};
use crate::sink::Sink;
use crate::telemetry::Metrics;

/// The parts of the gateway that are asked.
#[derive(Debug)]
pub struct Parts {
    /// The wanted relays.
    pub pool: Arc<Pool>,
    /// The log.
    pub log: Arc<EventLog>,
    /// What is between sockets and shards.
    pub inboxes: InboxGauge,
    /// The seen set.
    pub dedupe: Arc<Dedupe>,
    /// What must stay free on the disk of the log.
    pub reserve: Reserve,
    /// Whether ingest is paused.
    pub disk_full: Arc<DiskFull>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// How `/ws` is served.
    pub websocket: WebSocketOptions,
    /// Who may change something.
    pub access: Access,
    /// What reads the configuration again.
    pub control: Arc<Control>,
    /// The sinks.
    pub sinks: Arc<[Arc<Sink>]>,
    /// The consumers of `/ws` whose cursors are kept.
    pub consumers: Consumers,
    /// The public key of the gateway.
    pub identity: PublicKey,
    /// The fan-out, if there is one.
    pub fanout: Option<Arc<Fanout>>,
    /// What this process sends to relays as `Relayer-Instance`.
    pub instance: InstanceId,
}

/// What handlers know of the gateway. Clones are the same.
#[derive(Debug, Clone)]
pub struct Context(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    parts: Parts,
    clients: Clients,
    started: Instant,
    started_at_ms: u64,
    /// When the refusal of a web page was last logged.
    refused_page_logged: Mutex<Option<Instant>>,
}

impl Context {
    /// Puts the parts together; the process counts as started now.
    pub fn new(parts: Parts) -> Self {
        let clients = Clients::new(parts.websocket.limits, parts.metrics.websocket_clients.clone());
        let (started, started_at_ms) = (Instant::now(), unix_ms());
        let refused_page_logged = Mutex::new(None);
        Self(Arc::new(Inner { parts, clients, started, started_at_ms, refused_page_logged }))
    }

    /// The clients of `/ws`. To stop, close the log and then [drain](Clients::drain) them: the HTTP server
    /// does not wait for connections that were upgraded.
    pub fn clients(&self) -> &Clients {
        &self.0.clients
    }

    /// Whether the refusal of a web page may be logged: once each [`REFUSAL_LOGGED_EVERY`], so that
    /// a page that tries again and again does not fill the log.
    pub fn may_log_refused_page(&self) -> bool {
        let mut logged = self.0.refused_page_logged.lock();
        let may = logged.is_none_or(|at| at.elapsed() >= REFUSAL_LOGGED_EVERY);
        if may {
            *logged = Some(Instant::now());
        }
        may
    }

    /// How long the process runs.
    pub fn uptime(&self) -> Duration {
        self.0.started.elapsed()
    }

    /// Since when, in Unix milliseconds.
    pub fn started_at_ms(&self) -> u64 {
        self.0.started_at_ms
    }
}

impl std::ops::Deref for Context {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0.parts
    }
}
