//! A running gateway for tests and benches: built as the program builds it, in surroundings that the
//! test decides.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::registry::Registry;
use tokio::runtime::Handle;
use tokio::task::{JoinSet, block_in_place};
use tokio::time::{Instant, sleep};
use wire::Signer;

use crate::api::{self, Connections, Context};
use crate::clock::Hands;
use crate::config::{Config, Loaded};
use crate::control::Control;
use crate::event_log::free_space::{FreeSpace, Reserve};
use crate::event_log::{OpenError, Submission};
use crate::fanout::registry::{Change, Embedded, Store};
use crate::gateway::{DrainError, Gateway, Parts, StartError, Surroundings};
use crate::limits::DRAIN_MAX;
use crate::net::resolver::Resolver;
use crate::serve::ClientLimits;

/// Why a gateway of a test does not start.
pub type Error = Box<dyn std::error::Error>;

/// What a test decides before its gateway starts.
#[derive(Debug, Clone)]
pub struct Setup {
    pub loaded: Loaded,
    /// Free bytes of the disk, which may change at any time.
    pub free_bytes: Arc<AtomicU64>,
    /// How many of them must stay free.
    pub reserve_bytes: u64,
    pub resolver: Resolver,
    /// What sets the clock.
    pub hands: Hands,
    /// Whether relays are dialled; their states are the test's otherwise.
    pub dials: bool,
    /// What the embedded registry holds at the start, if there is a fan-out.
    pub registry: Option<Vec<Change>>,
}

impl Setup {
    /// A gateway of this configuration on a disk that is empty.
    ///
    /// # Panics
    /// Never: the default configuration is valid.
    pub fn new(config: Config) -> Self {
        let mut loaded = Config::parse(None, []).unwrap_or_else(|errors| unreachable!("{errors}"));
        loaded.config = config;
        Self::loaded(loaded)
    }

    /// As [`new`](Self::new), of a configuration that can be loaded again.
    pub fn loaded(loaded: Loaded) -> Self {
        Self {
            loaded,
            free_bytes: Arc::new(AtomicU64::new(u64::MAX)),
            // Tests fill their disk down to the last byte.
            reserve_bytes: 1,
            resolver: Resolver::system(),
            hands: Hands::default(),
            dials: true,
            registry: None,
        }
    }

    /// Starts the gateway and serves its API on ports of 127.0.0.1. Must be called within a Tokio
    /// runtime of several threads.
    ///
    /// # Errors
    /// When the gateway does not start.
    pub async fn start(self) -> Result<TestGateway, Error> {
        let config = &self.loaded.config;
        let identity = Arc::new(Signer::from_seed(0));
        let deadline = Instant::now() + DRAIN_MAX;
        let (gateway, metrics) = loop {
            let mut metrics = Registry::default();
            match Gateway::build(config, Arc::clone(&identity), self.surroundings(), &mut metrics) {
                // The last reader of a gateway that has stopped may still be closing the log.
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
        let (pool, admission) = (Arc::clone(&gateway.pool), Arc::clone(&gateway.admission));
        let control = Arc::new(Control::new(&self.loaded, pool, admission));
        let context = Context::new(&gateway, metrics, config, control);
        let limits = ClientLimits { in_all: NonZeroUsize::MAX, from_address: None };
        let connections = || Connections::new(limits, context.connection_metrics());
        let mut servers = JoinSet::new();
        servers.spawn(api::serve(listener, api::router(context.clone()), connections()));
        servers.spawn(api::serve(metrics_listener, api::metrics_router(context.clone()), connections()));
        Ok(TestGateway { gateway: Some(gateway), context, address, metrics_address, servers })
    }

    fn surroundings(&self) -> Surroundings {
        let free = Arc::clone(&self.free_bytes);
        let free_space = FreeSpace::from_fn(move || Ok(free.load(Ordering::Relaxed)));
        Surroundings {
            room: Reserve { free_space, bytes_min: self.reserve_bytes },
            resolver: self.resolver.clone(),
            clock: self.hands.clock(),
            dials: self.dials,
        }
    }
}

fn local_port() -> std::io::Result<tokio::net::TcpListener> {
    api::listen((Ipv4Addr::LOCALHOST, 0).into())
}

/// A running gateway with its API. Dropped, it ends as a crash does: nothing is written down any
/// more, and the threads that use RocksDB have ended.
#[derive(Debug)]
pub struct TestGateway {
    gateway: Option<Gateway>,
    context: Context,
    /// Where the API is served.
    pub address: SocketAddr,
    /// Where `/metrics` stands alone.
    pub metrics_address: SocketAddr,
    servers: JoinSet<()>,
}

impl TestGateway {
    /// Hands verified events to the sequencer, as one burst.
    ///
    /// # Panics
    /// When the sequencer has ended.
    pub fn submit(&self, submissions: Vec<Submission>) {
        let sent = self.gateway.as_ref().map(|gateway| gateway.submissions().send(submissions));
        assert!(matches!(sent, Some(Ok(()))), "the sequencer has ended");
    }

    /// Stops in order.
    ///
    /// # Errors
    /// When a stage failed, or it takes too long.
    pub async fn drain(mut self) -> Result<(), DrainError> {
        let drained = match self.gateway.take() {
            Some(gateway) => gateway.drain().await,
            None => Ok(()),
        };
        self.servers.shutdown().await;
        drained
    }

    /// Lets clients take what is left, as a gateway that stops does, and says how many did not.
    pub async fn drain_clients(&self, within: Duration) -> usize {
        self.log.close();
        self.clients.drain(within).await
    }

    /// The text that Prometheus reads.
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
    /// RocksDB must not be in use when the process ends.
    fn drop(&mut self) {
        if let Some(gateway) = self.gateway.take() {
            block_in_place(|| Handle::current().block_on(gateway.abort()));
        }
    }
}
