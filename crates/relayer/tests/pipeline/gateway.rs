//! A pipeline on a folder of its own, as a story tells it.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use moltrade_relayer::clock::Hands;
use moltrade_relayer::config::Config;
use moltrade_relayer::event_log::Cursor;
use moltrade_relayer::event_log::free_space::{FreeSpace, Reserve};
use moltrade_relayer::ingest::DropReason;
use moltrade_relayer::ingest::admission::Admission;
use moltrade_relayer::net::resolver::Resolver;
use moltrade_relayer::pipeline::{Pipeline, Surroundings};
use moltrade_relayer::relay::Changes;
use moltrade_relayer::relay::{ConnectionState, Peer};
use moltrade_relayer::tasks::StageFailure;
use relay_sim::Sim;
use relay_sim::wait::PATIENCE;
use tempfile::TempDir;
use tokio::runtime::Handle;
use wire::{ClaimedId, VerifiedEvent};

pub struct Gateway {
    pipeline: Option<Pipeline>,
    config: Config,
    free_space: FreeSpace,
    resolver: Resolver,
    /// What sets the clock.
    pub hands: Hands,
    _folder: TempDir,
}

impl Gateway {
    pub fn on(sim: &Sim) -> Self {
        Self::configured(sim, |_| {})
    }

    pub fn configured(sim: &Sim, change: impl FnOnce(&mut Config)) -> Self {
        Self::resolving(sim, Resolver::system(), change)
    }

    /// With a resolver of the test's own.
    pub fn resolving(sim: &Sim, resolver: Resolver, change: impl FnOnce(&mut Config)) -> Self {
        let folder = TempDir::new().expect("a folder");
        let mut config = Self::config(sim, &folder);
        change(&mut config);
        Self::start(config, folder, FreeSpace::from_fn(|| Ok(u64::MAX)), resolver)
    }

    /// On a disk whose free bytes the test decides.
    pub fn on_disk(sim: &Sim, free: Arc<AtomicU64>) -> Self {
        let folder = TempDir::new().expect("a folder");
        let config = Self::config(sim, &folder);
        let free_space = FreeSpace::from_fn(move || Ok(free.load(Ordering::Relaxed)));
        Self::start(config, folder, free_space, Resolver::system())
    }

    fn start(config: Config, folder: TempDir, free_space: FreeSpace, resolver: Resolver) -> Self {
        let hands = Hands::default();
        let mut gateway = Self { pipeline: None, config, free_space, resolver, hands, _folder: folder };
        gateway.go_on();
        gateway
    }

    fn go_on(&mut self) {
        let (free_space, resolver) = (self.free_space.clone(), self.resolver.clone());
        // Tests fill their disk down to the last byte.
        let surroundings =
            Surroundings { room: Reserve { free_space, bytes_min: 1 }, resolver, clock: self.hands.clock() };
        self.pipeline = Some(Pipeline::start_in(&self.config, surroundings).expect("starts"));
    }

    /// Stops in order; meanwhile something happens, and then it starts again on the same folder.
    #[allow(dead_code, reason = "only some of the tests that share this start again")]
    pub async fn restart(&mut self, meanwhile: impl FnOnce(&mut Config)) {
        self.pipeline.take().expect("running").drain().await.expect("stops in order");
        meanwhile(&mut self.config);
        self.go_on();
    }

    /// Takes up another configuration while it runs, as a reload does.
    pub async fn reload(&self, change: impl FnOnce(&mut Config)) -> Changes {
        let mut config = self.config.clone();
        change(&mut config);
        let changes = self.pipeline().pool.reload(&config).await.expect("reloaded");
        self.pipeline().admission.store(Arc::new(Admission::new(&config.filters)));
        changes
    }

    fn config(sim: &Sim, folder: &TempDir) -> Config {
        let mut config = Config::default();
        let urls = sim.urls();
        config.relay.bootstrap_relays = urls.iter().map(|url| url.parse().expect("a URL")).collect();
        config.relay.backfill = Some(Duration::from_secs(1_000_000 * 3600));
        config.deduplication.rocksdb_path = folder.path().join("log");
        config.storage.fsync = false;
        // Tests that are about something else count what was refused, however much that is.
        config.relay.max_offences_per_hour = None;
        config
    }

    pub fn pipeline(&self) -> &Pipeline {
        self.pipeline.as_ref().expect("running")
    }

    /// Stops in order.
    pub async fn drain(mut self) -> Result<(), StageFailure> {
        self.pipeline.take().expect("running").drain().await
    }

    /// Waits until something holds.
    pub async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let waiting = async {
            while !holds(self) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting)
            .await
            .unwrap_or_else(|_| panic!("waited in vain until {what}: {:?}", self.states()));
    }

    /// Waits until all of these events are in the log.
    pub async fn until_logged(&self, ids: impl IntoIterator<Item = wire::EventId>) {
        let mut missing: HashSet<ClaimedId> = ids.into_iter().map(ClaimedId::from).collect();
        let waiting = async {
            while !missing.is_empty() {
                missing.retain(|id| !self.pipeline().log.contains(id).expect("the log answers"));
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let outcome = tokio::time::timeout(PATIENCE, waiting).await;
        assert!(outcome.is_ok(), "{} events never came", missing.len());
    }

    /// Everything that is logged, in order.
    pub fn logged(&self) -> Vec<VerifiedEvent> {
        let (mut events, mut cursor) = (Vec::new(), Cursor::START);
        loop {
            let page = self.pipeline().log.page(cursor, 1_000, &[]).expect("readable");
            if page.entries.is_empty() {
                return events;
            }
            cursor = page.next_cursor;
            events.extend(page.entries.into_iter().map(|entry| entry.event));
        }
    }

    /// Waits until a relay has been in a state, and gives the reason that was shown then.
    pub async fn until_in(&self, relay: usize, label: &str) -> String {
        let reason = |gateway: &Self| {
            let history = gateway.peer(relay).history();
            let past = history.into_iter().find(|past| past.status == label)?;
            Some(past.reason.map(String::from).unwrap_or_default())
        };
        let what = format!("relay {relay} is {label}");
        self.until(&what, |gateway| reason(gateway).is_some()).await;
        reason(self).expect("states are not forgotten so soon")
    }

    pub fn peer(&self, relay: usize) -> Arc<Peer> {
        Arc::clone(&self.pipeline().pool.peers()[relay])
    }

    /// How all relays stand, for messages.
    fn states(&self) -> Vec<ConnectionState> {
        self.pipeline().pool.peers().iter().map(|peer| peer.state()).collect()
    }

    pub fn refused(&self, reason: DropReason) -> u64 {
        self.pipeline().metrics.dropped(reason).get()
    }

    /// Asserts that the log holds these events, each once and as it was signed, and nothing else.
    pub fn assert_holds_exactly(&self, events: &[VerifiedEvent]) {
        let logged = self.logged();
        let expected: HashSet<_> = events.iter().map(|event| event.json().clone()).collect();
        let found: HashSet<_> = logged.iter().map(|event| event.json().clone()).collect();
        assert_eq!(logged.len(), found.len(), "something is logged twice");
        assert_eq!(found.difference(&expected).count(), 0, "something else is logged");
        assert_eq!(expected.difference(&found).count(), 0, "something is missing");
        assert_eq!(self.pipeline().log.head().get(), logged.len() as u64, "numbers without gap");
    }
}

impl Drop for Gateway {
    /// RocksDB must not be in use when the process ends.
    fn drop(&mut self) {
        if let Some(pipeline) = self.pipeline.take() {
            let drained = tokio::task::block_in_place(|| Handle::current().block_on(pipeline.drain()));
            assert!(drained.is_ok() || std::thread::panicking(), "{drained:?}");
        }
    }
}
