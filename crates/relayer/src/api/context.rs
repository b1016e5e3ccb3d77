//! The state shared by all handlers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use super::auth::Access;
use super::connections::ConnectionMetrics;
use super::origin::WebSocketOptions;
use crate::config::{Config, WebOrigin};
use crate::control::Control;
use crate::gateway::Parts;
use crate::limits::REFUSAL_LOGGED_EVERY;
use crate::overview::Recorder;

#[derive(Debug, Clone)]
pub struct Context(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    gateway: Arc<Parts>,
    registry: Registry,
    connection_metrics: Arc<ConnectionMetrics>,
    websocket: WebSocketOptions,
    /// The origins whose pages may use the HTTP API.
    allowed_origins: Vec<WebOrigin>,
    access: Access,
    control: Arc<Control>,
    overview: Arc<Recorder>,
    /// When a refused web page was last logged.
    refused_page_logged: Mutex<Option<Instant>>,
}

impl Context {
    /// `registry` contains the metrics of the gateway. The reported uptime starts now.
    pub fn new(gateway: &Arc<Parts>, mut registry: Registry, config: &Config, control: Arc<Control>) -> Self {
        let connection_metrics = Arc::new(ConnectionMetrics::register(&mut registry));
        Self(Arc::new(Inner {
            gateway: Arc::clone(gateway),
            registry,
            connection_metrics,
            websocket: WebSocketOptions::from(&config.output),
            allowed_origins: config.api.allowed_origins.clone(),
            access: Access::new(config.api.admin_token.clone(), config.output.bind_address),
            control,
            overview: Arc::new(Recorder::new(gateway)),
            refused_page_logged: Mutex::new(None),
        }))
    }

    /// Returns all metrics in the OpenMetrics text format.
    pub(crate) fn metrics_text(&self) -> String {
        self.refresh_metrics();
        let mut text = String::new();
        // Writing to a string cannot fail.
        let encoded = encode(&mut text, &self.0.registry);
        debug_assert!(encoded.is_ok());
        text
    }

    pub(crate) fn connection_metrics(&self) -> &Arc<ConnectionMetrics> {
        &self.0.connection_metrics
    }

    pub(super) fn websocket(&self) -> &WebSocketOptions {
        &self.0.websocket
    }

    pub(super) fn allowed_origins(&self) -> &[WebOrigin] {
        &self.0.allowed_origins
    }

    pub(super) fn access(&self) -> &Access {
        &self.0.access
    }

    pub(crate) fn overview(&self) -> &Arc<Recorder> {
        &self.0.overview
    }

    pub(super) fn control(&self) -> &Control {
        &self.0.control
    }

    /// Whether a refused web page may be logged: once per [`REFUSAL_LOGGED_EVERY`], so that a page
    /// that keeps trying does not fill the log.
    pub(super) fn may_log_refused_page(&self) -> bool {
        let mut logged = self.0.refused_page_logged.lock();
        let may = logged.is_none_or(|at| at.elapsed() >= REFUSAL_LOGGED_EVERY);
        if may {
            *logged = Some(Instant::now());
        }
        may
    }

    pub(super) fn uptime(&self) -> Duration {
        self.0.overview.uptime()
    }

    pub(super) fn started_at_ms(&self) -> u64 {
        self.0.overview.started_at_ms()
    }
}

impl std::ops::Deref for Context {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0.gateway
    }
}
