//! The pool of wanted relays, and the supervisor that runs a connection task for each relay.
//!
//! The wanted relays are those of the configuration and those added over the API, without those
//! removed over the API. Additions and removals persist in the log's database. If more relays are
//! wanted than may be connected, the first ones are connected. A change affects only the relays
//! that it names.

mod wanted;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use self::wanted::{ADDED, REMOVED, WantedRelays};
use crate::clock::Now;
use crate::config::{Config, RelayUrl};
use crate::crash_point;
use crate::event_log::{EventLog, RelayTable, StorageError};
use crate::limits::COMMANDS_WAITING_MAX;
use crate::pulse::Pulse;
use crate::relay::link::{self, DesiredState};
use crate::relay::peer::{Coverage, Peer, Stated};
use crate::relay::protocol::Subscription;
use crate::relay::shared::{LinkLimits, Shared};
use crate::relay::silence::Silence;
use crate::relay::transport::{DialError, Dialer};
use crate::tasks::StageFailure;

/// Why the wanted relays could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// The maximum number of relays is reached.
    #[error(
        "there are {max} relays already, as many as [relay] max_connections allows; remove one or allow more"
    )]
    Full { max: usize },
    /// The relay cannot or may not be dialled.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The change could not be stored.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The gateway is stopping and accepts no more commands.
    #[error("the gateway is stopping")]
    Stopping,
}

/// The result of adding a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// The relay is wanted from now on.
    New,
    AlreadyWanted,
}

/// The result of removing a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    /// The relay is no longer wanted.
    Gone,
    NotWanted,
}

/// How many relays a reload changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Changes {
    /// Relays that are newly wanted.
    pub added: usize,
    /// Relays that are no longer wanted.
    pub removed: usize,
}

/// A handle to the wanted relays. It sends commands to the supervisor, which owns the connections.
#[derive(Debug)]
pub struct Pool {
    peers: Arc<RwLock<Peers>>,
    commands: mpsc::Sender<Command>,
    dialer: Arc<Dialer>,
    /// Whether added relays must have public addresses.
    is_public_only: AtomicBool,
}

/// The relays that have a task, in the order in which they became wanted.
#[derive(Debug, Default)]
struct Peers {
    list: Vec<Arc<Peer>>,
    by_url: HashMap<RelayUrl, Arc<Peer>>,
    /// The relays that the configuration names, including removed relays. They may have private
    /// addresses.
    configured: HashSet<RelayUrl>,
}

#[derive(Debug)]
enum Command {
    Add(RelayUrl, oneshot::Sender<Result<Added, PoolError>>),
    Remove(RelayUrl, oneshot::Sender<Result<Removed, PoolError>>),
    Reload(Box<Config>, oneshot::Sender<Result<Changes, PoolError>>),
    /// Wakes the supervisor, so that it shows that it makes progress.
    Probe,
}

impl Pool {
    /// Creates the pool from the configuration and the log's database. The returned supervisor must
    /// [run](Supervisor::run).
    ///
    /// # Errors
    /// If the database cannot be read, or a row about a relay is damaged.
    pub fn new(config: &Config, shared: Arc<Shared>) -> Result<(Self, Supervisor), StorageError> {
        let (sender, commands) = mpsc::channel(COMMANDS_WAITING_MAX);
        let peers = Arc::new(RwLock::new(Peers::default()));
        let mut supervisor = Supervisor {
            peers: Arc::clone(&peers),
            commands,
            wanted: WantedRelays::restore(&config.relay.bootstrap_relays, &shared.log)?,
            subscription: Arc::new(Subscription::new(config)),
            tasks: HashMap::new(),
            waiting: Vec::new(),
            silence: Silence::new(config.relay.silent_after),
            connections: JoinSet::new(),
            connections_max: config.relay.max_connections.get(),
            offences_an_hour_max: config.relay.max_offences_per_hour.map(Into::into),
            trusts_all: config.relay.allow_private_addresses,
            shared: Arc::clone(&shared),
            pulse: Arc::default(),
        };
        supervisor.start_and_stop()?;
        let is_public_only = AtomicBool::new(!config.relay.allow_private_addresses);
        // The pool outlives the connections, so it keeps only the dialer: `shared` holds the
        // inboxes open.
        Ok((Self { peers, commands: sender, dialer: Arc::clone(&shared.dialer), is_public_only }, supervisor))
    }

    /// All relays that have or await a connection, in the order in which they became wanted.
    pub fn peers(&self) -> Vec<Arc<Peer>> {
        self.peers.read().list.clone()
    }

    pub fn find(&self, url: &RelayUrl) -> Option<Arc<Peer>> {
        self.peers.read().by_url.get(url).cloned()
    }

    /// Adds a relay persistently. The relay's address must be public, unless the configuration
    /// names the relay or `[relay] allow_private_addresses` is set.
    ///
    /// # Errors
    /// If there is no room, the address is not found or not public, or the change cannot be stored.
    pub async fn add(&self, url: RelayUrl) -> Result<Added, PoolError> {
        if self.find(&url).is_some() {
            return Ok(Added::AlreadyWanted);
        }
        if self.is_public_only.load(Ordering::Relaxed) && !self.peers.read().configured.contains(&url) {
            self.dialer.check(&url).await?;
        }
        self.send(|reply| Command::Add(url, reply)).await?
    }

    /// Removes a relay persistently, even if the configuration names it.
    ///
    /// # Errors
    /// If the change cannot be stored.
    pub async fn remove(&self, url: &RelayUrl) -> Result<Removed, PoolError> {
        self.send(|reply| Command::Remove(url.clone(), reply)).await?
    }

    /// Applies the relays, the kinds and the limits of a new configuration. Relays in both
    /// configurations keep their connections.
    ///
    /// # Errors
    /// If the stored rows of a new relay cannot be read.
    pub async fn reload(&self, config: &Config) -> Result<Changes, PoolError> {
        let changes = self.send(|reply| Command::Reload(Box::new(config.clone()), reply)).await??;
        self.is_public_only.store(!config.relay.allow_private_addresses, Ordering::Relaxed);
        Ok(changes)
    }

    /// Wakes the supervisor, which then beats its [pulse](Supervisor::with_pulse).
    pub(crate) fn probe(&self) {
        // If commands are waiting, the supervisor is awake.
        let _ = self.commands.try_send(Command::Probe);
    }

    async fn send<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, PoolError> {
        let (reply, replied) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| PoolError::Stopping)?;
        replied.await.map_err(|_| PoolError::Stopping)
    }
}

/// Restores what the database has about a relay.
fn restore(peer: &Peer, log: &EventLog, now: Now) -> Result<(), StorageError> {
    let url = peer.url.as_str();
    if let Some(row) = log.relay_row(RelayTable::Coverage, url)? {
        let coverage = Coverage::from_row(&row).map_err(|_| damaged("a relay's coverage"))?;
        peer.restore_coverage(coverage, now);
    }
    if let Some(row) = log.relay_row(RelayTable::Information, url)? {
        let stated = Stated::from_row(&row).map_err(|_| damaged("a relay's information"))?;
        peer.capabilities(|capabilities| capabilities.inform(stated));
    }
    Ok(())
}

/// Returns when the process stops. A dropped sender also means that the process stops.
async fn stopping(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

fn damaged(what: &str) -> StorageError {
    StorageError::new("read the stored rows of relays", format_args!("{what} is damaged"))
}

/// Owns the connection tasks of the wanted relays.
#[derive(Debug)]
pub struct Supervisor {
    peers: Arc<RwLock<Peers>>,
    commands: mpsc::Receiver<Command>,
    wanted: WantedRelays,
    subscription: Arc<Subscription>,
    tasks: HashMap<RelayUrl, watch::Sender<DesiredState>>,
    /// Connections to start.
    waiting: Vec<(Arc<Peer>, watch::Receiver<DesiredState>)>,
    connections: JoinSet<()>,
    connections_max: usize,
    offences_an_hour_max: Option<u32>,
    trusts_all: bool,
    silence: Silence,
    shared: Arc<Shared>,
    pulse: Arc<Pulse>,
}

impl Supervisor {
    pub(crate) fn with_pulse(self, pulse: Arc<Pulse>) -> Self {
        Self { pulse, ..self }
    }

    /// Runs until told to stop, and then until all connections have ended.
    ///
    /// # Errors
    /// If a connection task panics.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<(), StageFailure> {
        let mut looks = self.looks();
        let mut steps = self.shared.log.clock().steps();
        loop {
            self.pulse.beat();
            for (peer, desired) in self.waiting.drain(..) {
                self.connections.spawn(link::run(peer, Arc::clone(&self.shared), desired));
            }
            tokio::select! {
                Some(command) = self.commands.recv() => {
                    self.apply(command).await;
                    if looks.period() != self.silence.interval() {
                        looks = self.looks();
                    }
                }
                Some(ended) = self.connections.join_next() => {
                    ended.map_err(|panic| StageFailure::new("a relay's connection", panic))?;
                }
                _ = looks.tick() => {
                    let peers = self.peers.read().list.clone();
                    self.silence.check(&peers, Instant::now().into_std());
                }
                Ok(()) = steps.changed() => {
                    let now = self.shared.log.clock().now();
                    self.peers.read().list.iter().for_each(|peer| peer.clock_was_set(now));
                }
                () = stopping(&mut stop) => break,
            }
        }
        for desired in self.tasks.values() {
            desired.send_replace(DesiredState::Stopped);
        }
        while let Some(ended) = self.connections.join_next().await {
            ended.map_err(|panic| StageFailure::new("a relay's connection", panic))?;
        }
        Ok(())
    }

    /// The times at which silent relays are looked for.
    fn looks(&self) -> Interval {
        let mut looks = tokio::time::interval(self.silence.interval());
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        looks
    }

    /// Applies a command. The sender may have stopped waiting for the reply.
    async fn apply(&mut self, command: Command) {
        match command {
            Command::Add(url, reply) => _ = reply.send(self.add(url).await),
            Command::Remove(url, reply) => _ = reply.send(self.remove(url).await),
            Command::Reload(config, reply) => _ = reply.send(self.reload(&config).map_err(PoolError::from)),
            Command::Probe => crash_point::reached("pool_probe"),
        }
    }

    fn reload(&mut self, config: &Config) -> Result<Changes, StorageError> {
        self.wanted.configured.clone_from(&config.relay.bootstrap_relays);
        self.connections_max = config.relay.max_connections.get();
        self.trusts_all = config.relay.allow_private_addresses;
        self.offences_an_hour_max = config.relay.max_offences_per_hour.map(Into::into);
        for peer in &self.peers.read().list {
            peer.offences.set_max(self.offences_an_hour_max);
        }
        self.silence.set_after(config.relay.silent_after);
        let (subscription, limits) = (Subscription::new(config), LinkLimits::of(config));
        let present = self.shared.link_limits.swap(Arc::new(limits));
        if subscription != *self.subscription || limits != *present {
            self.subscription = Arc::new(subscription);
            for desired in self.tasks.values() {
                desired.send_replace(DesiredState::Connected(Arc::clone(&self.subscription)));
            }
        }
        self.start_and_stop()
    }

    async fn add(&mut self, url: RelayUrl) -> Result<Added, PoolError> {
        if self.wanted.contains(&url) {
            return Ok(Added::AlreadyWanted);
        }
        if self.wanted.wanted().count() >= self.connections_max {
            return Err(PoolError::Full { max: self.connections_max });
        }
        let is_configured = self.wanted.configured.contains(&url);
        self.store(&url, if is_configured { None } else { Some(ADDED) }).await?;
        self.wanted.removed.remove(&url);
        if !is_configured {
            self.wanted.added.push(url);
        }
        self.start_and_stop()?;
        Ok(Added::New)
    }

    async fn remove(&mut self, url: RelayUrl) -> Result<Removed, PoolError> {
        if !self.wanted.contains(&url) {
            return Ok(Removed::NotWanted);
        }
        // Only the removal of a configured relay needs a row. The row of an added relay is deleted.
        let is_configured = self.wanted.configured.contains(&url);
        self.store(&url, if is_configured { Some(REMOVED) } else { None }).await?;
        self.wanted.added.retain(|added| *added != url);
        if is_configured {
            self.wanted.removed.insert(url);
        }
        self.start_and_stop()?;
        Ok(Removed::Gone)
    }

    async fn store(&self, url: &RelayUrl, row: Option<&'static [u8]>) -> Result<(), StorageError> {
        let (log, url) = (Arc::clone(&self.shared.log), url.clone());
        let kept =
            tokio::task::spawn_blocking(move || log.set_relay_row(RelayTable::Wanted, url.as_str(), row));
        kept.await.map_err(|panic| StorageError::new("store the addition or removal of a relay", panic))?
    }

    /// Starts the connections that are missing, and stops those that are no longer wanted.
    fn start_and_stop(&mut self) -> Result<Changes, StorageError> {
        let wanted: Vec<(RelayUrl, bool)> = self
            .wanted
            .wanted()
            .take(self.connections_max)
            .map(|(url, is_configured)| (url.clone(), is_configured))
            .collect();
        let urls: HashSet<&RelayUrl> = wanted.iter().map(|(url, _)| url).collect();
        let before = self.tasks.len();
        self.tasks.retain(|url, desired| {
            let stays = urls.contains(url);
            if !stays {
                desired.send_replace(DesiredState::Stopped);
            }
            stays
        });
        let removed = before - self.tasks.len();
        let mut added = 0;
        let mut list = Vec::with_capacity(wanted.len());
        for (url, is_configured) in &wanted {
            let known = self.peers.read().by_url.get(url).cloned();
            let is_trusted = *is_configured || self.trusts_all;
            let peer = match known {
                Some(peer) => peer,
                None => {
                    added += 1;
                    self.start(url, is_trusted)?
                }
            };
            // A parked relay may have become trusted, so its task is woken.
            if peer.set_trusted(is_trusted) != is_trusted
                && let Some(desired) = self.tasks.get(url)
            {
                desired.send_replace(DesiredState::Connected(Arc::clone(&self.subscription)));
            }
            list.push(peer);
        }
        self.shared.log.clock().set_relays(list.len());
        let by_url = list.iter().map(|peer| (peer.url.clone(), Arc::clone(peer))).collect();
        let configured = self.wanted.configured.iter().cloned().collect();
        *self.peers.write() = Peers { list, by_url, configured };
        Ok(Changes { added, removed })
    }

    fn start(&mut self, url: &RelayUrl, is_trusted: bool) -> Result<Arc<Peer>, StorageError> {
        let peer = Arc::new(Peer::with(url.clone(), is_trusted, self.offences_an_hour_max));
        restore(&peer, &self.shared.log, self.shared.log.clock().now())?;
        let (sender, desired) = watch::channel(DesiredState::Connected(Arc::clone(&self.subscription)));
        self.tasks.insert(url.clone(), sender);
        self.waiting.push((Arc::clone(&peer), desired));
        Ok(peer)
    }
}
