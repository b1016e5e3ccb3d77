//! The program: pipeline and servers, started, run until told to stop, drained.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::timeout;
use wire::Signer;

use crate::api;
use crate::config::{Config, Loaded};
use crate::control::Control;
use crate::crash_point;
use crate::descriptors::{self, TooFew};
use crate::fanout::identity::{self, IdentityError};
use crate::fanout::service::FanoutError;
use crate::fanout::{Fanout, registry};
use crate::limits::{CLIENT_DRAIN_MAX, DRAIN_MAX, METRICS_CONNECTIONS_MAX};
use crate::nip19::npub;
use crate::pipeline::{Pipeline, StartError};
use crate::serve::ClientLimits;
use crate::summary;
use crate::tasks::StageFailure;
use crate::watchdog;

/// Why the program ended otherwise than in order.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The pipeline did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// There is no key.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// There is no fan-out.
    #[error(transparent)]
    Fanout(#[from] FanoutError),
    /// A port cannot be listened on.
    #[error("cannot listen on {address}: {source}; free the port or set another {key}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The configuration key that sets it.
        key: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// The system lets the process open too few files.
    #[error(transparent)]
    Descriptors(#[from] TooFew),
    /// The system gives no signals.
    #[error("cannot wait for signals: {0}")]
    Signals(io::Error),
    /// A stage could not go on.
    #[error(transparent)]
    Stage(#[from] StageFailure),
    /// What was read could not be finished in time. What was committed is safe.
    #[error("could not finish within {secs} s; events that were not committed come again from their relays", secs = DRAIN_MAX.as_secs())]
    DrainTimeout,
}

/// Runs the gateway until SIGINT or SIGTERM, or until a stage fails.
///
/// # Errors
/// When it cannot start, a stage fails, or draining takes too long.
pub async fn run(loaded: &Loaded) -> Result<(), RunError> {
    let (config, warning) = descriptors::fit(&loaded.config, descriptors::raise())?;
    let config = &config;
    if let Some(warning) = warning {
        // The defaults are meant for systems that allow more; they are no wish of somebody's.
        let are_named = loaded.config.relay.bootstrap_relays.len() > config.relay.max_connections.get();
        if are_named || descriptors::KEYS.iter().any(|key| loaded.sets(key)) {
            tracing::warn!("{warning}");
        } else {
            tracing::info!("{warning}");
        }
    }
    let mut stop_signals = StopSignals::new().map_err(RunError::Signals)?;
    let reload_signals = signal(SignalKind::hangup()).map_err(RunError::Signals)?;
    // Ports first: a second start by mistake must not get as far as the database.
    let (listener, metrics_listener) = listen(loaded)?;
    let identity = identity::of(config)?;
    let pipeline = Pipeline::start(config)?;
    announce(config, &pipeline, &listener);
    // It may have to wait for a database, and somebody may not want to wait so long.
    let started = tokio::select! {
        started = start_fanout(config, &identity, &pipeline, &listener) => Some(started),
        name = stop_signals.next() => {
            tracing::info!(signal = name, "stopping before the start was over");
            None
        }
    };
    match started {
        Some(Ok(fanout)) => {
            let (pool, admission) = (Arc::clone(&pipeline.pool), Arc::clone(&pipeline.admission));
            let control = Arc::new(Control::new(loaded, pool, admission));
            let signals = (stop_signals, reload_signals);
            serve(config, control, &identity, pipeline, fanout, (listener, metrics_listener), signals).await
        }
        Some(Err(error)) => {
            watchdog::must_end();
            // What came in meanwhile is kept in order.
            drop(timeout(DRAIN_MAX, pipeline.drain()).await);
            Err(error.into())
        }
        None => {
            watchdog::must_end();
            Ok(timeout(DRAIN_MAX, pipeline.drain()).await.map_err(|_| RunError::DrainTimeout)??)
        }
    }
}

/// Serves until told to stop, or until a stage fails, and drains.
async fn serve(
    config: &Config,
    control: Arc<Control>,
    identity: &Signer,
    mut pipeline: Pipeline,
    fanout: Option<Arc<Fanout>>,
    (listener, metrics_listener): (TcpListener, Option<TcpListener>),
    (mut stop_signals, reload_signals): (StopSignals, Signal),
) -> Result<(), RunError> {
    let context = api::Context::new(api::Parts {
        pool: Arc::clone(&pipeline.pool),
        log: Arc::clone(&pipeline.log),
        inboxes: pipeline.inboxes.clone(),
        dedupe: Arc::clone(&pipeline.dedupe),
        disk_full: Arc::clone(&pipeline.disk_full),
        reserve: pipeline.reserve.clone(),
        metrics: Arc::clone(&pipeline.metrics),
        websocket: api::WebSocketOptions::from(&config.output),
        access: api::Access::new(config.api.admin_token.clone(), config.output.bind_address),
        control: Arc::clone(&control),
        instance: pipeline.instance,
        sinks: Arc::clone(pipeline.sinks()),
        consumers: pipeline.consumers.clone(),
        identity: *identity.pubkey(),
        fanout: fanout.clone(),
    });
    let (mut servers, mut helpers) = (JoinSet::new(), JoinSet::new());
    // Each port has places of its own: who uses up those of one does not keep Prometheus from the
    // other.
    let places = |in_all| {
        let from_address = config.connections_per_address();
        api::Connections::new(ClientLimits { in_all, from_address }, &pipeline.metrics)
    };
    if let Some(listener) = metrics_listener {
        let router = api::metrics_router(context.clone());
        servers.spawn(api::serve(listener, router, places(METRICS_CONNECTIONS_MAX)));
    }
    servers.spawn(api::serve(listener, api::router(context.clone()), places(config.api.max_connections)));
    helpers.spawn(summary::run(
        Arc::clone(&pipeline.pool),
        Arc::clone(&pipeline.log),
        Arc::clone(&pipeline.metrics),
    ));
    helpers.spawn(reload_on_signal(reload_signals, control));
    let failed = tokio::select! {
        name = stop_signals.next() => {
            tracing::info!(signal = name, "stopping: finishing what has been read");
            None
        }
        failure = first_failure(&mut pipeline, fanout.as_deref(), &mut servers) => {
            tracing::error!(%failure, "stopping");
            Some(failure)
        }
    };
    watchdog::must_end();
    let log = Arc::clone(&pipeline.log);
    let drained = timeout(DRAIN_MAX, async {
        let clients = async {
            let followers = async {
                match &fanout {
                    Some(fanout) => fanout.clients.drain(CLIENT_DRAIN_MAX).await,
                    None => 0,
                }
            };
            let (left, followers) = tokio::join!(context.clients().drain(CLIENT_DRAIN_MAX), followers);
            let left = left + followers;
            if left > 0 {
                tracing::warn!(
                    clients = left,
                    "some clients did not take what was left; their cursors tell where to go on"
                );
            }
        };
        pipeline.drain_beside(clients).await
    });
    let drained = drained.await;
    crash_point::reached("drained");
    if let Some(fanout) = fanout {
        fanout.stop().await;
    }
    tracing::info!(head = %log.head(), "stopped");
    drop((servers, helpers));
    match (failed, drained) {
        (Some(failure), _) | (None, Ok(Err(failure))) => Err(failure.into()),
        (None, Err(_)) => Err(RunError::DrainTimeout),
        (None, Ok(Ok(()))) => Ok(()),
    }
}

/// Starts the fan-out, if there is one, with the registry that is configured.
async fn start_fanout(
    config: &Config,
    identity: &Signer,
    pipeline: &Pipeline,
    listener: &TcpListener,
) -> Result<Option<Arc<Fanout>>, FanoutError> {
    if !config.fanout.enabled {
        return Ok(None);
    }
    let (log, metrics) = (&pipeline.log, &pipeline.metrics);
    let store = registry::store(config, log, metrics.registry_queries.clone())?;
    let port = listener.local_addr().map_or(config.output.websocket_port, |address| address.port());
    let fanout = Fanout::start(config, identity, store, log, metrics, port).await?;
    let (bots, follows) = fanout.registry.directory().len();
    tracing::info!(
        bots,
        follows,
        registry = fanout.registry.store_name(),
        npub = npub(identity.pubkey()),
        "signals are fanned out to followers on /fanout"
    );
    Ok(Some(fanout))
}

/// The first failure of a stage. As long as all is well, it waits.
async fn first_failure(
    pipeline: &mut Pipeline,
    fanout: Option<&Fanout>,
    servers: &mut JoinSet<()>,
) -> StageFailure {
    let of_fanout = async {
        match fanout {
            Some(fanout) => fanout.failure().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        failure = pipeline.failure() => failure,
        failure = of_fanout => failure,
        Some(ended) = servers.join_next() => {
            let reason = ended.map_or_else(|panic| panic.to_string(), |()| "it ended".to_owned());
            StageFailure::new("a server", reason)
        }
    }
}

/// Reads the configuration again at each SIGHUP. A wrong one is reported, and the old one stays.
async fn reload_on_signal(mut signals: Signal, control: Arc<Control>) {
    while signals.recv().await.is_some() {
        let control = Arc::clone(&control);
        // A task of its own, so that one that panics is not the last one.
        let reason = match tokio::spawn(async move { control.reload().await }).await {
            Ok(Ok(_)) => continue,
            Ok(Err(error)) => error.to_string(),
            Err(panic) => panic.to_string(),
        };
        tracing::error!("the configuration was not reloaded, the old one stays in effect: {reason}");
    }
}

/// Opens the ports. Prometheus itself listens on the default of the second one, which must not stop
/// a first start.
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
                "{address} is in use (it is Prometheus' own port, too), so there is no port for metrics alone; \
                 the port of the API serves /metrics as well. Set [monitoring] prometheus_port to a free port, \
                 or to 0 for none"
            );
            Ok((main, None))
        }
        Err(error) => Err(error),
    }
}

/// What was opened, and what it means.
fn announce(config: &Config, pipeline: &Pipeline, listener: &TcpListener) {
    let (log, relays) = (&pipeline.log, pipeline.pool.peers());
    tracing::info!(
        path = %config.deduplication.rocksdb_path.display(),
        id = %log.id(),
        head = %log.head(),
        oldest = %log.floor(),
        fsync = config.storage.fsync,
        "event log open"
    );
    let shown: Vec<&str> = relays.iter().take(3).map(|relay| relay.url.as_str()).collect();
    tracing::info!(count = relays.len(), first = shown.join(" "), "connecting to relays");
    if let Ok(address) = listener.local_addr() {
        tracing::info!("events are served on ws://{address}/ws, the state on http://{address}/status");
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
        let mut pipeline = Pipeline::start(&config).unwrap();
        let mut servers = JoinSet::new();
        servers.spawn(async { panic!("on purpose") });
        let failure = first_failure(&mut pipeline, None, &mut servers);
        let failure = timeout(Duration::from_secs(20), failure).await.expect("it is noticed");
        assert!(failure.to_string().starts_with("a server failed: "), "{failure}");
        pipeline.drain().await.unwrap();
    }
}
