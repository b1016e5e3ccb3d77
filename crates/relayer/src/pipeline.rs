//! The data's way, put together: connections, shards, sequencer, log. It is built, runs, and drains.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::config::Config;
use crate::event_log::free_space::FreeSpace;
use crate::event_log::retention::Retention;
use crate::event_log::sequencer::{DiskFull, Sequencer, SequencerOptions};
use crate::event_log::{Entry, EventLog, OpenError, StorageError, StoreOptions};
use crate::ingest::admission::Admission;
use crate::ingest::candidate::unix_ms;
use crate::ingest::dedupe::{Dedupe, DedupeSizes};
use crate::ingest::shard::{BurstLimits, Shard};
use crate::ingest::{InboxGauge, Inboxes};
use crate::limits::{GOODBYES_MAX, RETENTION_INTERVAL, SEQUENCER_BURSTS_MAX, frame_bytes_max};
use crate::relay::Pool;
use crate::relay::connection::{self, Shared};
use crate::relay::dial::{DialOptions, DialSetupError, Dialer};
use crate::relay::instance::InstanceId;
use crate::relay::resolver::Resolver;
use crate::relay::subscription::Subscription;
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
    /// Everything that is counted.
    pub metrics: Arc<Metrics>,
    stages: Stages,
    connections: JoinSet<()>,
    stop: watch::Sender<bool>,
    stopping: Arc<AtomicBool>,
}

impl Pipeline {
    /// Opens the log and starts everything. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// When the log cannot be opened, or the system gives no thread.
    pub fn start(config: &Config) -> Result<Self, StartError> {
        Self::start_on(config, FreeSpace::of(config.deduplication.rocksdb_path.clone()))
    }

    /// As [`start`](Self::start), on a disk whose free space somebody else knows.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_on(config: &Config, free_space: FreeSpace) -> Result<Self, StartError> {
        let path = &config.deduplication.rocksdb_path;
        let store = StoreOptions { fsync: config.storage.fsync };
        let log = EventLog::open(path, store, config.storage.tail_bytes)?;
        let last_heard_ms = log.newest_received_at_ms()?;
        let sizes = DedupeSizes {
            hotset: config.deduplication.hotset_size.get(),
            bloom: config.deduplication.bloom_capacity.get(),
            lru: config.deduplication.lru_size.get(),
        };
        let dedupe = Arc::new(Dedupe::new(Arc::clone(&log), sizes));
        let metrics = Arc::new(Metrics::new());
        let (disk_full, stopping) = (Arc::new(DiskFull::default()), Arc::new(AtomicBool::new(false)));
        let mut stages = Stages::default();

        let sequencer = sequencer(config, &log, &disk_full, free_space)?;
        let inboxes = start_ingest(config, &mut stages, sequencer, &dedupe, &metrics)?;
        start_upkeep(config, &mut stages, &log, &dedupe, &stopping)?;

        let shared = Arc::new(Shared {
            dialer: Dialer::new(DialOptions {
                frame_bytes_max: frame_bytes_max(config.filters.max_event_bytes),
                user_agent: concat!("moltrade-relayer/", env!("CARGO_PKG_VERSION")).to_owned(),
                extra_ca_file: None,
                resolver: Resolver::system(),
                instance: InstanceId::random(),
                tls_sessions_max: config.relay.max_connections.get(),
            })?,
            subscription: Subscription::new(config),
            dedupe: Arc::clone(&dedupe),
            inboxes: inboxes.clone(),
            metrics: Arc::clone(&metrics),
            health_check_interval: config.relay.health_check_interval,
        });
        let pool =
            Pool::new(config.relay.bootstrap_relays.iter().cloned(), config.relay.max_connections.get());
        let stop = watch::Sender::new(false);
        let mut connections = JoinSet::new();
        for peer in pool.peers() {
            connections.spawn(connection::run(peer, Arc::clone(&shared), last_heard_ms, stop.subscribe()));
        }
        Ok(Self {
            pool: Arc::new(pool),
            dedupe,
            inboxes: inboxes.gauge(),
            log,
            disk_full,
            metrics,
            stages,
            connections,
            stop,
            stopping,
        })
    }

    /// Waits for a stage to fail, or for a reader to find the log damaged. As long as all is well, it waits.
    pub async fn failure(&mut self) -> StageFailure {
        tokio::select! {
            failure = self.stages.failure() => failure,
            error = self.log.failure() => StageFailure::new("a reader of the log", error),
            Some(Err(panic)) = self.connections.join_next() => StageFailure::new("a relay's connection", panic),
        }
    }

    /// Stops reading relays, finishes what has been read, makes it durable, and ends the log, so that its
    /// readers end too.
    ///
    /// # Errors
    /// When a stage failed.
    pub async fn drain(mut self) -> Result<(), StageFailure> {
        self.stopping.store(true, Ordering::Relaxed);
        self.disk_full.give_up();
        self.stop.send_replace(true);
        // With the last connection the last sender into the shards goes, and with them the sequencer's.
        let goodbyes = async { while self.connections.join_next().await.is_some() {} };
        if timeout(GOODBYES_MAX, goodbyes).await.is_err() {
            self.connections.shutdown().await;
        }
        // A thread of its own: Tokio's may all be waiting for a disk or for DNS.
        let (stages, (joined, outcome)) = (self.stages, oneshot::channel());
        std::thread::spawn(move || joined.send(stages.join()));
        let outcome = outcome.await;
        self.log.close();
        outcome.unwrap_or(Ok(()))
    }
}

fn sequencer(
    config: &Config,
    log: &Arc<EventLog>,
    disk_full: &Arc<DiskFull>,
    free_space: FreeSpace,
) -> Result<Sequencer, StorageError> {
    let options = SequencerOptions {
        batch_size: config.output.batch_size.get(),
        free_bytes_min: config.storage.min_free_bytes,
        free_space,
    };
    Sequencer::new(Arc::clone(log), options, Arc::clone(disk_full))
}

/// Starts the shards and the sequencer behind them.
fn start_ingest(
    config: &Config,
    stages: &mut Stages,
    sequencer: Sequencer,
    dedupe: &Arc<Dedupe>,
    metrics: &Arc<Metrics>,
) -> io::Result<Inboxes> {
    let shards = std::thread::available_parallelism().map_or(2, usize::from);
    let (inboxes, receivers) = Inboxes::new(shards, frame_bytes_max(config.filters.max_event_bytes));
    let (to_sequencer, bursts) = std::sync::mpsc::sync_channel(SEQUENCER_BURSTS_MAX);
    let limits = BurstLimits { candidates: config.output.batch_size.get(), time: config.output.max_latency };
    for (index, inbox) in receivers.into_iter().enumerate() {
        let shard = Shard::new(Arc::clone(dedupe), Admission::new(&config.filters));
        let (to_sequencer, metrics) = (to_sequencer.clone(), Arc::clone(metrics));
        stages.spawn(format!("shard-{index}"), move || shard.run(inbox, &to_sequencer, limits, &metrics))?;
    }
    let (dedupe, metrics) = (Arc::clone(dedupe), Arc::clone(metrics));
    stages.spawn("sequencer", move || {
        sequencer.run(&bursts, |entries| {
            dedupe.committed(entries);
            count_batch(&metrics, entries);
        })
    })?;
    Ok(inboxes)
}

fn count_batch(metrics: &Metrics, entries: &[Entry]) {
    let now = Instant::now();
    metrics.batches_committed.inc();
    metrics.batch_events.observe(entries.len() as f64);
    metrics.events_processed.inc_by(entries.len() as u64);
    for received in entries.iter().filter_map(|entry| entry.received) {
        metrics.processing_latency.observe(now.duration_since(received).as_secs_f64());
    }
}

/// Starts what goes on beside the data's way: filling the Bloom filter, and retention.
fn start_upkeep(
    config: &Config,
    stages: &mut Stages,
    log: &Arc<EventLog>,
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
    })?;
    let retention = Retention {
        age_ms_max: config
            .storage
            .retention
            .map_or(0, |age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
        bytes_max: config.storage.max_bytes.map_or(0, Into::into),
        admitted_age_secs_max: config.filters.max_age.map_or(0, |age| age.as_secs()),
    };
    let (log, stop) = (Arc::clone(log), Arc::clone(stopping));
    stages.spawn("retention", move || keep_trimmed(&log, retention, &stop))
}

/// Trims at once and then every [`RETENTION_INTERVAL`], until told to stop.
fn keep_trimmed(log: &EventLog, retention: Retention, stop: &AtomicBool) -> Result<(), StorageError> {
    const LOOK_FOR_STOP: Duration = Duration::from_millis(200);
    let mut last: Option<Instant> = None;
    while !stop.load(Ordering::Relaxed) {
        if last.is_none_or(|last| last.elapsed() >= RETENTION_INTERVAL) {
            let trimmed = log.trim(retention, unix_ms())?;
            if trimmed > 0 {
                tracing::info!(events = trimmed, oldest = %log.floor(), "trimmed the log by retention");
            }
            last = Some(Instant::now());
        }
        std::thread::sleep(LOOK_FOR_STOP);
    }
    Ok(())
}
