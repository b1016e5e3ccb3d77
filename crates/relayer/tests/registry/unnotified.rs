//! Two gateways share one PostgreSQL, and one of them receives no notifications. The answers of
//! this gateway are still correct.

use std::sync::Arc;

use moltrade_relayer::fanout::Metrics;
use moltrade_relayer::fanout::keys::MessageKey;
use moltrade_relayer::fanout::registry::directory::UnsealedFollow;
use moltrade_relayer::fanout::registry::{
    BotName, FollowKey, NewBots, Registry, RegistryLimits, RowKey, Store,
};
use rustix::process::{Pid, Signal, kill_process};
use sqlx::{PgConnection, Row as _};
use tokio::task::JoinHandle;
use wire::{PublicKey, Signer};

use crate::postgres::Database;
use crate::stores::{somebody, sql, store};

const LIMITS: RegistryLimits = RegistryLimits { bots: 100, follows: 1_000 };

/// The registry of a gateway, which follows the changes of other gateways.
pub struct Gateway {
    pub registry: Arc<Registry>,
    pub metrics: Arc<Metrics>,
    following: JoinHandle<()>,
}

impl Gateway {
    pub async fn on(dsn: &str) -> Self {
        let metrics = Arc::new(Metrics::default());
        let store = Arc::new(store(dsn));
        let opened = Registry::open(store, &signer(), LIMITS, Arc::clone(&metrics)).await;
        let registry = opened.unwrap();
        let follows = Arc::clone(&registry);
        let following = tokio::spawn(async move { follows.keep_in_sync().await });
        Self { registry, metrics, following }
    }

    fn knows(&self, follow: &FollowKey) -> Option<UnsealedFollow> {
        self.registry.directory().follow(follow)
    }

    fn name(&self, bot: &PublicKey) -> String {
        self.registry.directory().bot(bot).map(|bot| bot.name().as_str().to_owned()).unwrap_or_default()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.following.abort();
    }
}

/// The owner of the registry.
pub fn signer() -> Signer {
    Signer::from_seed(50)
}

pub fn bot() -> PublicKey {
    *Signer::from_seed(1).pubkey()
}

pub fn follow(seed: u64) -> FollowKey {
    FollowKey { bot: bot(), follower: *Signer::from_seed(seed).pubkey() }
}

pub fn name(name: &str) -> BotName {
    BotName::new(name).unwrap()
}

pub async fn until(what: &str, is_so: impl Fn() -> bool) {
    relay_sim::wait::until(what, is_so).await;
}

/// Listening connections whose server processes are stopped. Notifications wait, and no gateway
/// notices the stop.
struct StoppedListeners {
    hand: PgConnection,
    listeners: Vec<Pid>,
}

impl StoppedListeners {
    async fn all(database: &Database) -> Self {
        let mut hand = somebody(database).await;
        let listening = "SELECT pid FROM pg_stat_activity
            WHERE application_name = 'moltrade-relayer' AND query LIKE 'LISTEN%'";
        let rows = sqlx::query(listening).fetch_all(&mut hand).await.unwrap();
        let listeners: Vec<Pid> = rows.iter().map(|row| Pid::from_raw(row.get(0)).unwrap()).collect();
        assert_eq!(listeners.len(), 2, "both gateways listen");
        listeners.iter().for_each(|pid| kill_process(*pid, Signal::STOP).unwrap());
        Self { hand, listeners }
    }

    /// Ends the stopped connections, so that the gateways reconnect.
    async fn end(mut self) {
        for pid in std::mem::take(&mut self.listeners) {
            sql(&mut self.hand, &format!("SELECT pg_terminate_backend({})", pid.as_raw_nonzero())).await;
            kill_process(pid, Signal::CONT).unwrap();
        }
    }
}

impl Drop for StoppedListeners {
    fn drop(&mut self) {
        for pid in &self.listeners {
            kill_process(*pid, Signal::CONT).ok();
        }
    }
}

async fn two(database: &Database) -> [Gateway; 2] {
    let gateways = [Gateway::on(&database.dsn).await, Gateway::on(&database.dsn).await];
    assert!(gateways[0].registry.register(bot(), name("one"), NewBots::Approved).await.unwrap().is_new);
    until("the other knows the bot", || gateways[1].name(&bot()) == "one").await;
    gateways
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_acknowledged_follow_wins() {
    let database = Database::alone();
    let [here, there] = two(&database).await;
    for seed in [11, 12] {
        assert!(here.registry.subscribe(follow(seed), None).await.unwrap());
        until("the other knows the follow", || there.knows(&follow(seed)).is_some()).await;
    }
    let stopped = StoppedListeners::all(&database).await;
    assert!(here.registry.unsubscribe(follow(11)).await.unwrap(), "it was there");
    assert!(there.registry.subscribe(follow(11), None).await.unwrap(), "it is made again");
    // The other direction works, too.
    assert!(here.registry.subscribe(follow(13), None).await.unwrap());
    assert!(!there.registry.subscribe(follow(13), None).await.unwrap(), "it is there");
    assert!(here.registry.unsubscribe(follow(12)).await.unwrap());
    assert!(!there.registry.unsubscribe(follow(12)).await.unwrap(), "it is gone");
    assert!(there.knows(&follow(12)).is_none() && there.knows(&follow(13)).is_some());
    stopped.end().await;
    for gateway in [&here, &there] {
        until("all is read again", || {
            gateway.knows(&follow(11)).is_some()
                && gateway.knows(&follow(12)).is_none()
                && gateway.knows(&follow(13)).is_some()
        })
        .await;
    }
    let keys = [11, 12, 13].map(|seed| RowKey::Follow(follow(seed)));
    let rows = store(&database.dsn).read(*signer().pubkey(), &keys).await.unwrap();
    assert_eq!(rows.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_acknowledged_name_wins() {
    let database = Database::alone();
    let [here, there] = two(&database).await;
    let stopped = StoppedListeners::all(&database).await;
    assert!(!here.registry.register(bot(), name("two"), NewBots::Approved).await.unwrap().is_new);
    assert!(
        !there.registry.register(bot(), name("one"), NewBots::Approved).await.unwrap().is_new,
        "this gateway still has the old name"
    );
    stopped.end().await;
    for gateway in [&here, &there] {
        until("all is read again", || gateway.name(&bot()) == "one").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_acknowledged_secret_wins() {
    let database = Database::alone();
    let [here, there] = two(&database).await;
    let (first, second) = (&b"the first secret of it"[..], &b"the second secret of it"[..]);
    assert!(here.registry.subscribe(follow(11), Some(first)).await.unwrap());
    until("the other knows the follow", || there.knows(&follow(11)).is_some()).await;
    let stopped = StoppedListeners::all(&database).await;
    assert!(!here.registry.subscribe(follow(11), Some(second)).await.unwrap());
    assert!(
        !there.registry.subscribe(follow(11), Some(first)).await.unwrap(),
        "this gateway still has the old secret"
    );
    stopped.end().await;
    let key = Some(Arc::new(MessageKey::from_shared_secret(first)));
    for gateway in [&here, &there] {
        until("all is read again", || gateway.knows(&follow(11)).is_some_and(|it| it.secret == key)).await;
    }
}

/// No listener is stopped, so a change may be reported before or after the next call.
#[tokio::test(flavor = "multi_thread")]
async fn a_follow_survives_hundreds_of_races() {
    let database = Database::fresh();
    let [here, there] = two(&database).await;
    let store = store(&database.dsn);
    let is_there = async || {
        let rows = store.read(*signer().pubkey(), &[RowKey::Follow(follow(11))]).await.unwrap();
        rows[0].is_some()
    };
    assert!(here.registry.subscribe(follow(11), None).await.unwrap());
    for round in 0..200 {
        let (one, other) = if round % 2 == 0 { (&here, &there) } else { (&there, &here) };
        assert!(one.registry.unsubscribe(follow(11)).await.unwrap(), "round {round}");
        assert!(other.registry.subscribe(follow(11), None).await.unwrap(), "round {round}");
    }
    for round in 0..200 {
        let ended = here.registry.unsubscribe(follow(11));
        let (ended, made) = tokio::join!(ended, there.registry.subscribe(follow(11), None));
        // The follow existed before. The order of the two calls decides whether it exists
        // afterwards.
        let (ended, made) = (ended.unwrap(), made.unwrap());
        assert!(ended, "round {round}");
        assert_eq!(is_there().await, made, "round {round}");
        if !made {
            assert!(here.registry.subscribe(follow(11), None).await.unwrap(), "round {round}");
        }
    }
    for gateway in [&here, &there] {
        until("it is known", || gateway.knows(&follow(11)).is_some()).await;
    }
}
