//! The owner of a registry: only the key that encrypted its secrets may write.

use moltrade_relayer::event_log::{EventLog, StoreOptions};
use moltrade_relayer::fanout::registry::{
    Change, Embedded, FollowRow, RegistryError, Row, SealedSecret, Store,
};
use tempfile::TempDir;
use wire::PublicKey;

use crate::conformance::of_both;
use crate::stores::{OTHER, OWNER, TestStore, bot_row, follow, follow_row, loaded, loaded_by, text, write};

of_both![
    a_registry_belongs_to_one_key,
    the_owner_can_change,
    nobody_reads_the_rows_of_another_owner,
    all_secrets_are_resealed_or_none,
    many_secrets_are_resealed,
    concurrent_writes_are_resealed_or_refused,
];

async fn a_registry_belongs_to_one_key(store: &dyn Store) {
    store.prepare(OWNER).await.unwrap();
    let of_other = |refused: RegistryError| {
        let is_right =
            matches!(refused, RegistryError::OtherKey { found, ours } if (found, ours) == (OWNER, OTHER));
        assert!(is_right, "{refused:?}");
        assert!(text(&refused).contains(&OWNER.to_string()));
    };
    of_other(store.prepare(OTHER).await.unwrap_err());
    of_other(store.write(OTHER, vec![Change::Put(bot_row(1, "one", 1))]).await.unwrap_err());
    of_other(store.rekey(OTHER, OTHER, &mut |_| Ok(None)).await.unwrap_err());
    assert_eq!(loaded(store).await, []);
    write(store, [bot_row(1, "one", 1)]).await;
}

fn turned(secret: &SealedSecret) -> SealedSecret {
    let turned: Vec<u8> = secret.as_bytes().iter().rev().copied().collect();
    SealedSecret::from_bytes(&turned).unwrap()
}

async fn the_owner_can_change(store: &dyn Store) {
    let mut rows = [
        bot_row(1, "one", 1),
        follow_row(follow(1, 7), b"abc", 2),
        follow_row(follow(1, 8), b"", 3),
        follow_row(follow(1, 9), b"xy", 4),
    ];
    write(store, rows.clone()).await;
    let mut seen = Vec::new();
    let mut reseal = |follow: &FollowRow| {
        seen.push(Row::Follow(follow.clone()));
        Ok(follow.secret.as_ref().map(turned))
    };
    assert_eq!(store.rekey(OWNER, OTHER, &mut reseal).await.unwrap(), 2);
    assert_eq!(seen, [rows[1].clone(), rows[3].clone()]);
    rows[1] = follow_row(follow(1, 7), b"cba", 2);
    rows[3] = follow_row(follow(1, 9), b"yx", 4);
    assert_eq!(loaded_by(OTHER, store).await, rows);
    let refused = store.write(OWNER, vec![Change::Unfollow(follow(1, 8))]).await.unwrap_err();
    assert!(matches!(refused, RegistryError::OtherKey { found: OTHER, ours: OWNER }), "{refused:?}");
    assert!(store.prepare(OWNER).await.is_err());
    store.prepare(OTHER).await.unwrap();
    store.write(OTHER, vec![Change::Unfollow(follow(1, 8))]).await.unwrap();
}

async fn nobody_reads_the_rows_of_another_owner(store: &dyn Store) {
    let rows = [bot_row(1, "one", 1), follow_row(follow(1, 7), b"abc", 2)];
    write(store, rows.clone()).await;
    let keys = rows.each_ref().map(Row::key);
    let refused = async |ours: PublicKey, found: PublicKey| {
        let mut called = 0;
        let errors = [
            store.load(ours, &mut |_| called += 1).await.unwrap_err(),
            store.read(ours, &keys).await.unwrap_err(),
            store.read(ours, &keys[..1]).await.unwrap_err(),
            store.read(ours, &[]).await.unwrap_err(),
        ];
        for error in errors {
            let is_right =
                matches!(error, RegistryError::OtherKey { found: f, ours: o } if (f, o) == (found, ours));
            assert!(is_right, "{error:?}");
        }
        assert_eq!(called, 0, "rows were returned before the owner was checked");
    };
    refused(OTHER, OWNER).await;
    let mut reseal = |follow: &FollowRow| Ok(follow.secret.as_ref().map(turned));
    store.rekey(OWNER, OTHER, &mut reseal).await.unwrap();
    refused(OWNER, OTHER).await;
    let rows = [rows[0].clone(), follow_row(follow(1, 7), b"cba", 2)];
    assert_eq!(loaded_by(OTHER, store).await, rows);
    assert_eq!(store.read(OTHER, &keys).await.unwrap(), rows.map(Some));
}

async fn all_secrets_are_resealed_or_none(store: &dyn Store) {
    let follows = (0..5_000).map(|n| follow_row(follow(1, n), b"secret", 2));
    write(store, [bot_row(1, "one", 1)].into_iter().chain(follows)).await;
    let before = loaded(store).await;
    let mut count = 0;
    let mut reseal = |follow: &FollowRow| {
        count += 1;
        let stop = RegistryError::Damaged("it does not open".to_owned());
        if count == 4_999 { Err(stop) } else { Ok(follow.secret.as_ref().map(turned)) }
    };
    let failed = store.rekey(OWNER, OTHER, &mut reseal).await.unwrap_err();
    assert!(matches!(&failed, RegistryError::Damaged(why) if why == "it does not open"), "{failed:?}");
    assert!(loaded(store).await == before);
    store.write(OWNER, Vec::new()).await.unwrap();
}

async fn many_secrets_are_resealed(store: &dyn Store) {
    let follows = (0..5_000).map(|n| follow_row(follow(n % 2, n), &n.to_le_bytes(), 2));
    write(store, [bot_row(0, "zero", 1), bot_row(1, "one", 1)].into_iter().chain(follows)).await;
    let mut reseal = |follow: &FollowRow| Ok(follow.secret.as_ref().map(turned));
    assert_eq!(store.rekey(OWNER, OTHER, &mut reseal).await.unwrap(), 5_000);
    let rows = loaded_by(OTHER, store).await;
    let mut follows: Vec<Row> =
        (0..5_000).map(|n| follow_row(follow(n % 2, n), &n.to_be_bytes(), 2)).collect();
    follows.sort_by_key(Row::key);
    assert!(rows[2..] == follows);
}

async fn concurrent_writes_are_resealed_or_refused(store: &dyn Store) {
    let follows = (0..5_000).map(|n| follow_row(follow(1, n), b"ab", 2));
    write(store, [bot_row(1, "one", 1)].into_iter().chain(follows)).await;
    let mut reseal = |follow: &FollowRow| Ok(follow.secret.as_ref().map(turned));
    // The first row and the last row of the table.
    let changes = [0, 9_999].map(|number| Change::Put(follow_row(follow(1, number), b"cd", 2)));
    let (given, written) =
        tokio::join!(store.rekey(OWNER, OTHER, &mut reseal), store.write(OWNER, changes.to_vec()));
    given.unwrap();
    let rows = loaded_by(OTHER, store).await;
    let expected = if written.is_ok() { b"dc" } else { b"ba" };
    assert_eq!(rows[1], follow_row(follow(1, 0), expected, 2), "{written:?}");
    assert_eq!(rows.len(), if written.is_ok() { 5_002 } else { 5_001 });
    assert!(
        rows[2..5_001].iter().all(
            |row| matches!(row, Row::Follow(follow) if follow.secret == SealedSecret::from_bytes(b"ba"))
        )
    );
}

#[tokio::test]
async fn the_embedded_registry_survives_a_restart() {
    let folder = TempDir::new().unwrap();
    let open = || {
        Embedded::new(
            EventLog::open(folder.path(), StoreOptions { fsync: false, ..StoreOptions::default() }, 1 << 20)
                .unwrap(),
        )
    };
    let store = open();
    let unowned = store.write(OWNER, Vec::new()).await.unwrap_err();
    assert!(matches!(unowned, RegistryError::Damaged(_)), "{unowned:?}");
    store.prepare(OWNER).await.unwrap();
    write(&store, [bot_row(1, "one", 1)]).await;
    drop(store);
    let store = open();
    assert!(matches!(store.prepare(OTHER).await, Err(RegistryError::OtherKey { .. })));
    store.prepare(OWNER).await.unwrap();
    assert_eq!(loaded(&store).await, [bot_row(1, "one", 1)]);
}

#[tokio::test]
async fn changes_at_once_are_made_one_after_the_other() {
    for test in [TestStore::embedded().await, TestStore::postgres().await] {
        let store = &*test.store;
        write(store, [bot_row(1, "one", 1)]).await;
        let change = |n: u32| {
            store.write(OWNER, vec![Change::Put(follow_row(follow(1, 8), b"", 1_000 - u64::from(n)))])
        };
        for done in futures_util::future::join_all((0..50).map(change)).await {
            done.unwrap();
        }
        let rows = [bot_row(1, "one", 1), follow_row(follow(1, 8), b"", 951)];
        assert_eq!(loaded(store).await, rows, "none reads what another is about to change");
    }
}
