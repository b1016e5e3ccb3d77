//! The data's way, put together: connections, shards, sequencer, log, sinks. It is built, runs, and drains.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::clock::Clock;
use crate::config::Config;
use crate::event_log::free_space::{FreeSpace, Reserve};
use crate::event_log::retention::Retention;
use crate::event_log::sequencer::{DiskFull, Sequencer, SequencerOptions};
use crate::event_log::{Cursors, EventLog, OpenError, StorageError, StoreOptions};
use crate::ingest::admission::Admission;
use crate::ingest::dedupe::{Dedupe, DedupeSizes};
use crate::ingest::shard::{BurstLimits, Shard};
use crate::ingest::{InboxGauge, Inboxes, committed};
use crate::limits::{
    GOODBYES_MAX, REPAIRS_AT_ONCE_MAX, SCANS_AT_ONCE_MAX, SEQUENCER_BURSTS_MAX, SINK_DRAIN_MAX,
    frame_bytes_max,
};
use crate::net::resolver::Resolver;
use crate::relay::Pool;
use crate::relay::connection::Shared;
use crate::relay::dial::{DialOptions, DialSetupError, Dialer};
use crate::relay::instance::InstanceId;
use crate::serve::Consumers;
use crate::sink::{Sink, SinkSetupError, Workers, needed_after};
use crate::tasks::{StageFailure, Stages};
use crate::telemetry::Metrics;

/// Why the pipeline cannot start.
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

/// A running pipeline.
#[derive(Debug)]
pub struct Pipeline {
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
    /// Everything that is counted.
    pub metrics: Arc<Metrics>,
    /// Which events are let in; what is put here counts from the next event on.
    pub admission: Arc<ArcSwap<Admission>>,
    /// The consumers of `/ws` whose cursors are kept.
    pub consumers: Consumers,
    /// Who this process is, so that it does not connect to itself.
    pub instance: InstanceId,
    workers: Workers,
    stages: Stages,
    supervisor: JoinHandle<Result<(), StageFailure>>,
    /// What looks for steps of the clock.
    clock: JoinHandle<()>,
    stop: watch::Sender<bool>,
    stopping: Arc<AtomicBool>,
}

/// What the pipeline finds outside of its configuration. Tests put their own in its place.
#[derive(Debug)]
pub struct Surroundings {
    /// The disk.
    pub room: Reserve,
    /// Who tells the addresses of a name.
    pub resolver: Resolver,
    /// What tells the time.
    pub clock: Clock,
}

impl Surroundings {
    /// Those of the system.
    pub fn of(config: &Config) -> Self {
        Self { room: room_of(config), resolver: Resolver::system(), clock: Clock::system() }
    }
}

/// The disk of the log, with the room that is left for RocksDB.
pub(crate) fn room_of(config: &Config) -> Reserve {
    let free_space = FreeSpace::of(config.deduplication.rocksdb_path.clone());
    Reserve { free_space, bytes_min: config.free_bytes_min() }
}

impl Pipeline {
    /// Opens the log and starts everything. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// When the log cannot be opened, or the system gives no thread.
    pub fn start(config: &Config) -> Result<Self, StartError> {
        Self::start_in(config, Surroundings::of(config))
    }

    /// As [`start`](Self::start), in other surroundings.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_in(config: &Config, surroundings: Surroundings) -> Result<Self, StartError> {
        let path = &config.deduplication.rocksdb_path;
        let store = StoreOptions { fsync: config.storage.fsync };
        let reserve = surroundings.room.clone();
        let log = EventLog::open_with(
            path,
            store,
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
        let metrics = Arc::new(Metrics::new());
        let (disk_full, stopping) = (Arc::new(DiskFull::default()), Arc::new(AtomicBool::new(false)));
        let mut stages = Stages::default();

        let instance = InstanceId::random();
        let dialer = Arc::new(dialer(config, instance, surroundings.resolver.clone())?);
        let admission = Admission::shared(&config.filters);
        let sequencer = sequencer(config, &log, &disk_full)?;
        let inboxes = start_ingest(config, &mut stages, sequencer, &dedupe, &admission, &metrics)?;
        let workers = Workers::start(&config.output, &log, surroundings.resolver, &metrics)?;
        let (max, keep_unused) = (config.output.max_consumers, config.output.keep_unused);
        let gauge = metrics.websocket_consumers.clone();
        let consumers = Consumers::open(Cursors::Consumers, max, keep_unused, &log, gauge)?;
        start_bloom_rebuild(&mut stages, &dedupe, &stopping)?;
        start_retention(config, &mut stages, &log, &admission, workers.sinks(), &stopping)?;
        let shared = Arc::new(Shared {
            dialer,
            dedupe: Arc::clone(&dedupe),
            inboxes: inboxes.clone(),
            log: Arc::clone(&log),
            metrics: Arc::clone(&metrics),
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
        let supervisor = tokio::spawn(supervisor.run(stop.subscribe()));
        let clock = tokio::spawn(log.clock().clone().watch());
        Ok(Self {
            pool: Arc::new(pool),
            dedupe,
            inboxes: inboxes.gauge(),
            log,
            disk_full,
            reserve,
            metrics,
            admission,
            consumers,
            instance,
            workers,
            stages,
            supervisor,
            clock,
            stop,
            stopping,
        })
    }

    /// The sinks.
    pub fn sinks(&self) -> &Arc<[Arc<Sink>]> {
        self.workers.sinks()
    }

    /// Waits for a stage to fail, or for a reader to find the log damaged. As long as all is well, it waits.
    pub async fn failure(&mut self) -> StageFailure {
        tokio::select! {
            failure = self.stages.failure() => failure,
            failure = self.workers.failure() => failure,
            error = self.log.failure() => StageFailure::new("a reader of the log", error),
            Err(panic) = &mut self.clock => StageFailure::new("the look at the clock", panic),
            ended = &mut self.supervisor => match ended {
                Ok(Err(failure)) => failure,
                Ok(Ok(())) => StageFailure::new("the supervisor of relays", "it ended"),
                Err(panic) => StageFailure::new("the supervisor of relays", panic),
            },
        }
    }

    /// Stops reading relays, finishes what has been read, makes it durable, and ends the log, so that its
    /// readers end too. Sinks that are connected get what is left.
    ///
    /// # Errors
    /// When a stage failed.
    pub async fn drain(self) -> Result<(), StageFailure> {
        self.drain_beside(async {}).await
    }

    /// As [`drain`](Self::drain), and beside the sinks somebody else ends who reads the log.
    ///
    /// # Errors
    /// As [`drain`](Self::drain).
    pub async fn drain_beside(mut self, others: impl Future<Output = ()>) -> Result<(), StageFailure> {
        self.stopping.store(true, Ordering::Relaxed);
        self.disk_full.give_up();
        self.stop.send_replace(true);
        self.clock.abort();
        // With the last connection the last sender into the shards goes, and with them the sequencer's.
        if !self.supervisor.is_finished() && timeout(GOODBYES_MAX, &mut self.supervisor).await.is_err() {
            self.supervisor.abort();
            // What it supervised ends with it.
            let _ = self.supervisor.await;
        }
        let outcome = self.stages.join().await;
        self.log.close();
        tokio::join!(self.workers.drain(SINK_DRAIN_MAX), others);
        outcome
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
    metrics: &Arc<Metrics>,
) -> io::Result<Inboxes> {
    let shards = std::thread::available_parallelism().map_or(2, usize::from);
    let (inboxes, receivers) = Inboxes::new(shards, frame_bytes_max(config.filters.max_event_bytes));
    let (to_sequencer, bursts) = std::sync::mpsc::sync_channel(SEQUENCER_BURSTS_MAX);
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
    Ok(inboxes)
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
