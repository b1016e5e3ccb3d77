//! Starts the gateway and its servers, runs them until a stop signal or a failure, and drains them.
//! [`reports`] tells the service manager how the gateway is doing.

mod reports;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;

use self::reports::Reports;
use crate::api;
use crate::config::{Config, Loaded};
use crate::control::Control;
use crate::descriptors::{self, TooFew};
use crate::fanout::identity::{self, IdentityError};
use crate::fanout::service::FanoutError;
use crate::gateway::{DrainError, Environment, Gateway, StartError, summary};
use crate::serve::ClientLimits;
use crate::systemd::Notifier;
use crate::tasks::StageFailure;
use crate::watchdog;

/// Why the program failed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Fanout(#[from] FanoutError),
    #[error("cannot listen on {address}: {source}; free the port or set another {key}")]
    Listen {
        address: SocketAddr,
        /// The configuration key of the port.
        key: &'static str,
        source: io::Error,
    },
    #[error(transparent)]
    Descriptors(#[from] TooFew),
    #[error("cannot wait for signals: {0}")]
    Signals(io::Error),
    #[error(transparent)]
    Stage(#[from] StageFailure),
    #[error(transparent)]
    Drain(#[from] DrainError),
}

/// Runs the gateway until SIGINT or SIGTERM, or until a stage fails.
///
/// # Errors
/// When the gateway cannot start, a stage fails, or draining takes too long.
pub async fn run(loaded: &Loaded) -> Result<(), RunError> {
    let open_files = descriptors::raise();
    let config = &descriptors::fit_and_log(loaded, open_files)?;
    let notifier = Arc::new(Notifier::from_environment());
    notifier.status("starting: opening the event log");
    let mut stop_signals = StopSignals::new().map_err(RunError::Signals)?;
    let reload_signals = signal(SignalKind::hangup()).map_err(RunError::Signals)?;
    // Ports are opened first: if a second gateway is started by mistake, it fails before it reaches
    // the database.
    let (listener, metrics_listener) = listen(loaded)?;
    let identity = identity::load_or_create(config)?;
    let mut registry = Registry::default();
    let gateway = Gateway::build(config, identity, Environment::of(config), &mut registry)?;
    announce(config, &gateway, &listener);
    let port = listener.local_addr().map_or(config.output.websocket_port, |address| address.port());
    notifier.status("starting: reading bots and followers");
    // A signal must be able to interrupt the start, which may wait for a database.
    let started = tokio::select! {
        started = gateway.start_fanout(config, port) => started,
        name = stop_signals.next() => {
            tracing::info!(name: "stopping", signal = name, "stopping before the start was complete");
            watchdog::must_end();
            return Ok(gateway.drain().await?);
        }
    };
    if let Err(error) = started {
        watchdog::must_end();
        // Commit the events that arrived during the start.
        drop(gateway.drain().await);
        return Err(error.into());
    }
    let control = Arc::new(Control::new(loaded, open_files, &gateway, Arc::clone(&notifier)));
    let context = api::Context::new(&gateway, registry, config, Arc::clone(&control));
    let mut servers = serve(config, &context, &control, listener, metrics_listener);
    let mut helpers = JoinSet::new();
    helpers.spawn(summary::run(Arc::clone(&gateway)));
    helpers.spawn(Arc::clone(context.overview()).run());
    helpers.spawn(reload_on_signal(reload_signals, control));
    let reports = Reports::start(&notifier, &gateway);
    run_and_drain(gateway, &mut servers, &mut stop_signals, reports).await
}

/// Runs until a stop signal, or until a stage or a server fails, and then drains the gateway.
async fn run_and_drain(
    mut gateway: Gateway,
    servers: &mut JoinSet<()>,
    stop_signals: &mut StopSignals,
    reports: Reports,
) -> Result<(), RunError> {
    let failed = tokio::select! {
        name = stop_signals.next() => {
            tracing::info!(name: "stopping", signal = name, "stopping: finishing what has been read");
            None
        }
        failure = first_failure(&mut gateway, servers) => {
            tracing::error!(name: "stage_failed", %failure, "stopping");
            Some(failure)
        }
    };
    watchdog::must_end();
    reports.stop();
    let log = Arc::clone(&gateway.log);
    let drained = gateway.drain().await;
    tracing::info!(name: "stopped", head = log.head().get(), "stopped");
    match failed {
        Some(failure) => Err(failure.into()),
        None => Ok(drained?),
    }
}

/// Serves the API and, if configured, metrics on a separate port. Each port has its own connection
/// limit, so a crowded API port does not lock Prometheus out of the metrics port.
fn serve(
    config: &Config,
    context: &api::Context,
    control: &Control,
    listener: TcpListener,
    metrics_listener: Option<TcpListener>,
) -> JoinSet<()> {
    let connections = |limits: fn(&Config) -> ClientLimits| {
        let connections = api::Connections::new(limits(config), context.connection_metrics());
        let reloaded = connections.clone();
        control.on_reload(move |config| reloaded.set_limits(limits(config)));
        connections
    };
    let mut servers = JoinSet::new();
    if let Some(listener) = metrics_listener {
        let router = api::metrics_router(context.clone());
        servers.spawn(api::serve(listener, router, connections(ClientLimits::of_metrics_port)));
    }
    let router = api::router(context.clone());
    let connections = connections(ClientLimits::of_connections).behind(api::Proxies::of(&config.api));
    servers.spawn(api::serve(listener, router, connections));
    servers
}

/// Waits for the first failure of a stage or a server.
async fn first_failure(gateway: &mut Gateway, servers: &mut JoinSet<()>) -> StageFailure {
    tokio::select! {
        failure = gateway.failure() => failure,
        Some(ended) = servers.join_next() => {
            let reason = ended.map_or_else(|panic| panic.to_string(), |()| "it ended".to_owned());
            StageFailure::new("a server", reason)
        }
    }
}

/// Reloads the configuration on SIGHUP. An invalid configuration is reported, and the old one stays
/// in effect.
async fn reload_on_signal(mut signals: Signal, control: Arc<Control>) {
    while signals.recv().await.is_some() {
        let control = Arc::clone(&control);
        // A separate task is used, so that a panic does not prevent later reloads.
        let reason = match tokio::spawn(async move { control.reload().await }).await {
            Ok(Ok(_)) => continue,
            Ok(Err(error)) => error.to_string(),
            Err(panic) => panic.to_string(),
        };
        tracing::error!(
            name: "reload_failed",
            "the configuration was not reloaded, the old one stays in effect: {reason}"
        );
    }
}

/// Opens the ports. Prometheus itself uses the default metrics port, so a start with defaults does
/// not fail if that port is in use.
fn listen(loaded: &Loaded) -> Result<(TcpListener, Option<TcpListener>), RunError> {
    const METRICS_PORT: &str = "monitoring.prometheus_port";
    let config = &loaded.config;
    let on = |port, key| {
        let address = SocketAddr::new(config.output.bind_address, port);
        api::listen(address).map_err(|source| RunError::Listen { address, key, source })
    };
    let main = on(config.output.websocket_port, "[output] websocket_port")?;
    let Some(port) = config.monitoring.prometheus_port else { return Ok((main, None)) };
    match on(port.get(), "[monitoring] prometheus_port") {
        Ok(metrics) => Ok((main, Some(metrics))),
        Err(RunError::Listen { address, source, .. })
            if source.kind() == io::ErrorKind::AddrInUse && !loaded.sets(METRICS_PORT) =>
        {
            tracing::warn!(
                name: "metrics_port_in_use",
                "{address} is in use (it is also Prometheus' own port), so there is no separate metrics port; the API \
                 port serves /metrics too. Set [monitoring] prometheus_port to a free port, or to 0 for none"
            );
            Ok((main, None))
        }
        Err(error) => Err(error),
    }
}

/// Logs what the gateway has opened.
fn announce(config: &Config, gateway: &Gateway, listener: &TcpListener) {
    let (log, relays) = (&gateway.log, gateway.pool.peers());
    tracing::info!(
        name: "log_opened",
        path = %config.deduplication.rocksdb_path.display(),
        id = %log.id(),
        head = log.head().get(),
        oldest = log.floor().get(),
        fsync = config.storage.fsync,
        "event log open"
    );
    let shown: Vec<&str> = relays.iter().take(3).map(|relay| relay.url.as_str()).collect();
    tracing::info!(
        name: "relays_wanted",
        count = relays.len(), first = shown.join(" "), "connecting to relays"
    );
    if let Ok(address) = listener.local_addr() {
        tracing::info!(
            name: "listening",
            "events are served on ws://{address}/ws, the state on http://{address}/status"
        );
    }
}

struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignals {
    fn new() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tempfile::TempDir;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_server_that_panics_is_a_failure() {
        let (folder, mut config) = (TempDir::new().unwrap(), Config::default());
        config.deduplication.rocksdb_path = folder.path().join("log");
        config.storage.min_free_bytes = 0;
        let (identity, environment) = (Arc::new(wire::Signer::from_seed(0)), Environment::of(&config));
        let gateway = Gateway::build(&config, identity, environment, &mut Registry::default());
        let mut gateway = gateway.unwrap();
        let mut servers = JoinSet::new();
        servers.spawn(async { panic!("on purpose") });
        let failure = first_failure(&mut gateway, &mut servers);
        let failure =
            tokio::time::timeout(Duration::from_secs(20), failure).await.expect("the panic is noticed");
        assert!(failure.to_string().starts_with("a server failed: "), "{failure}");
        gateway.drain().await.unwrap();
    }
}
