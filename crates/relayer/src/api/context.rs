//! What handlers know of the gateway.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use super::auth::Access;
use super::connections::ConnectionMetrics;
use super::websocket::WebSocketOptions;
use crate::clock::unix_ms;
use crate::config::Config;
use crate::control::Control;
use crate::gateway::Parts;
use crate::limits::REFUSAL_LOGGED_EVERY;

/// What handlers know of the gateway. Clones are the same.
#[derive(Debug, Clone)]
pub struct Context(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    gateway: Arc<Parts>,
    registry: Registry,
    connection_metrics: Arc<ConnectionMetrics>,
    websocket: WebSocketOptions,
    access: Access,
    control: Arc<Control>,
    started: Instant,
    started_at_ms: u64,
    /// When the refusal of a web page was last logged.
    refused_page_logged: Mutex<Option<Instant>>,
}

impl Context {
    /// For a gateway of this configuration, whose metrics are in this registry; the process counts as
    /// started now.
    pub fn new(gateway: &Arc<Parts>, mut registry: Registry, config: &Config, control: Arc<Control>) -> Self {
        let connection_metrics = Arc::new(ConnectionMetrics::register(&mut registry));
        Self(Arc::new(Inner {
            gateway: Arc::clone(gateway),
            registry,
            connection_metrics,
            websocket: WebSocketOptions::from(&config.output),
            access: Access::new(config.api.admin_token.clone(), config.output.bind_address),
            control,
            started: Instant::now(),
            started_at_ms: unix_ms(),
            refused_page_logged: Mutex::new(None),
        }))
    }

    /// All metrics, in the text format of OpenMetrics.
    pub(crate) fn metrics_text(&self) -> String {
        self.metrics.refresh(self);
        let mut text = String::new();
        // Writing to a string does not fail.
        let encoded = encode(&mut text, &self.0.registry);
        debug_assert!(encoded.is_ok());
        text
    }

    /// What is counted of connections to our ports.
    pub fn connection_metrics(&self) -> &Arc<ConnectionMetrics> {
        &self.0.connection_metrics
    }

    /// How `/ws` is served.
    pub(super) fn websocket(&self) -> &WebSocketOptions {
        &self.0.websocket
    }

    /// Who may change something.
    pub(super) fn access(&self) -> &Access {
        &self.0.access
    }

    /// What reads the configuration again.
    pub(super) fn control(&self) -> &Control {
        &self.0.control
    }

    /// Whether the refusal of a web page may be logged: once each [`REFUSAL_LOGGED_EVERY`], so that
    /// a page that tries again and again does not fill the log.
    pub(super) fn may_log_refused_page(&self) -> bool {
        let mut logged = self.0.refused_page_logged.lock();
        let may = logged.is_none_or(|at| at.elapsed() >= REFUSAL_LOGGED_EVERY);
        if may {
            *logged = Some(Instant::now());
        }
        may
    }

    /// How long the process runs.
    pub(super) fn uptime(&self) -> Duration {
        self.0.started.elapsed()
    }

    /// Since when, in Unix milliseconds.
    pub(super) fn started_at_ms(&self) -> u64 {
        self.0.started_at_ms
    }
}

impl std::ops::Deref for Context {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0.gateway
    }
}
