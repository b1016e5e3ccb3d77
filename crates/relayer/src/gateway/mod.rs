//! The gateway: relays, shards, sequencer, log, sinks, clients and fan-out, put together. It is built,
//! runs, and drains.

pub mod metrics;
pub mod summary;

use std::io;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use prometheus_client::registry::Registry;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use wire::Signer;

use self::metrics::Metrics;
use crate::clock::Clock;
use crate::config::Config;
use crate::crash_point;
use crate::event_log::free_space::{FreeSpace, Reserve};
use crate::event_log::retention::Retention;
use crate::event_log::sequencer::{DiskFull, Sequencer, SequencerOptions};
use crate::event_log::{Cursors, EventLog, OpenError, StorageError, StoreOptions, Submission};
use crate::fanout::service::FanoutError;
use crate::fanout::{Fanout, registry};
use crate::ingest::admission::Admission;
use crate::ingest::dedupe::{Dedupe, DedupeSizes};
use crate::ingest::shard::{BurstLimits, Shard};
use crate::ingest::{self, InboxGauge, Inboxes, committed};
use crate::limits::{
    CLIENT_DRAIN_MAX, DRAIN_MAX, GOODBYES_MAX, REPAIRS_AT_ONCE_MAX, SCANS_AT_ONCE_MAX, SEQUENCER_BURSTS_MAX,
    SINK_DRAIN_MAX, frame_bytes_max,
};
use crate::net::resolver::Resolver;
use crate::nip19::npub;
use crate::relay::{DialOptions, DialSetupError, Dialer, InstanceId, Pool, Shared};
use crate::serve::{ClientLimits, Clients, Consumers};
use crate::sink::{Sink, SinkSetupError, Workers, needed_after};
use crate::tasks::{StageFailure, Stages};

/// Why the gateway cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// The log, after it was opened.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Dialling.
    #[error(transparent)]
    Dial(#[from] DialSetupError),
    /// A sink.
    #[error(transparent)]
    Sink(#[from] SinkSetupError),
    /// No thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
}

/// Why the gateway did not drain in order.
#[derive(Debug, thiserror::Error)]
pub enum DrainError {
    /// A stage failed.
    #[error(transparent)]
    Stage(#[from] StageFailure),
    /// What was read could not be finished in time. What was committed is safe.
    #[error("could not finish within {secs} s; events that were not committed come again from their relays", secs = DRAIN_MAX.as_secs())]
    Timeout,
}

/// The parts of a running gateway, for everything that asks it something.
#[derive(Debug)]
pub struct Parts {
    /// The relays.
    pub pool: Arc<Pool>,
    /// The seen set.
    pub dedupe: Arc<Dedupe>,
    /// What is between sockets and shards.
    pub inboxes: InboxGauge,
    /// The log.
    pub log: Arc<EventLog>,
    /// Whether the log waits for room.
    pub disk_full: Arc<DiskFull>,
    /// What must stay free on the disk of the log.
    pub reserve: Reserve,
    /// The metrics of all parts.
    pub metrics: Metrics,
    /// Which events are admitted; a new policy counts from the next event on.
    pub admission: Arc<ArcSwap<Admission>>,
    /// The sinks.
    pub sinks: Arc<[Arc<Sink>]>,
    /// The clients of `/ws`.
    pub clients: Clients,
    /// The consumers of `/ws` whose cursors are kept.
    pub consumers: Consumers,
    /// The gateway's key.
    pub identity: Arc<Signer>,
    /// Who this process is, so that it does not connect to itself.
    pub instance: InstanceId,
    fanout: OnceLock<Arc<Fanout>>,
}

impl Parts {
    /// The fan-out, if there is one and it has started.
    pub fn fanout(&self) -> Option<&Arc<Fanout>> {
        self.fanout.get()
    }
}

/// A running gateway: it is built, runs until something fails or it is told to stop, and drains.
/// Dropped instead, it leaves its threads behind.
#[derive(Debug)]
pub struct Gateway {
    parts: Arc<Parts>,
    /// The way to the sequencer that goes last.
    submissions: SyncSender<Vec<Submission>>,
    workers: Workers,
    stages: Stages,
    supervisor: JoinHandle<Result<(), StageFailure>>,
    /// What looks for steps of the clock.
    clock: JoinHandle<()>,
    stop: watch::Sender<bool>,
    stopping: Arc<AtomicBool>,
}

impl Deref for Gateway {
    type Target = Arc<Parts>;

    fn deref(&self) -> &Arc<Parts> {
        &self.parts
    }
}

/// What the gateway finds outside of its configuration. Tests put their own in its place.
#[derive(Debug)]
pub struct Surroundings {
    /// The disk.
    pub room: Reserve,
    /// Who tells the addresses of a name.
    pub resolver: Resolver,
    /// What tells the time.
    pub clock: Clock,
    /// Whether relays are dialled.
    pub dials: bool,
}

impl Surroundings {
    /// Those of the system.
    pub fn of(config: &Config) -> Self {
        Self { room: room_of(config), resolver: Resolver::system(), clock: Clock::system(), dials: true }
    }
}

/// The disk of the log, with the room that is left for RocksDB.
pub(crate) fn room_of(config: &Config) -> Reserve {
    let free_space = FreeSpace::of(config.deduplication.rocksdb_path.clone());
    Reserve { free_space, bytes_min: config.free_bytes_min() }
}

impl Gateway {
    /// Opens the log and starts everything but the fan-out. Must be called within a Tokio runtime.
    /// Its metrics go to the registry.
    ///
    /// # Errors
    /// When the log cannot be opened, a sink or the dialler cannot be set up, or the system gives no
    /// thread.
    pub fn build(
        config: &Config,
        identity: Arc<Signer>,
        surroundings: Surroundings,
        registry: &mut Registry,
    ) -> Result<Self, StartError> {
        let metrics = Metrics::register(registry);
        let reserve = surroundings.room.clone();
        let log = EventLog::open_with(
            &config.deduplication.rocksdb_path,
            StoreOptions { fsync: config.storage.fsync },
            config.storage.tail_bytes,
            surroundings.clock,
            surroundings.room,
        )?;
        let sizes = DedupeSizes {
            hotset: config.deduplication.hotset_size.get(),
            bloom: config.deduplication.bloom_capacity.get(),
            lru: config.deduplication.lru_size.get(),
        };
        let dedupe = Arc::new(Dedupe::new(Arc::clone(&log), sizes));
        let (disk_full, stopping) = (Arc::new(DiskFull::default()), Arc::new(AtomicBool::new(false)));
        let mut stages = Stages::default();
        let admission = Admission::shared(&config.filters);
        let sequencer = sequencer(config, &log, &disk_full)?;
        let (inboxes, submissions) =
            start_ingest(config, &mut stages, sequencer, &dedupe, &admission, &metrics.ingest)?;
        let resolver = surroundings.resolver;
        let workers = Workers::start(&config.output, &log, resolver.clone(), &metrics.sinks)?;
        let (max, keep_unused) = (config.output.max_consumers, config.output.keep_unused);
        let gauge = metrics.websocket.consumers.clone();
        let consumers = Consumers::open(Cursors::Consumers, max, keep_unused, &log, gauge)?;
        let clients = Clients::new(ClientLimits::of(&config.output), metrics.websocket.clients.clone());
        start_bloom_rebuild(&mut stages, &dedupe, &stopping)?;
        start_retention(config, &mut stages, &log, &admission, workers.sinks(), &stopping)?;
        let instance = InstanceId::random();
        let shared = Arc::new(Shared {
            dialer: Arc::new(dialer(config, instance, resolver)?),
            dedupe: Arc::clone(&dedupe),
            inboxes: inboxes.clone(),
            log: Arc::clone(&log),
            metrics: Arc::clone(&metrics.relay),
            ingest_metrics: Arc::clone(&metrics.ingest),
            signer: config
                .nostr
                .key()
                .filter(|_| config.relay.authenticate)
                .map(|key| Arc::clone(key.signer())),
            repairs: Semaphore::new(REPAIRS_AT_ONCE_MAX),
            scans: Arc::new(Semaphore::new(SCANS_AT_ONCE_MAX)),
            health_check_interval: config.relay.health_check_interval,
            events_per_second_max: config.relay.max_events_per_second.map(Into::into),
        });
        let (pool, supervisor) = Pool::new(config, shared)?;
        let stop = watch::Sender::new(false);
        let mut stopped = stop.subscribe();
        let supervisor = if surroundings.dials {
            tokio::spawn(supervisor.run(stopped))
        } else {
            tokio::spawn(async move {
                drop(stopped.wait_for(|stop| *stop).await);
                Ok(())
            })
        };
        let clock = tokio::spawn(log.clock().clone().watch());
        let parts = Arc::new(Parts {
            pool: Arc::new(pool),
            dedupe,
            inboxes: inboxes.gauge(),
            log,
            disk_full,
            reserve,
            metrics,
            admission,
            sinks: Arc::clone(workers.sinks()),
            clients,
            consumers,
            identity,
            instance,
            fanout: OnceLock::new(),
        });
        Ok(Self { parts, submissions, workers, stages, supervisor, clock, stop, stopping })
    }

    /// Starts the fan-out with the registry that is configured, if it is enabled. It may wait for a
    /// database. Followers sign proofs for `port`, unless a public URL is configured.
    ///
    /// # Errors
    /// When the registry cannot be used in a way that does not pass, or the system gives no thread.
    pub async fn start_fanout(&self, config: &Config, port: u16) -> Result<(), FanoutError> {
        if !config.fanout.enabled {
            return Ok(());
        }
        let (log, metrics) = (&self.log, &self.metrics.fanout);
        let store = registry::store(config, log, metrics.registry_queries.clone())?;
        let fanout = Fanout::start(config, &self.identity, store, log, metrics, port).await?;
        let (bots, follows) = fanout.registry.directory().len();
        tracing::info!(
            bots,
            follows,
            registry = fanout.registry.store_name(),
            npub = npub(self.identity.pubkey()),
            "signals are fanned out to followers on /fanout"
        );
        // It is started once.
        let _ = self.parts.fanout.set(fanout);
        Ok(())
    }

    /// Where verified events enter that no relay sends.
    pub(crate) const fn submissions(&self) -> &SyncSender<Vec<Submission>> {
        &self.submissions
    }

    /// Ends as a crash does: sinks and clients write nothing down any more. Waits for the threads that
    /// use the log.
    pub(crate) async fn abort(mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.parts.disk_full.give_up();
        self.supervisor.abort();
        self.clock.abort();
        drop((self.submissions, self.workers));
        // What it supervises ends with it.
        let _ = (&mut self.supervisor).await;
        let _ = self.stages.join().await;
        self.parts.log.close();
        if let Some(fanout) = self.parts.fanout() {
            fanout.stop().await;
        }
    }

    /// Waits for a stage to fail, or for a reader to find the log damaged. As long as all is well, it waits.
    pub async fn failure(&mut self) -> StageFailure {
        let of_fanout = async {
            match self.parts.fanout() {
                Some(fanout) => fanout.failure().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            failure = self.stages.failure() => failure,
            failure = self.workers.failure() => failure,
            failure = of_fanout => failure,
            error = self.parts.log.failure() => StageFailure::new("a reader of the log", error),
            Err(panic) = &mut self.clock => StageFailure::new("the look at the clock", panic),
            ended = &mut self.supervisor => match ended {
                Ok(Err(failure)) => failure,
                Ok(Ok(())) => StageFailure::new("the supervisor of relays", "it ended"),
                Err(panic) => StageFailure::new("the supervisor of relays", panic),
            },
        }
    }

    /// Stops reading relays, finishes what has been read, makes it durable, and ends the log, so that its
    /// readers end too. Sinks and clients that are connected get what is left.
    ///
    /// # Errors
    /// When a stage failed, or all this takes longer than [`DRAIN_MAX`].
    pub async fn drain(self) -> Result<(), DrainError> {
        let parts = Arc::clone(&self.parts);
        let drained = timeout(DRAIN_MAX, self.drain_in_order()).await;
        crash_point::reached("drained");
        if let Some(fanout) = parts.fanout() {
            fanout.stop().await;
        }
        Ok(drained.map_err(|_| DrainError::Timeout)??)
    }

    async fn drain_in_order(mut self) -> Result<(), StageFailure> {
        self.stopping.store(true, Ordering::Relaxed);
        self.parts.disk_full.give_up();
        self.stop.send_replace(true);
        self.clock.abort();
        // With the last connection the last sender into the shards goes, and with them the sequencer's.
        drop(self.submissions);
        if !self.supervisor.is_finished() && timeout(GOODBYES_MAX, &mut self.supervisor).await.is_err() {
            self.supervisor.abort();
            // What it supervised ends with it.
            let _ = self.supervisor.await;
        }
        let outcome = self.stages.join().await;
        self.parts.log.close();
        tokio::join!(self.workers.drain(SINK_DRAIN_MAX), drain_clients(&self.parts));
        outcome
    }
}

/// Waits until the clients of `/ws` and `/fanout` have what is left, or their time is over.
async fn drain_clients(parts: &Parts) {
    let followers = async {
        match parts.fanout() {
            Some(fanout) => fanout.clients.drain(CLIENT_DRAIN_MAX).await,
            None => 0,
        }
    };
    let (clients, followers) = tokio::join!(parts.clients.drain(CLIENT_DRAIN_MAX), followers);
    let clients = clients + followers;
    if clients > 0 {
        tracing::warn!(clients, "some clients did not take what was left; their cursors tell where to go on");
    }
}

fn dialer(config: &Config, instance: InstanceId, resolver: Resolver) -> Result<Dialer, DialSetupError> {
    Dialer::new(DialOptions {
        frame_bytes_max: frame_bytes_max(config.filters.max_event_bytes),
        user_agent: config.relay.user_agent.as_str().to_owned(),
        extra_ca_file: config.relay.extra_ca_file.clone(),
        resolver,
        instance,
        tls_sessions_max: config.relay.max_connections.get(),
    })
}

fn sequencer(
    config: &Config,
    log: &Arc<EventLog>,
    disk_full: &Arc<DiskFull>,
) -> Result<Sequencer, StorageError> {
    let options = SequencerOptions { batch_size: config.output.batch_size.get() };
    Sequencer::new(Arc::clone(log), options, Arc::clone(disk_full))
}

/// Starts the shards and the sequencer behind them.
fn start_ingest(
    config: &Config,
    stages: &mut Stages,
    sequencer: Sequencer,
    dedupe: &Arc<Dedupe>,
    admission: &Arc<ArcSwap<Admission>>,
    metrics: &Arc<ingest::Metrics>,
) -> io::Result<(Inboxes, SyncSender<Vec<Submission>>)> {
    let shards = std::thread::available_parallelism().map_or(2, usize::from);
    let (inboxes, receivers) = Inboxes::new(shards, frame_bytes_max(config.filters.max_event_bytes));
    let (to_sequencer, bursts) = sync_channel(SEQUENCER_BURSTS_MAX);
    let limits = BurstLimits { candidates: config.output.batch_size.get(), time: config.output.max_latency };
    for (index, inbox) in receivers.into_iter().enumerate() {
        let shard = Shard::new(Arc::clone(dedupe), Arc::clone(admission));
        let (to_sequencer, metrics) = (to_sequencer.clone(), Arc::clone(metrics));
        stages.spawn(format!("shard-{index}"), move || shard.run(inbox, &to_sequencer, limits, &metrics))?;
    }
    let (dedupe, metrics) = (Arc::clone(dedupe), Arc::clone(metrics));
    stages.spawn("sequencer", move || {
        sequencer.run(&bursts, |entries| committed(&dedupe, &metrics, entries))
    })?;
    Ok((inboxes, to_sequencer))
}

/// Starts what fills the Bloom filter.
fn start_bloom_rebuild(
    stages: &mut Stages,
    dedupe: &Arc<Dedupe>,
    stopping: &Arc<AtomicBool>,
) -> io::Result<()> {
    let (bloom, stop) = (Arc::clone(dedupe), Arc::clone(stopping));
    stages.spawn("bloom-rebuild", move || {
        let started = Instant::now();
        bloom.rebuild(|| stop.load(Ordering::Relaxed))?;
        let milliseconds = started.elapsed().as_millis();
        tracing::info!(milliseconds, "the Bloom filter holds all known ids");
        Ok::<_, StorageError>(())
    })
}

/// Starts what trims the log.
fn start_retention(
    config: &Config,
    stages: &mut Stages,
    log: &Arc<EventLog>,
    admission: &Arc<ArcSwap<Admission>>,
    sinks: &Arc<[Arc<Sink>]>,
    stopping: &Arc<AtomicBool>,
) -> io::Result<()> {
    let age_ms = |age: Duration| u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
    let retention = Retention {
        age_ms_max: config.storage.retention.map_or(0, age_ms),
        bytes_max: config.storage.max_bytes.map_or(0, Into::into),
        ..Retention::default()
    };
    let (log, admission, stop) = (Arc::clone(log), Arc::clone(admission), Arc::clone(stopping));
    let sinks = Arc::clone(sinks);
    // Ids are forgotten only of events that the policy of the moment refuses, and age takes nothing
    // that a sink does not have yet.
    let present = move || Retention {
        needed_after: needed_after(&sinks),
        admitted_age_secs_max: admission.load().age_secs_max(),
        ..retention
    };
    stages.spawn("retention", move || log.keep_trimmed(present, &stop))
}
