//! A pipeline with a separate folder, driven step by step by a test.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use moltrade_relayer::clock::ManualClock;
use moltrade_relayer::config::Config;
use moltrade_relayer::event_log::Cursor;
use moltrade_relayer::gateway::DrainError;
use moltrade_relayer::ingest::DropReason;
use moltrade_relayer::ingest::admission::Admission;
use moltrade_relayer::net::resolver::Resolver;
use moltrade_relayer::relay::{Changes, ConnectionState, Peer};
use moltrade_relayer::testing::{Setup, TestGateway};
use relay_sim::Sim;
use relay_sim::wait::PATIENCE;
use tempfile::TempDir;
use tokio::runtime::Handle;
use tokio::task::block_in_place;
use wire::{ClaimedId, VerifiedEvent};

pub struct Gateway {
    running: Option<TestGateway>,
    setup: Setup,
    /// The handle that sets the clock.
    pub manual_clock: ManualClock,
    _folder: TempDir,
}

impl Gateway {
    pub async fn on(sim: &Sim) -> Self {
        Self::configured(sim, |_| {}).await
    }

    pub async fn configured(sim: &Sim, change: impl FnOnce(&mut Config)) -> Self {
        Self::resolving(sim, Resolver::system(), change).await
    }

    /// Starts a gateway that resolves names with the test's resolver.
    pub async fn resolving(sim: &Sim, resolver: Resolver, change: impl FnOnce(&mut Config)) -> Self {
        let folder = TempDir::new().expect("a folder");
        let mut config = Self::config(sim, &folder);
        change(&mut config);
        Self::start(Setup { resolver, ..Setup::new(config) }, folder).await
    }

    /// Starts a gateway on a disk whose free bytes the test sets.
    pub async fn on_disk(sim: &Sim, free_bytes: Arc<AtomicU64>) -> Self {
        let folder = TempDir::new().expect("a folder");
        Self::start(Setup { free_bytes, ..Setup::new(Self::config(sim, &folder)) }, folder).await
    }

    async fn start(setup: Setup, folder: TempDir) -> Self {
        let running = Some(setup.clone().start().await.expect("starts"));
        Self { running, manual_clock: setup.manual_clock.clone(), setup, _folder: folder }
    }

    /// Stops gracefully, calls `meanwhile`, and restarts on the same folder.
    #[allow(dead_code, reason = "only some of the tests that share this start again")]
    pub async fn restart(&mut self, meanwhile: impl FnOnce(&mut Config)) {
        self.running.take().expect("running").drain().await.expect("stops in order");
        meanwhile(&mut self.setup.loaded.config);
        self.running = Some(self.setup.clone().start().await.expect("starts"));
    }

    /// Applies a changed configuration at run time, as a reload does.
    pub async fn reload(&self, change: impl FnOnce(&mut Config)) -> Changes {
        let mut config = self.setup.loaded.config.clone();
        change(&mut config);
        let changes = self.pool.reload(&config).await.expect("reloaded");
        self.admission.store(Arc::new(Admission::new(&config.filters)));
        changes
    }

    fn config(sim: &Sim, folder: &TempDir) -> Config {
        let mut config = Config::default();
        let urls = sim.urls();
        config.relay.bootstrap_relays = urls.iter().map(|url| url.parse().expect("a URL")).collect();
        config.relay.backfill = Some(Duration::from_secs(1_000_000 * 3600));
        config.deduplication.rocksdb_path = folder.path().join("log");
        config.storage.fsync = false;
        // In most tests, offences must not cause quarantine.
        config.relay.max_offences_per_hour = None;
        config
    }

    /// Stops gracefully.
    pub async fn drain(mut self) -> Result<(), DrainError> {
        self.running.take().expect("running").drain().await
    }

    /// Waits until a condition holds.
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
                missing.retain(|id| !self.log.contains(id).expect("the log answers"));
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let outcome = tokio::time::timeout(PATIENCE, waiting).await;
        assert!(outcome.is_ok(), "{} events never came", missing.len());
    }

    /// All logged events, in order.
    pub fn logged(&self) -> Vec<VerifiedEvent> {
        let (mut events, mut cursor) = (Vec::new(), Cursor::START);
        loop {
            let page = self.log.page(cursor, 1_000, &[]).expect("readable");
            if page.entries.is_empty() {
                return events;
            }
            cursor = page.next_cursor;
            events.extend(page.entries.into_iter().map(|entry| entry.event));
        }
    }

    /// Waits until a relay is in a state, and returns the reason shown for this state.
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
        Arc::clone(&self.pool.peers()[relay])
    }

    /// The states of all relays, for failure messages.
    fn states(&self) -> Vec<ConnectionState> {
        self.pool.peers().iter().map(|peer| peer.state()).collect()
    }

    pub fn refused(&self, reason: DropReason) -> u64 {
        self.metrics.ingest.dropped[reason].get()
    }

    /// Asserts that the log has exactly these events, each once and with the signed bytes.
    pub fn assert_holds_exactly(&self, events: &[VerifiedEvent]) {
        let logged = self.logged();
        let expected: HashSet<_> = events.iter().map(|event| event.json().clone()).collect();
        let found: HashSet<_> = logged.iter().map(|event| event.json().clone()).collect();
        assert_eq!(logged.len(), found.len(), "something is logged twice");
        assert_eq!(found.difference(&expected).count(), 0, "something else is logged");
        assert_eq!(expected.difference(&found).count(), 0, "something is missing");
        assert_eq!(self.log.head().get(), logged.len() as u64, "numbers without gap");
    }
}

/// After every test, checks that the gateway can be drained in its final state.
impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            let drained = block_in_place(|| Handle::current().block_on(running.drain()));
            assert!(drained.is_ok() || std::thread::panicking(), "{drained:?}");
        }
    }
}

impl std::ops::Deref for Gateway {
    type Target = TestGateway;

    fn deref(&self) -> &TestGateway {
        self.running.as_ref().expect("running")
    }
}
