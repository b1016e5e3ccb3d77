//! What a gateway knows of its registry.

use std::sync::Arc;

use moltrade_relayer::event_log::{EventLog, StoreOptions};
use moltrade_relayer::fanout::registry::{
    BotName, BotRow, Change, Embedded, FollowKey, FollowRow, Registry, RegistryError, Room, Row, RowKey,
    Sealer, Store,
};
use moltrade_relayer::telemetry::Metrics;
use tempfile::TempDir;
use wire::{PublicKey, Signer};

const ROOM: Room = Room { bots: 2, follows: 3 };

fn key(seed: u64) -> PublicKey {
    *Signer::from_seed(seed).pubkey()
}

fn name(name: &str) -> BotName {
    BotName::new(name).unwrap()
}

fn follow(follower: u64) -> FollowKey {
    FollowKey { bot: key(1), follower: key(follower) }
}

/// A store of its own, and the gateway whose it is.
fn store(folder: &TempDir) -> (Arc<Embedded>, Signer) {
    let log = EventLog::open(folder.path(), StoreOptions { fsync: false }, 1 << 20).unwrap();
    (Arc::new(Embedded::new(log)), Signer::from_seed(50))
}

async fn open(store: &Arc<Embedded>, gateway: &Signer) -> Arc<Registry> {
    Registry::open(Arc::clone(store) as Arc<dyn Store>, gateway, ROOM, Arc::new(Metrics::new()))
        .await
        .unwrap()
}

/// It must not come back when its secret opens again.
#[tokio::test]
async fn a_follow_that_is_left_out_can_be_ended_and_made_anew() {
    let folder = TempDir::new().unwrap();
    let (store, gateway) = store(&folder);
    let owner = *gateway.pubkey();
    store.prepare(owner).await.unwrap();
    let bot = BotRow { pubkey: key(1), name: name("one"), registered_at_ms: 1 };
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

#[tokio::test]
async fn there_is_a_most_of_everything() {
    let folder = TempDir::new().unwrap();
    let (store, gateway) = store(&folder);
    let registry = open(&store, &gateway).await;
    for seed in 1..=2 {
        assert!(registry.register(key(seed), name("bot")).await.unwrap());
    }
    assert!(matches!(registry.register(key(3), name("bot")).await, Err(RegistryError::Full)));
    assert!(!registry.register(key(1), name("another name")).await.unwrap());
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
