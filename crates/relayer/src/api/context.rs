//! The state shared by all handlers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tower_http::cors::CorsLayer;

use super::auth::Access;
use super::connections::ConnectionMetrics;
use super::cors;
use super::origin::WebSocketOptions;
use crate::config::Config;
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
    settings: Arc<ArcSwap<Settings>>,
    control: Arc<Control>,
    overview: Arc<Recorder>,
    /// When a refused web page was last logged.
    refused_page_logged: Mutex<Option<Instant>>,
}

/// The settings of the API that a reload replaces.
#[derive(Debug)]
struct Settings {
    websocket: Arc<WebSocketOptions>,
    cors: Option<CorsLayer>,
    access: Arc<Access>,
}

impl Settings {
    fn of(config: &Config) -> Self {
        let access = Access::new(config.api.admin_token.clone(), config.output.bind_address);
        Self {
            websocket: Arc::new(WebSocketOptions::from(&config.output)),
            cors: cors::layer(&config.api.allowed_origins),
            access: Arc::new(access),
        }
    }
}

impl Context {
    /// `registry` contains the metrics of the gateway. The reported uptime starts now.
    pub fn new(gateway: &Arc<Parts>, mut registry: Registry, config: &Config, control: Arc<Control>) -> Self {
        let connection_metrics = Arc::new(ConnectionMetrics::register(&mut registry));
        let settings = Arc::new(ArcSwap::from_pointee(Settings::of(config)));
        let reloaded = Arc::clone(&settings);
        control.on_reload(move |config| reloaded.store(Arc::new(Settings::of(config))));
        Self(Arc::new(Inner {
            gateway: Arc::clone(gateway),
            registry,
            connection_metrics,
            settings,
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

    pub(super) fn websocket(&self) -> Arc<WebSocketOptions> {
        Arc::clone(&self.0.settings.load().websocket)
    }

    /// Access of web pages to the HTTP API, if any are allowed.
    pub(super) fn cors(&self) -> Option<CorsLayer> {
        self.0.settings.load().cors.clone()
    }

    pub(super) fn access(&self) -> Arc<Access> {
        Arc::clone(&self.0.settings.load().access)
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
