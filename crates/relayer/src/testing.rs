//! A running gateway for tests and benches. It is built like the program's gateway, but the test
//! controls its environment.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, SyncSender, channel};
use std::time::Duration;

use prometheus_client::registry::Registry;
use tokio::runtime::Handle;
use tokio::task::{JoinSet, block_in_place};
use tokio::time::{Instant, sleep};
use wire::Signer;

use crate::api::{self, Connections, Context};
use crate::clock::ManualClock;
use crate::config::{Config, Loaded};
use crate::control::Control;
use crate::event_log::free_space::{FreeSpace, Reserve};
use crate::event_log::{OpenError, Submission};
use crate::fanout::registry::{Change, Embedded, Store};
use crate::gateway::{DrainError, Environment, Gateway, Parts, StartError};
use crate::limits::DRAIN_MAX;
use crate::net::resolver::Resolver;
use crate::serve::ClientLimits;

pub type Error = Box<dyn std::error::Error>;

/// What a test sets before it starts a gateway.
#[derive(Debug, Clone)]
pub struct Setup {
    pub loaded: Loaded,
    /// The free bytes on the disk. The test may change them at any time.
    pub free_bytes: Arc<AtomicU64>,
    pub reserve_bytes: u64,
    pub resolver: Resolver,
    pub manual_clock: ManualClock,
    /// Whether the gateway dials relays. If not, the test sets the relays' states.
    pub dials: bool,
    /// Initial rows of the embedded registry, if the fan-out is enabled.
    pub registry: Option<Vec<Change>>,
}

impl Setup {
    /// Sets up a gateway with this configuration and an empty disk.
    ///
    /// # Panics
    /// Never: the default configuration is valid.
    pub fn new(config: Config) -> Self {
        let mut loaded = Config::parse(None, []).unwrap_or_else(|errors| unreachable!("{errors}"));
        loaded.config = config;
        Self::loaded(loaded)
    }

    /// Like [`new`](Self::new), with a configuration that can be reloaded.
    pub fn loaded(loaded: Loaded) -> Self {
        Self {
            loaded,
            free_bytes: Arc::new(AtomicU64::new(u64::MAX)),
            // Tests must be able to fill the disk completely.
            reserve_bytes: 1,
            resolver: Resolver::system(),
            manual_clock: ManualClock::default(),
            dials: true,
            registry: None,
        }
    }

    /// Starts the gateway and serves its API on 127.0.0.1. Needs a multi-threaded Tokio runtime.
    ///
    /// # Errors
    /// When the gateway cannot start.
    pub async fn start(self) -> Result<TestGateway, Error> {
        let config = &self.loaded.config;
        let identity = Arc::new(Signer::from_seed(0));
        let deadline = Instant::now() + DRAIN_MAX;
        let (tap, taps) = channel();
        let (gateway, metrics) = loop {
            let mut metrics = Registry::default();
            match Gateway::build(config, Arc::clone(&identity), self.environment(tap.clone()), &mut metrics) {
                // The last reader of a previous gateway may still be closing the log.
                Err(StartError::Log(OpenError::Locked { .. })) if Instant::now() < deadline => {
                    sleep(Duration::from_millis(2)).await;
                }
                built => break (built?, metrics),
            }
        };
        let (listener, metrics_listener) = (local_port()?, local_port()?);
        let (address, metrics_address) = (listener.local_addr()?, metrics_listener.local_addr()?);
        if let Some(rows) = self.registry {
            let store = Embedded::new(Arc::clone(&gateway.log));
            store.prepare(*identity.pubkey()).await?;
            store.write(*identity.pubkey(), rows).await?;
        }
        gateway.start_fanout(config, address.port()).await?;
        let control = Arc::new(Control::new(&self.loaded, usize::MAX, &gateway, Arc::default()));
        let context = Context::new(&gateway, metrics, config, control);
        let limits = ClientLimits { in_all: NonZeroUsize::MAX, from_address: None };
        let connections = || Connections::new(limits, context.connection_metrics());
        let mut servers = JoinSet::new();
        let proxied = connections().behind(api::Proxies::of(&config.api));
        servers.spawn(api::serve(listener, api::router(context.clone()), proxied));
        servers.spawn(api::serve(metrics_listener, api::metrics_router(context.clone()), connections()));
        servers.spawn(Arc::clone(context.overview()).run());
        // Each attempt to build the gateway sent a sender; only the last attempt succeeded.
        let submissions = taps.try_iter().last();
        Ok(TestGateway { gateway: Some(gateway), submissions, context, address, metrics_address, servers })
    }

    fn environment(&self, tap: Sender<SyncSender<Vec<Submission>>>) -> Environment {
        let free = Arc::clone(&self.free_bytes);
        let free_space = FreeSpace::from_fn(move || Ok(free.load(Ordering::Relaxed)));
        Environment {
            reserve: Reserve::new(free_space, self.reserve_bytes),
            resolver: self.resolver.clone(),
            clock: self.manual_clock.clock(),
            dials: self.dials,
            submissions: Some(tap),
        }
    }
}

fn local_port() -> std::io::Result<tokio::net::TcpListener> {
    api::listen((Ipv4Addr::LOCALHOST, 0).into())
}

/// The OpenAPI document of the API.
pub fn api_description() -> serde_json::Value {
    api::description()
}

/// A running gateway with its API. Dropping it ends the gateway without draining sinks and clients.
#[derive(Debug)]
pub struct TestGateway {
    gateway: Option<Gateway>,
    submissions: Option<SyncSender<Vec<Submission>>>,
    context: Context,
    pub address: SocketAddr,
    /// The address of the separate metrics port.
    pub metrics_address: SocketAddr,
    servers: JoinSet<()>,
}

impl TestGateway {
    /// Sends verified events to the sequencer in one burst.
    ///
    /// # Panics
    /// When the sequencer has ended.
    pub fn submit(&self, submissions: Vec<Submission>) {
        let sent = self.submissions.as_ref().map(|sequencer| sequencer.send(submissions));
        assert!(matches!(sent, Some(Ok(()))), "the sequencer has ended");
    }

    /// Drains the gateway.
    ///
    /// # Errors
    /// When a stage failed, or draining takes too long.
    pub async fn drain(mut self) -> Result<(), DrainError> {
        // The sequencer ends when its last sender is dropped.
        self.submissions = None;
        let drained = match self.gateway.take() {
            Some(gateway) => gateway.drain().await,
            None => Ok(()),
        };
        self.servers.shutdown().await;
        drained
    }

    /// Delivers the remaining events to clients, like a stopping gateway. Returns the number of
    /// clients that did not receive them in time.
    pub async fn drain_clients(&self, within: Duration) -> usize {
        self.log.close();
        self.clients.drain(within).await
    }

    pub fn metrics_text(&self) -> String {
        self.context.metrics_text()
    }
}

impl std::ops::Deref for TestGateway {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.context
    }
}

impl Drop for TestGateway {
    /// RocksDB must be closed before the process ends.
    fn drop(&mut self) {
        if let Some(gateway) = self.gateway.take() {
            self.submissions = None;
            let ended = block_in_place(|| Handle::current().block_on(gateway.abort()));
            assert!(ended.is_ok() || std::thread::panicking(), "{ended:?}");
        }
    }
}
