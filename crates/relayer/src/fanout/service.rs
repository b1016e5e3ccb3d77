//! Builds, runs and stops the fan-out.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio::sync::watch;
use wire::Signer;

use super::keys::ConversationKeys;
use super::metrics::Metrics;
use super::proof::ProofVerifier;
use super::proof::gateway_url::GatewayUrl;
use super::rate_limit::DailyLimit;
use super::registry::{Registry, RegistryError, RegistryLimits, Store};
use super::runtime::FanoutRuntime;
use super::signals::Signals;
use crate::config::{Config, Registration};
use crate::event_log::{Cursor, Cursors, EventLog, StorageError};
use crate::limits::{SIGNALS_BYTES_MAX, SIGNALS_LOOK_BACK};
use crate::serve::{ClientLimits, Clients, ConsumerLimits, Consumers, Patience};
use crate::tasks::StageFailure;

/// The memory of a follow, and of a bot.
const FOLLOW_BYTES: usize = 300;
const CONVERSATION_KEY_BYTES: usize = 200;
const USED_TOKEN_BYTES: usize = 50;
/// The memory for a key or an address whose calls are counted.
const CALLER_BYTES: usize = 100;

/// Why the fan-out cannot start.
#[derive(Debug, thiserror::Error)]
pub enum FanoutError {
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("cannot start the threads of the fan-out: {0}")]
    Runtime(#[from] io::Error),
    #[error("the gateway's key is not a secp256k1 key")]
    Key,
}

/// The options that a reload can change, for the next call or connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Options {
    /// Who may register new bots.
    registration: Registration,
    pub(super) patience: Patience,
    pub(super) max_age: Option<Duration>,
}

impl Options {
    fn of(config: &Config) -> Self {
        let (registration, max_age) = (config.fanout.registration, config.fanout.max_age);
        Self { registration, patience: Patience::from(&config.output), max_age }
    }
}

/// The running fan-out.
#[derive(Debug)]
pub struct Fanout {
    pub registry: Arc<Registry>,
    pub proofs: ProofVerifier,
    /// Limits the changes per key and per address.
    pub(crate) call_limit: DailyLimit,
    /// Limits the new bots per address.
    pub(crate) new_bot_limit: DailyLimit,
    options: ArcSwap<Options>,
    pub clients: Clients,
    pub(super) signals: Arc<Signals>,
    pub(super) keys: Arc<ConversationKeys>,
    pub(super) consumers: Consumers,
    pub(super) log: Arc<EventLog>,
    pub(super) metrics: Arc<Metrics>,
    failed: watch::Sender<Option<StageFailure>>,
    pub(super) runtime: FanoutRuntime,
}

impl Fanout {
    /// Reads the registry and starts to read signals. `port` is the port of the API.
    ///
    /// # Errors
    /// When the registry fails in a way that is not transient, or no threads can be started.
    pub async fn start(
        config: &Config,
        gateway: &Signer,
        store: Arc<dyn Store>,
        log: &Arc<EventLog>,
        metrics: &Arc<Metrics>,
        port: u16,
    ) -> Result<Arc<Self>, FanoutError> {
        let (fanout, output) = (&config.fanout, &config.output);
        let limits = RegistryLimits::of(fanout);
        let registry = Registry::open(store, gateway, limits, Arc::clone(metrics)).await?;
        let (limits, gauge) = (ConsumerLimits::of_followers(config), metrics.consumers.clone());
        let consumers = Consumers::open(Cursors::Followers, limits, log, gauge)?;
        let directory = Arc::clone(registry.directory());
        let gateway_url = GatewayUrl::new(config.api.public_url.clone(), output.bind_address, port);
        let fanout = Arc::new(Self {
            registry,
            proofs: ProofVerifier::new(gateway_url, log.clock().clone()),
            call_limit: DailyLimit::new(fanout.daily_limit),
            new_bot_limit: DailyLimit::new(fanout.daily_new_bots),
            options: ArcSwap::from_pointee(Options::of(config)),
            clients: Clients::new(ClientLimits::of_followers(config), metrics.clients.clone()),
            signals: Arc::new(Signals::new(
                log,
                fanout.kinds.clone(),
                directory,
                look_back(log),
                SIGNALS_BYTES_MAX,
            )),
            keys: Arc::new(ConversationKeys::new(gateway).ok_or(FanoutError::Key)?),
            consumers,
            log: Arc::clone(log),
            metrics: Arc::clone(metrics),
            failed: watch::Sender::new(None),
            runtime: FanoutRuntime::start()?,
        });
        fanout.run();
        Ok(fanout)
    }

    /// Takes over the limits and options of a reloaded configuration.
    pub(crate) fn reload(&self, config: &Config) {
        self.registry.set_limits(RegistryLimits::of(&config.fanout));
        self.call_limit.set(config.fanout.daily_limit);
        self.new_bot_limit.set(config.fanout.daily_new_bots);
        self.clients.set_limits(ClientLimits::of_followers(config));
        self.consumers.set_limits(ConsumerLimits::of_followers(config));
        self.options.store(Arc::new(Options::of(config)));
    }

    /// Who may register new bots.
    pub fn registration(&self) -> Registration {
        self.options.load().registration
    }

    /// The options for a new connection.
    pub(super) fn options(&self) -> Options {
        **self.options.load()
    }

    /// Starts the tasks that run until the process ends.
    fn run(self: &Arc<Self>) {
        let (signals, failed) = (Arc::clone(&self.signals), self.failed.clone());
        let looking = self.runtime.spawn(async move { signals.run().await });
        self.runtime.spawn(async move {
            let reason = match looking.await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error.to_string(),
                Err(panic) => panic.to_string(),
            };
            failed.send_replace(Some(StageFailure::new("the signal reader", reason)));
        });
        let (registry, failed) = (Arc::clone(&self.registry), self.failed.clone());
        // The registry is kept in sync in its own task, because the database may be slow or down.
        let following = self.runtime.spawn(async move { registry.keep_in_sync().await });
        self.runtime.spawn(async move {
            if let Err(panic) = following.await {
                failed.send_replace(Some(StageFailure::new("the registry sync", panic)));
            }
        });
    }

    /// The bytes of everything that is kept for followers and callers, apart from the buffers of
    /// connected clients: signals are counted, the rest is estimated from its number.
    pub(crate) fn state_bytes(&self) -> usize {
        let (bots, follows) = self.registry.directory().len();
        let callers = self.call_limit.callers() + self.new_bot_limit.callers();
        self.signals.bytes()
            + (bots + follows) * FOLLOW_BYTES
            + self.keys.len() * CONVERSATION_KEY_BYTES
            + self.proofs.used_tokens() * USED_TOKEN_BYTES
            + callers * CALLER_BYTES
    }

    /// The runtime that serves followers.
    pub(crate) fn runtime(&self) -> Handle {
        self.runtime.handle()
    }

    /// Waits until a task that should run forever has ended.
    pub async fn failure(&self) -> StageFailure {
        let mut failed = self.failed.subscribe();
        match failed.wait_for(Option::is_some).await.map(|failure| failure.clone()) {
            Ok(Some(failure)) => failure,
            // Not reached: `self` holds the sender.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }

    /// Stops all tasks. Call this after all clients are disconnected. RocksDB aborts the process if
    /// a task still holds the log at exit.
    pub async fn stop(&self) {
        self.runtime.stop().await;
    }
}

/// Returns where reading starts: a little before the head, so that thousands of followers that
/// reconnect after a restart need not read the log themselves.
fn look_back(log: &EventLog) -> Cursor {
    let oldest = Cursor::before(log.floor());
    Cursor::from_number(log.head().get().saturating_sub(SIGNALS_LOOK_BACK)).max(oldest)
}
