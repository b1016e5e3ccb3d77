//! The fan-out, put together: it is built, serves followers, and ends with the log.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use futures_util::StreamExt;
use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::watch;
use tokio::time::timeout;
use wire::{PublicKey, Signer};

use super::calls::CallLimits;
use super::directory::{Presence, TooManyConnections};
use super::follower::FollowerSource;
use super::greeting::{Ungreeted, greet};
use super::keys::ConversationKeys;
use super::metrics::{FollowerRefusal, Metrics};
use super::proof::Prover;
use super::proof::address::Addresses;
use super::registry::{Registry, RegistryError, Room, Store};
use super::signals::Signals;
use crate::config::{Config, Registration};
use crate::event_log::{Cursor, Cursors, EventLog, StorageError};
use crate::limits::{
    CLIENT_CLOSE_MAX, FANOUT_BLOCKING_THREADS_MAX, FOLLOWER_CONSUMERS_MAX, SHUTDOWN_MAX, SIGNALS_BYTES_MAX,
    SIGNALS_LOOK_BACK,
};
use crate::serve::{
    Client, ClientLimits, ClientTask, Clients, ConsumerName, Consumers, EnterError, Lease, Patience, Share,
    StartPosition, Taken,
};
use crate::tasks::StageFailure;

/// How nice the threads of the fan-out are: they get a quarter of a core that others want, too.
const NICENESS: i32 = 5;

/// Why there is no fan-out.
#[derive(Debug, thiserror::Error)]
pub enum FanoutError {
    /// The registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The log.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// No threads.
    #[error("cannot start the threads of the fan-out: {0}")]
    Threads(#[from] io::Error),
    /// The key is none.
    #[error("the gateway's key is no key of secp256k1")]
    Key,
}

/// Where a follower wants to go on.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Where it begins without a name.
    pub cursor: Cursor,
    /// The name that its cursor is kept under, and where that begins.
    pub consumer: Option<(ConsumerName, StartPosition)>,
}

/// Why a follower that has proved its key is not served.
#[derive(Debug, thiserror::Error)]
pub enum NotServed {
    /// It has too many connections.
    #[error("restricted: this key has as many connections as one may have")]
    TooManyConnections,
    /// Only of followers cursors are kept.
    #[error("restricted: this key follows no bot, so no cursor is kept of it; subscribe first")]
    NotFollowing,
    /// Its cursor is of no use.
    #[error(transparent)]
    Consumer(#[from] EnterError),
}

impl NotServed {
    /// What it is counted under, if it is the client's doing or that of too many.
    const fn refusal(&self) -> Option<FollowerRefusal> {
        match self {
            Self::TooManyConnections => Some(FollowerRefusal::TooManyConnections),
            Self::NotFollowing => Some(FollowerRefusal::NotFollowing),
            Self::Consumer(EnterError::TooMany(_)) => Some(FollowerRefusal::TooManyConsumers),
            Self::Consumer(EnterError::TooManyShared(_)) => Some(FollowerRefusal::TooManyConsumersOfFollower),
            Self::Consumer(EnterError::Busy) => Some(FollowerRefusal::ConsumerBusy),
            Self::Consumer(_) => None,
        }
    }
}

impl From<TooManyConnections> for NotServed {
    fn from(TooManyConnections: TooManyConnections) -> Self {
        Self::TooManyConnections
    }
}

/// A follower that can be served.
#[derive(Debug)]
pub struct Ready {
    presence: Presence,
    lease: Option<Lease>,
    cursor: Cursor,
    /// The end of the log as it found it.
    head: Cursor,
}

/// The fan-out.
#[derive(Debug)]
pub struct Fanout {
    /// Who follows whom.
    pub registry: Arc<Registry>,
    /// What checks who somebody is.
    pub prover: Prover,
    /// How often somebody may call.
    pub call_limits: CallLimits,
    /// How many new bots an address may register.
    pub new_bot_limits: CallLimits,
    /// Who may register new bots.
    pub registration: Registration,
    /// The clients of `/fanout`.
    pub clients: Clients,
    signals: Arc<Signals>,
    keys: Arc<ConversationKeys>,
    consumers: Consumers,
    patience: Patience,
    max_age: Option<Duration>,
    log: Arc<EventLog>,
    metrics: Arc<Metrics>,
    failed: watch::Sender<Option<StageFailure>>,
    threads: Threads,
}

impl Fanout {
    /// Reads the registry and begins to look for signals. `port` is the one that the API listens
    /// on.
    ///
    /// # Errors
    /// When the registry cannot be used in a way that does not pass, or the system gives no threads.
    pub async fn start(
        config: &Config,
        gateway: &Signer,
        store: Arc<dyn Store>,
        log: &Arc<EventLog>,
        metrics: &Arc<Metrics>,
        port: u16,
    ) -> Result<Arc<Self>, FanoutError> {
        let (fanout, output) = (&config.fanout, &config.output);
        let room = Room { bots: fanout.max_bots.get(), follows: fanout.max_follows.get() };
        let registry = Registry::open(store, gateway, room, Arc::clone(metrics)).await?;
        let limits =
            ClientLimits { in_all: fanout.max_clients, from_address: output.max_clients_per_address };
        let consumers = Consumers::open(
            Cursors::Followers,
            fanout.max_consumers,
            output.keep_unused,
            log,
            metrics.consumers.clone(),
        )?;
        let directory = Arc::clone(registry.directory());
        let addresses = Addresses::new(config.api.public_url.clone(), output.bind_address, port);
        let fanout = Arc::new(Self {
            registry,
            prover: Prover::new(addresses, log.clock().clone()),
            call_limits: CallLimits::new(fanout.daily_limit),
            new_bot_limits: CallLimits::new(fanout.daily_new_bots),
            registration: fanout.registration,
            clients: Clients::new(limits, metrics.clients.clone()),
            signals: Arc::new(Signals::new(
                log,
                fanout.kinds.clone(),
                directory,
                look_back(log),
                SIGNALS_BYTES_MAX,
            )),
            keys: Arc::new(ConversationKeys::new(gateway).ok_or(FanoutError::Key)?),
            consumers,
            patience: Patience::from(output),
            max_age: fanout.max_age,
            log: Arc::clone(log),
            metrics: Arc::clone(metrics),
            failed: watch::Sender::new(None),
            threads: Threads::start()?,
        });
        fanout.run();
        Ok(fanout)
    }

    /// Starts what goes on for as long as the process.
    fn run(self: &Arc<Self>) {
        let (signals, failed) = (Arc::clone(&self.signals), self.failed.clone());
        let looking = self.threads.spawn(async move { signals.run().await });
        self.threads.spawn(async move {
            let reason = match looking.await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error.to_string(),
                Err(panic) => panic.to_string(),
            };
            failed.send_replace(Some(StageFailure::new("the search for signals", reason)));
        });
        let (registry, failed) = (Arc::clone(&self.registry), self.failed.clone());
        // Its database may be slow or away, and nobody else waits for it.
        let following = self.threads.spawn(async move { registry.follow().await });
        self.threads.spawn(async move {
            if let Err(panic) = following.await {
                failed.send_replace(Some(StageFailure::new("what follows the registry", panic)));
            }
        });
    }

    /// Waits until something that must not end has ended.
    pub async fn failure(&self) -> StageFailure {
        let mut failed = self.failed.subscribe();
        match failed.wait_for(Option::is_some).await.map(|failure| failure.clone()) {
            Ok(Some(failure)) => failure,
            Ok(None) | Err(_) => std::future::pending().await, // Not reached: this holds the sender.
        }
    }

    /// Ends everything, once the clients are gone. What holds the database must be gone before the process ends, or
    /// RocksDB aborts it.
    pub async fn stop(&self) {
        self.threads.stop().await;
    }

    /// Prepares to serve a follower that has proved its key.
    ///
    /// # Errors
    /// When it is not served.
    pub async fn admit(&self, follower: PublicKey, wish: Wish, head: Cursor) -> Result<Ready, NotServed> {
        let presence = self.registry.directory().enter(follower)?;
        let lease = match wish.consumer {
            None => None,
            Some(_) if !presence.follows_somebody() => return Err(NotServed::NotFollowing),
            Some((name, begin)) => {
                let prefix = format!("{follower}/");
                let share = Share { prefix: &prefix, max: FOLLOWER_CONSUMERS_MAX };
                let key = format!("{prefix}{}", name.as_str());
                Some(self.consumers.acquire(&key, begin, Some(share)).await?)
            }
        };
        let cursor = lease.as_ref().map_or(wish.cursor, Lease::cursor);
        Ok(Ready { presence, lease, cursor, head })
    }

    /// Serves a client that has connected, on threads of the fan-out: however many followers have a signal encrypted
    /// and sent at once, what reads relays does not stand in line behind them.
    pub async fn serve(self: Arc<Self>, socket: WebSocket, client: Client, taken: Taken, guest: Guest) {
        let fanout = Arc::clone(&self);
        let served = self.threads.spawn(async move { fanout.serve_here(socket, client, taken, guest).await });
        // A panic is reported by its thread; the connection is gone then.
        drop(served.await);
    }

    async fn serve_here(&self, mut socket: WebSocket, mut client: Client, taken: Taken, guest: Guest) {
        let ready = match guest {
            Guest::Known(ready) => *ready,
            Guest::Unknown(wish) => {
                let greeted = tokio::select! {
                    greeted = self.greet(&mut socket, wish) => greeted,
                    // Nothing is owed to somebody who has not said who it is.
                    () = client.stopping() => Err("the gateway is stopping".to_owned()),
                };
                match greeted {
                    Ok(ready) => ready,
                    Err(reason) => return close(socket, reason).await,
                }
            }
        };
        let Ready { presence, lease, cursor, head } = ready;
        let (follower, consumer) = (presence.pubkey, lease.as_ref().map(|lease| lease.name().to_owned()));
        tracing::debug!(%cursor, %follower, consumer, origin = %client.origin(), "a follower is served");
        // Derived now, so that not all who have just connected have it derived when the first signal comes.
        drop(self.keys.with(&follower));
        let (signals, keys) = (Arc::clone(&self.signals), Arc::clone(&self.keys));
        let source = FollowerSource::new(presence, signals, keys, cursor, self.max_age);
        let task = ClientTask::new(source, head, self.metrics.counts(), self.patience, taken);
        let task = match lease {
            Some(lease) => task.with_lease(lease),
            None => task,
        };
        task.run(socket, client).await;
    }

    /// Lets a client prove its key. What is wrong otherwise is the reason of the close.
    async fn greet(&self, socket: &mut WebSocket, wish: Wish) -> Result<Ready, String> {
        let head = self.log.head();
        let follower = match greet(socket, &self.prover).await {
            Ok(follower) => follower,
            Err(ungreeted) => {
                if let Ungreeted::BadProof(bad) = &ungreeted {
                    self.metrics.proofs_refused[bad.into()].inc();
                }
                if !matches!(ungreeted, Ungreeted::Gone) {
                    self.metrics.refused[FollowerRefusal::Unauthorized].inc();
                }
                return Err(ungreeted.to_string());
            }
        };
        let admitted = self.admit(follower, wish, head).await;
        if let Some(refusal) = admitted.as_ref().err().and_then(NotServed::refusal) {
            self.metrics.refused[refusal].inc();
        }
        admitted.map_err(|refused| match refused {
            NotServed::Consumer(EnterError::Storage(error)) if error.is_full() => {
                "the disk is full: the cursor cannot be written".to_owned()
            }
            NotServed::Consumer(EnterError::Storage(error)) => {
                tracing::error!(%error, "a follower cannot be served");
                "the cursor cannot be written".to_owned()
            }
            refused => refused.to_string(),
        })
    }
}

/// Who connects to `/fanout`.
#[derive(Debug)]
pub enum Guest {
    /// Somebody who has proved its key with the request.
    Known(Box<Ready>),
    /// Somebody who will.
    Unknown(Wish),
}

/// Where the search for signals begins: followers that are behind no further need not search for themselves, of whom
/// there may be thousands after a restart.
fn look_back(log: &EventLog) -> Cursor {
    let oldest = Cursor::before(log.floor());
    Cursor::from_number(log.head().get().saturating_sub(SIGNALS_LOOK_BACK)).max(oldest)
}

/// Tells a client why it is not served, and waits a little for it to have heard that.
async fn close(mut socket: WebSocket, reason: String) {
    /// What a close has room for (RFC 6455, section 5.5).
    const REASON_BYTES_MAX: usize = 123;
    tracing::debug!(reason, "a client of /fanout is not served");
    let reason =
        (0..=REASON_BYTES_MAX).rev().find_map(|end| reason.get(..end)).unwrap_or_default().to_owned();
    let frame = CloseFrame { code: close_code::POLICY, reason: reason.into() };
    let heard = async {
        if socket.send(Message::Close(Some(frame))).await.is_ok() {
            while let Some(Ok(_)) = socket.next().await {}
        }
    };
    drop(timeout(CLIENT_CLOSE_MAX, heard).await);
}

/// The threads that encrypt and send. They are nicer than those that read relays and commit, so that these come first
/// when there is something to do, however many followers have a signal sent at once.
#[derive(Debug)]
struct Threads {
    handle: Handle,
    runtime: Mutex<Option<Runtime>>,
}

impl Threads {
    fn start() -> io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(2, NonZeroUsize::get);
        let runtime = Builder::new_multi_thread()
            .worker_threads(cores)
            .max_blocking_threads(FANOUT_BLOCKING_THREADS_MAX)
            .thread_name("fanout")
            .on_thread_start(be_nice)
            .enable_all()
            .build()?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Mutex::new(Some(runtime)) })
    }

    fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.handle.spawn(task)
    }

    /// Ends what runs on them, and waits for that.
    async fn stop(&self) {
        let Some(runtime) = self.runtime.lock().take() else { return };
        drop(tokio::task::spawn_blocking(move || runtime.shutdown_timeout(SHUTDOWN_MAX)).await);
    }
}

/// Has the calling thread come after others. Elsewhere than on Linux a thread has no priority of its own.
fn be_nice() {
    #[cfg(target_os = "linux")]
    let set = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICENESS);
    #[cfg(target_os = "linux")]
    if let Err(error) = set {
        tracing::debug!(%error, "a thread of the fan-out has the priority of all others");
    }
}

impl Drop for Threads {
    /// It may be in a task, which must not wait.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.get_mut().take() {
            runtime.shutdown_background();
        }
    }
}
