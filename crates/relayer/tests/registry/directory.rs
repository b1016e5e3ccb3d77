//! The in-memory directory of a gateway's registry.

use std::sync::Arc;

use moltrade_relayer::event_log::{EventLog, Seq, StoreOptions};
use moltrade_relayer::fanout::Metrics;
use moltrade_relayer::fanout::registry::directory::LastSignal;
use moltrade_relayer::fanout::registry::{
    BotName, BotRow, Change, Embedded, FollowKey, FollowRow, NewBots, Registered, Registry, RegistryError,
    RegistryLimits, Row, RowKey, Sealer, Store,
};
use tempfile::TempDir;
use wire::{PublicKey, Signer};

const LIMITS: RegistryLimits = RegistryLimits { bots: 2, follows: 3 };

fn key(seed: u64) -> PublicKey {
    *Signer::from_seed(seed).pubkey()
}

/// The bot with this seed publishes a signal.
fn publishes(registry: &Registry, seed: u64) {
    let id = Signer::from_seed(seed).sign(1, 30_931, &[] as &[[&str; 0]], "buy").id();
    registry.directory().signalled([(key(seed), LastSignal { seq: Seq::FIRST, id, received_at_ms: 1 })]);
}

fn name(name: &str) -> BotName {
    BotName::new(name).unwrap()
}

fn follow(follower: u64) -> FollowKey {
    FollowKey { bot: key(1), follower: key(follower) }
}

/// A store, and the key of the gateway that owns it.
fn store(folder: &TempDir) -> (Arc<Embedded>, Signer) {
    let log =
        EventLog::open(folder.path(), StoreOptions { fsync: false, ..StoreOptions::default() }, 1 << 20)
            .unwrap();
    (Arc::new(Embedded::new(log)), Signer::from_seed(50))
}

async fn open(store: &Arc<Embedded>, gateway: &Signer) -> Arc<Registry> {
    Registry::open(Arc::clone(store) as Arc<dyn Store>, gateway, LIMITS, Arc::new(Metrics::default()))
        .await
        .unwrap()
}

/// A removed follow must not return as soon as its secret can be decrypted again.
#[tokio::test]
async fn an_ignored_follow_can_be_removed_and_added_again() {
    let folder = TempDir::new().unwrap();
    let (store, gateway) = store(&folder);
    let owner = *gateway.pubkey();
    store.prepare(owner).await.unwrap();
    let bot = BotRow { pubkey: key(1), name: name("one"), registered_at_ms: 1, is_approved: true };
    let foreign = Sealer::new(&Signer::from_seed(51));
    let sealed = |follower| {
        let secret = Some(foreign.seal(&follow(follower), b"of another key of ours"));
        Change::Put(Row::Follow(FollowRow { key: follow(follower), secret, since_ms: 1 }))
    };
    store.write(owner, vec![Change::Put(Row::Bot(bot)), sealed(2), sealed(3)]).await.unwrap();
    let registry = open(&store, &gateway).await;
    assert_eq!(registry.directory().len(), (1, 0));
    assert!(registry.unsubscribe(follow(2)).await.unwrap(), "it is in the store");
    assert!(!registry.subscribe(follow(3), Some(b"a secret of now, ours")).await.unwrap(), "so is this");
    let rows = store.read(owner, &[RowKey::Follow(follow(2)), RowKey::Follow(follow(3))]).await.unwrap();
    assert!(rows[0].is_none() && rows[1].is_some());
    assert_eq!(open(&store, &gateway).await.directory().len(), (1, 1));
}

/// A change that stores an approved bot.
fn bot_row(seed: u64, registered_at_ms: u64) -> Change {
    let (pubkey, name) = (key(seed), name("a bot"));
    Change::Put(Row::Bot(BotRow { pubkey, name, registered_at_ms, is_approved: true }))
}

async fn register(
    registry: &Arc<Registry>,
    seed: u64,
    text: &str,
    new_bots: NewBots,
) -> Result<Registered, RegistryError> {
    registry.register(key(seed), name(text), new_bots).await
}

/// Registrations with generated keys must not block a bot permanently.
#[tokio::test]
async fn idle_bots_are_evicted_oldest_first() {
    let folder = TempDir::new().unwrap();
    let (store, gateway) = store(&folder);
    let owner = *gateway.pubkey();
    store.prepare(owner).await.unwrap();
    store.write(owner, vec![bot_row(1, 200), bot_row(2, 100)]).await.unwrap();
    let registry = open(&store, &gateway).await;
    for (seed, gone, kept) in [(3, 2, 1), (4, 1, 3)] {
        assert!(register(&registry, seed, "new", NewBots::Approved).await.unwrap().is_new);
        assert!(
            registry.directory().bot(&key(gone)).is_none() && registry.directory().bot(&key(kept)).is_some()
        );
    }
    let again = open(&store, &gateway).await;
    assert_eq!(again.directory().len(), (2, 0), "in the store, too");
    // In an outdated directory a bot may be idle although it has followers in the store. Those
    // followers must not be lost.
    let follow = FollowRow { key: FollowKey { bot: key(3), follower: key(9) }, secret: None, since_ms: 1 };
    publishes(&registry, 4);
    store.write(owner, vec![Change::Put(Row::Follow(follow))]).await.unwrap();
    let full = register(&registry, 5, "new", NewBots::Approved).await;
    assert!(matches!(full, Err(RegistryError::Full)), "{full:?}");
    assert_eq!(open(&store, &gateway).await.directory().len(), (2, 1));
}

#[tokio::test]
async fn a_followed_bot_is_never_evicted() {
    let folder = TempDir::new().unwrap();
    let (store, gateway) = store(&folder);
    let owner = *gateway.pubkey();
    store.prepare(owner).await.unwrap();
    let followed = FollowRow { key: follow(9), secret: None, since_ms: 1 };
    store
        .write(owner, vec![bot_row(1, 100), bot_row(2, 200), Change::Put(Row::Follow(followed))])
        .await
        .unwrap();
    let registry = open(&store, &gateway).await;
    assert!(register(&registry, 3, "new", NewBots::Approved).await.unwrap().is_new);
    assert!(registry.directory().bot(&key(1)).is_some(), "it is older but has a follower");
    assert!(registry.directory().bot(&key(2)).is_none());
    registry.subscribe(FollowKey { bot: key(3), follower: key(9) }, None).await.unwrap();
    let full = register(&registry, 4, "newer", NewBots::Approved).await;
    assert!(matches!(full, Err(RegistryError::Full)), "{full:?}");
}

#[tokio::test]
async fn a_bot_that_waits_for_approval_cannot_be_followed() {
    let folder = TempDir::new().unwrap();
    let (store, gateway) = store(&folder);
    let registry = open(&store, &gateway).await;
    let closed = register(&registry, 1, "bot", NewBots::Refused).await;
    assert!(matches!(closed, Err(RegistryError::Closed)), "{closed:?}");
    let pending = Registered { is_new: true, is_approved: false };
    assert_eq!(register(&registry, 1, "bot", NewBots::Pending).await.unwrap(), pending);
    for registry in [&registry, &open(&store, &gateway).await] {
        let refused = registry.subscribe(follow(2), None).await;
        assert!(matches!(refused, Err(RegistryError::NotApproved(_))), "{refused:?}");
    }
    // Follows that someone wrote directly for an unapproved bot have no effect.
    let row = FollowRow { key: follow(3), secret: None, since_ms: 1 };
    store.write(*gateway.pubkey(), vec![Change::Put(Row::Follow(row))]).await.unwrap();
    assert_eq!(open(&store, &gateway).await.directory().len(), (1, 0));
    assert!(registry.approve(key(1)).await.unwrap());
    assert!(!registry.approve(key(1)).await.unwrap(), "it no longer waits");
    assert!(registry.subscribe(follow(2), None).await.unwrap());
    // Renaming a bot does not require another approval.
    let renamed = Registered { is_new: false, is_approved: true };
    assert_eq!(register(&registry, 1, "another", NewBots::Pending).await.unwrap(), renamed);
    assert_eq!(open(&store, &gateway).await.directory().len(), (1, 2));
    assert!(registry.remove_bot(key(1)).await.unwrap());
    assert!(!registry.remove_bot(key(1)).await.unwrap());
    assert_eq!(registry.directory().len(), (0, 0));
    assert_eq!(open(&store, &gateway).await.directory().len(), (0, 0), "nor its follows");
}

#[tokio::test]
async fn every_limit_holds() {
    let folder = TempDir::new().unwrap();
    let (store, gateway) = store(&folder);
    let registry = open(&store, &gateway).await;
    for seed in 1..=2 {
        assert!(register(&registry, seed, "bot", NewBots::Approved).await.unwrap().is_new);
    }
    // A bot is not evicted if it has followers or has published.
    let other = FollowKey { bot: key(2), follower: key(10) };
    assert!(registry.subscribe(other, None).await.unwrap());
    publishes(&registry, 1);
    let full = register(&registry, 3, "bot", NewBots::Approved).await;
    assert!(matches!(full, Err(RegistryError::Full)), "{full:?}");
    assert!(registry.unsubscribe(other).await.unwrap());
    assert!(!register(&registry, 1, "another name", NewBots::Approved).await.unwrap().is_new);
    for follower in 10..13 {
        assert!(registry.subscribe(follow(follower), None).await.unwrap());
    }
    assert!(matches!(registry.subscribe(follow(13), None).await, Err(RegistryError::Full)));
    assert!(!registry.subscribe(follow(10), Some(b"sixteen bytes at least")).await.unwrap());
    assert!(registry.unsubscribe(follow(10)).await.unwrap());
    assert!(registry.subscribe(follow(13), None).await.unwrap());
    let unknown = FollowKey { bot: key(9), follower: key(10) };
    assert!(matches!(registry.subscribe(unknown, None).await, Err(RegistryError::NoSuchBot(_))));
}
