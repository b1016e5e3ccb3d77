//! Builds the gateway: opens the log and starts everything except the fan-out.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use prometheus_client::registry::Registry;
use tokio::runtime::Handle;
use tokio::sync::mpsc::Receiver;
use tokio::sync::{Semaphore, watch};
use wire::Signer;

use super::Gateway;
use super::liveness::Liveness;
use super::metrics::Metrics;
use super::parts::Parts;
use crate::clock::Clock;
use crate::config::Config;
use crate::event_log::free_space::{FreeSpace, Reserve};
use crate::event_log::retention::Retention;
use crate::event_log::sequencer::{DiskFull, Sequencer, SequencerOptions};
use crate::event_log::{Cursors, EventLog, OpenError, StorageError, Submission};
use crate::ingest::admission::Admission;
use crate::ingest::dedupe::{Dedupe, DedupeSizes};
use crate::ingest::shard::{BurstLimits, Shard};
use crate::ingest::{self, Inbound, Inboxes, Refusals, committed};
use crate::limits::{
    OVERVIEW_LISTENERS_MAX, REPAIRS_AT_ONCE_MAX, SCANS_AT_ONCE_MAX, SEQUENCER_BURSTS_MAX, frame_bytes_max,
};
use crate::net::resolver::Resolver;
use crate::relay::{DialOptions, DialSetupError, Dialer, InstanceId, LinkLimits, Pool, Shared};
use crate::serve::{ClientLimits, Clients, ConsumerLimits, Consumers, Readers};
use crate::sink::{SinkSetupError, Workers, needed_after};
use crate::tasks::Stages;

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Log(#[from] OpenError),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Dial(#[from] DialSetupError),
    #[error(transparent)]
    Sink(#[from] SinkSetupError),
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
}

/// The parts of the gateway's environment that tests replace.
#[derive(Debug)]
pub struct Environment {
    pub(crate) reserve: Reserve,
    pub resolver: Resolver,
    pub clock: Clock,
    /// Whether the gateway dials relays.
    pub dials: bool,
    /// Gives a test a sender to the sequencer. The sequencer ends when all its senders are dropped.
    pub(crate) submissions: Option<mpsc::Sender<SyncSender<Vec<Submission>>>>,
}

impl Environment {
    pub fn of(config: &Config) -> Self {
        Self {
            reserve: reserve_of(config),
            resolver: Resolver::system(),
            clock: Clock::system(),
            dials: true,
            submissions: None,
        }
    }
}

/// Returns the space on the log's disk that is reserved for RocksDB.
pub(crate) fn reserve_of(config: &Config) -> Reserve {
    let free_space = FreeSpace::of(config.deduplication.rocksdb_path.clone());
    Reserve::new(free_space, config.free_bytes_min())
}

impl Gateway {
    /// Opens the log and starts everything except the fan-out. Needs a Tokio runtime. Registers the
    /// metrics in `registry`.
    ///
    /// # Errors
    /// When the log cannot be opened, a sink or the dialler cannot be set up, or no thread can be
    /// started.
    pub fn build(
        config: &Config,
        identity: Arc<Signer>,
        environment: Environment,
        registry: &mut Registry,
    ) -> Result<Self, StartError> {
        let metrics = Metrics::register(registry);
        let reserve = environment.reserve.clone();
        let log = EventLog::open_with(
            &config.deduplication.rocksdb_path,
            config.storage.store_options(),
            config.storage.tail_bytes,
            environment.clock,
            environment.reserve,
        )?;
        let sizes = DedupeSizes {
            hotset: config.deduplication.hotset_size.get(),
            bloom: config.deduplication.bloom_capacity.get(),
            lru: config.deduplication.lru_size.get(),
        };
        let dedupe = Arc::new(Dedupe::new(Arc::clone(&log), sizes));
        let (disk_full, stopping) = (Arc::new(DiskFull::default()), Arc::new(AtomicBool::new(false)));
        let mut stages = Stages::default();
        let resolver = environment.resolver;
        let instance = InstanceId::random();
        // The dialer is built first, because its file of certificate authorities may be unusable.
        let dialer = Arc::new(dialer(config, instance, resolver.clone())?);
        let admission = Admission::shared(&config.filters);
        let liveness = Liveness::default();
        let refusals = Arc::new(Refusals::new(log.clock().unix_ms()));
        let (inboxes, shards) = shards(config, &dedupe, &admission, &refusals, &liveness);
        let sequencer = sequencer(config, &log, &disk_full)?.with_pulse(liveness.watch("sequencer"));
        let submissions = start_ingest(config, &mut stages, shards, sequencer, &dedupe, &metrics.ingest)?;
        if let Some(tap) = environment.submissions {
            // Sending fails only if the test has ended.
            let _ = tap.send(submissions);
        }
        let sinks = Arc::new(Workers::start(&config.output, &log, resolver, &metrics.sinks)?);
        let (limits, gauge) = (ConsumerLimits::of(&config.output), metrics.websocket.consumers.clone());
        let consumers = Consumers::open(Cursors::Consumers, limits, &log, gauge)?;
        let clients = Clients::new(ClientLimits::of(&config.output), metrics.websocket.clients.clone());
        let listeners = ClientLimits { in_all: OVERVIEW_LISTENERS_MAX, from_address: None };
        let listeners = Clients::new(listeners, metrics.process.overview_listeners.clone());
        let readers = Readers::new(&config.api.readers, &metrics.readers);
        start_bloom_rebuild(&mut stages, &dedupe, &stopping)?;
        let retention = Arc::new(ArcSwap::from_pointee(bounds_of(config)));
        start_retention(&retention, &mut stages, &log, &admission, &sinks, &stopping)?;
        let shared = Arc::new(Shared {
            dialer,
            dedupe: Arc::clone(&dedupe),
            inboxes: inboxes.clone(),
            refusals: Arc::clone(&refusals),
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
            link_limits: ArcSwap::from_pointee(LinkLimits::of(config)),
        });
        let (pool, supervisor) = Pool::new(config, shared)?;
        let supervisor = supervisor.with_pulse(liveness.watch("relay-pool"));
        liveness.watch_runtime("api-runtime", Handle::current());
        let stop = watch::Sender::new(false);
        let mut stopped = stop.subscribe();
        let supervisor = if environment.dials {
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
            refusals,
            inboxes: inboxes.gauge(),
            log,
            disk_full,
            reserve,
            metrics,
            admission,
            sinks,
            retention,
            clients,
            listeners,
            consumers,
            readers,
            identity,
            instance,
            fanout: OnceLock::new(),
            liveness,
        });
        Ok(Self { parts, stages, supervisor, clock, stop, stopping })
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

/// A shard for each core, with its name and its inbox.
fn shards(
    config: &Config,
    dedupe: &Arc<Dedupe>,
    admission: &Arc<ArcSwap<Admission>>,
    refusals: &Arc<Refusals>,
    liveness: &Liveness,
) -> (Inboxes, Vec<(String, Shard, Receiver<Inbound>)>) {
    let shards = std::thread::available_parallelism().map_or(2, usize::from);
    let (inboxes, receivers) = Inboxes::new(shards, frame_bytes_max(config.filters.max_event_bytes));
    let shard = |(index, inbox)| {
        let name = format!("shard-{index}");
        let shard = Shard::new(Arc::clone(dedupe), Arc::clone(admission))
            .with_refusals(Arc::clone(refusals))
            .with_pulse(liveness.watch(&*name));
        (name, shard, inbox)
    };
    (inboxes, receivers.into_iter().enumerate().map(shard).collect())
}

/// Starts the shards and the sequencer.
fn start_ingest(
    config: &Config,
    stages: &mut Stages,
    shards: Vec<(String, Shard, Receiver<Inbound>)>,
    sequencer: Sequencer,
    dedupe: &Arc<Dedupe>,
    metrics: &Arc<ingest::Metrics>,
) -> io::Result<SyncSender<Vec<Submission>>> {
    let (to_sequencer, bursts) = sync_channel(SEQUENCER_BURSTS_MAX);
    let limits = BurstLimits { candidates: config.output.batch_size.get(), time: config.output.max_latency };
    for (name, shard, inbox) in shards {
        let (to_sequencer, metrics) = (to_sequencer.clone(), Arc::clone(metrics));
        stages.spawn(name, move || shard.run(inbox, &to_sequencer, limits, &metrics))?;
    }
    let (dedupe, metrics) = (Arc::clone(dedupe), Arc::clone(metrics));
    stages.spawn("sequencer", move || {
        sequencer.run(&bursts, |entries| committed(&dedupe, &metrics, entries))
    })?;
    Ok(to_sequencer)
}

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
        tracing::info!(name: "bloom_complete", milliseconds, "the Bloom filter holds all known ids");
        Ok::<_, StorageError>(())
    })
}

/// The configured bounds of the log.
pub(super) fn bounds_of(config: &Config) -> Retention {
    let age_ms = |age: Duration| u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
    Retention {
        age_ms_max: config.storage.retention.map_or(0, age_ms),
        bytes_max: config.storage.max_bytes.map_or(0, Into::into),
        ..Retention::default()
    }
}

fn start_retention(
    bounds: &Arc<ArcSwap<Retention>>,
    stages: &mut Stages,
    log: &Arc<EventLog>,
    admission: &Arc<ArcSwap<Admission>>,
    sinks: &Arc<Workers>,
    stopping: &Arc<AtomicBool>,
) -> io::Result<()> {
    let (log, admission, stop) = (Arc::clone(log), Arc::clone(admission), Arc::clone(stopping));
    let (bounds, sinks) = (Arc::clone(bounds), Arc::clone(sinks));
    // Each run uses the current bounds, policy and sinks: ids are deleted only if the policy
    // refuses their events, and events that a sink still needs are not deleted by age.
    let present = move || Retention {
        needed_after: needed_after(&sinks.list()),
        admitted_age_secs_max: admission.load().age_secs_max(),
        ..**bounds.load()
    };
    stages.spawn("retention", move || log.keep_trimmed(present, &stop))
}
