//! Properties that every registry store must have.

use moltrade_relayer::fanout::registry::{Change, RegistryError, Row, RowKey, Store};

use tokio::time::{Duration, Instant};

use crate::stores::{OTHER, OWNER, TestStore, bot, bot_row, follow, follow_row, loaded, read, write};

/// Tests each property with each store.
macro_rules! of_both {
    ($($property:ident),* $(,)?) => {
        mod embedded {
            $(#[tokio::test]
            async fn $property() {
                super::$property(&*super::TestStore::embedded().await.store).await;
            })*
        }
        mod postgres {
            $(#[tokio::test]
            async fn $property() {
                super::$property(&*super::TestStore::postgres().await.store).await;
            })*
        }
    };
}
pub(crate) use of_both;

of_both![
    written_rows_are_read_and_loaded,
    a_row_that_is_put_again_keeps_its_earlier_time,
    a_follow_needs_its_bot,
    changes_are_made_in_their_order,
    all_changes_are_made_or_none,
    removing_a_missing_follow_succeeds,
    many_follows_are_loaded_and_read_in_order,
    any_field_value_is_stored_unchanged,
    an_empty_change_takes_no_lock,
    decisions_see_the_stored_rows,
    a_decision_has_exclusive_access_to_its_rows,
    removing_a_bot_removes_its_follows_or_requires_none,
];

async fn written_rows_are_read_and_loaded(store: &dyn Store) {
    assert_eq!(loaded(store).await, []);
    let rows = [
        bot_row(1, "one", 11),
        bot_row(2, "two", 12),
        follow_row(follow(1, 8), &[1, 2, 3], 13),
        follow_row(follow(1, 9), &[], 0),
        follow_row(follow(2, 7), &[255; 297], i64::MAX as u64),
    ];
    write(store, rows.clone()).await;
    assert_eq!(loaded(store).await, rows, "bots first, and in order");
    let keys = [
        rows[4].key(),
        RowKey::Follow(follow(2, 8)),
        rows[0].key(),
        RowKey::Bot(bot(3)),
        rows[3].key(),
        rows[0].key(),
    ];
    let found = [Some(&rows[4]), None, Some(&rows[0]), None, Some(&rows[3]), Some(&rows[0])];
    assert_eq!(store.read(OWNER, &keys).await.unwrap(), found.map(Option::<&Row>::cloned));
    assert_eq!(store.read(OWNER, &[]).await.unwrap(), []);
    store.write(OWNER, Vec::new()).await.unwrap();
    assert_eq!(loaded(store).await, rows);
}

async fn a_row_that_is_put_again_keeps_its_earlier_time(store: &dyn Store) {
    write(store, [bot_row(1, "old", 100), follow_row(follow(1, 8), b"old", 100)]).await;
    write(store, [bot_row(1, "new", 200), follow_row(follow(1, 8), b"new", 200)]).await;
    assert_eq!(loaded(store).await, [bot_row(1, "new", 100), follow_row(follow(1, 8), b"new", 100)]);
    write(store, [bot_row(1, "new", 50), follow_row(follow(1, 8), b"", 50)]).await;
    assert_eq!(loaded(store).await, [bot_row(1, "new", 50), follow_row(follow(1, 8), b"", 50)]);
    write(store, [follow_row(follow(1, 8), b"again", 60)]).await;
    assert_eq!(loaded(store).await, [bot_row(1, "new", 50), follow_row(follow(1, 8), b"again", 50)]);
}

async fn a_follow_needs_its_bot(store: &dyn Store) {
    write(store, [bot_row(1, "one", 1)]).await;
    let changes = [follow_row(follow(1, 8), b"", 2), follow_row(follow(7, 8), b"", 2)];
    let refused = store.write(OWNER, changes.map(Change::Put).to_vec()).await.unwrap_err();
    assert!(matches!(refused, RegistryError::NoSuchBot(missing) if missing == bot(7)), "{refused:?}");
    assert!(!refused.is_transient());
    // The bot must precede its follow.
    let changes = [follow_row(follow(7, 8), b"", 2), bot_row(7, "seven", 2)];
    let refused = store.write(OWNER, changes.map(Change::Put).to_vec()).await.unwrap_err();
    assert!(matches!(refused, RegistryError::NoSuchBot(missing) if missing == bot(7)), "{refused:?}");
    assert_eq!(loaded(store).await, [bot_row(1, "one", 1)]);
    write(store, [bot_row(7, "seven", 2), follow_row(follow(7, 8), b"", 2)]).await;
    assert_eq!(loaded(store).await.len(), 3);
}

async fn changes_are_made_in_their_order(store: &dyn Store) {
    let put = Change::Put;
    let changes = vec![
        put(bot_row(1, "first", 10)),
        put(bot_row(1, "second", 5)),
        put(bot_row(1, "third", 20)),
        put(follow_row(follow(1, 8), b"a", 1)),
        Change::Unfollow(follow(1, 8)),
        put(follow_row(follow(1, 8), b"b", 3)),
        put(follow_row(follow(1, 9), b"c", 4)),
        put(follow_row(follow(1, 9), b"d", 2)),
        Change::Unfollow(follow(1, 7)),
        put(follow_row(follow(1, 7), b"e", 1)),
        Change::Unfollow(follow(1, 7)),
    ];
    store.write(OWNER, changes).await.unwrap();
    let rows = [bot_row(1, "third", 5), follow_row(follow(1, 8), b"b", 3), follow_row(follow(1, 9), b"d", 2)];
    assert_eq!(loaded(store).await, rows, "a follow that was removed and added starts later");
}

async fn all_changes_are_made_or_none(store: &dyn Store) {
    write(store, [bot_row(1, "one", 1), follow_row(follow(1, 8), b"", 1)]).await;
    let before = loaded(store).await;
    let changes = vec![
        Change::Put(bot_row(2, "two", 1)),
        Change::Unfollow(follow(1, 8)),
        Change::Put(follow_row(follow(1, 9), b"", 1)),
        Change::Put(follow_row(follow(3, 9), b"", 1)),
        Change::Put(bot_row(1, "another", 1)),
    ];
    store.write(OWNER, changes).await.unwrap_err();
    assert_eq!(loaded(store).await, before);
}

async fn removing_a_missing_follow_succeeds(store: &dyn Store) {
    write(store, [bot_row(1, "one", 1), follow_row(follow(1, 8), b"", 1)]).await;
    let changes = vec![
        Change::Unfollow(follow(1, 9)),
        Change::Unfollow(follow(2, 8)),
        Change::Unfollow(follow(1, 8)),
        Change::Unfollow(follow(1, 8)),
    ];
    store.write(OWNER, changes).await.unwrap();
    assert_eq!(loaded(store).await, [bot_row(1, "one", 1)]);
    assert_eq!(read(store, RowKey::Follow(follow(1, 8))).await, None);
}

async fn many_follows_are_loaded_and_read_in_order(store: &dyn Store) {
    let rows: Vec<Row> =
        (0..10_000).map(|n| follow_row(follow(n % 3, n), &n.to_be_bytes(), n.into())).collect();
    let bots = (0..3).map(|n| bot_row(n, "a bot", 1));
    write(store, bots.chain(rows.iter().rev().cloned())).await;
    let mut sorted = rows.clone();
    sorted.sort_by_key(Row::key);
    assert!(loaded(store).await.split_off(3) == sorted);
    let keys: Vec<RowKey> = rows.iter().map(Row::key).collect();
    let found = store.read(OWNER, &keys).await.unwrap();
    assert!(found.into_iter().eq(rows.into_iter().map(Some)));
}

async fn any_field_value_is_stored_unchanged(store: &dyn Store) {
    let long = "é".repeat(99) + "🤖";
    let names = [
        "'; DROP TABLE bots; --",
        "\"$1\" \\x00 %s {}",
        "ボット \u{202e} \u{200d}",
        " ",
        "\u{fffd}\u{10ffff}",
        &long,
    ];
    let bots = names.iter().zip(0..).map(|(name, number)| bot_row(number, name, 1));
    let secrets = [&[0][..], b"'; DROP TABLE follows; --", &[0, 1, 0, 255], b"\\x00", &[0x80; 297]];
    let follows = secrets.iter().zip(0..).map(|(secret, number)| follow_row(follow(0, number), secret, 1));
    let rows: Vec<Row> = bots.chain(follows).collect();
    write(store, rows.clone()).await;
    write(store, rows.clone()).await;
    assert_eq!(loaded(store).await, rows);
    for row in rows {
        assert_eq!(read(store, row.key()).await, Some(row));
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

async fn decisions_see_the_stored_rows(store: &dyn Store) {
    write(store, [bot_row(1, "one", 1), follow_row(follow(1, 8), b"", 5)]).await;
    let keys = [RowKey::Follow(follow(1, 9)), RowKey::Bot(bot(1)), RowKey::Follow(follow(1, 8))];
    let mut seen = Vec::new();
    let mut decide = |rows: &[Option<Row>]| {
        seen = rows.to_vec();
        Ok(vec![Change::Unfollow(follow(1, 8)), Change::Put(follow_row(follow(1, 9), b"x", 7))])
    };
    store.change(OWNER, &keys, soon(), &mut decide).await.unwrap();
    assert_eq!(seen, [None, Some(bot_row(1, "one", 1)), Some(follow_row(follow(1, 8), b"", 5))]);
    let after = [bot_row(1, "one", 1), follow_row(follow(1, 9), b"x", 7)];
    assert_eq!(loaded(store).await, after);
    // A refused change has no effect, nor has a change that names an unknown bot.
    let mut refuse = |_: &[Option<Row>]| Err(RegistryError::Full);
    let refused = store.change(OWNER, &keys, soon(), &mut refuse).await.unwrap_err();
    assert!(matches!(refused, RegistryError::Full), "{refused:?}");
    let mut decide = |_: &[Option<Row>]| {
        Ok(vec![Change::Unfollow(follow(1, 9)), Change::Put(follow_row(follow(7, 9), b"", 1))])
    };
    let refused = store.change(OWNER, &keys, soon(), &mut decide).await.unwrap_err();
    assert!(matches!(refused, RegistryError::NoSuchBot(missing) if missing == bot(7)), "{refused:?}");
    let mut nothing = |_: &[Option<Row>]| Ok(Vec::new());
    store.change(OWNER, &keys, soon(), &mut nothing).await.unwrap();
    let refused = store.change(OTHER, &keys, soon(), &mut nothing).await.unwrap_err();
    assert!(matches!(refused, RegistryError::OtherKey { .. }), "{refused:?}");
    assert_eq!(loaded(store).await, after);
}

async fn removing_a_bot_removes_its_follows_or_requires_none(store: &dyn Store) {
    let follows = [
        follow_row(follow(1, 8), b"", 1),
        follow_row(follow(2, 8), b"", 1),
        follow_row(follow(2, 9), b"", 1),
    ];
    let bots = [bot_row(1, "one", 1), bot_row(2, "two", 1), bot_row(3, "three", 1)];
    write(store, bots.clone().into_iter().chain(follows.clone())).await;
    let refused = store.write(OWNER, vec![Change::RemoveUnfollowedBot(bot(1))]).await.unwrap_err();
    assert!(matches!(refused, RegistryError::Followed(followed) if followed == bot(1)), "{refused:?}");
    let changes = vec![
        Change::RemoveUnfollowedBot(bot(3)),
        Change::Unfollow(follow(1, 8)),
        Change::RemoveUnfollowedBot(bot(1)),
        Change::RemoveUnfollowedBot(bot(7)),
        Change::RemoveBot(bot(7)),
    ];
    store.write(OWNER, changes).await.unwrap();
    assert_eq!(loaded(store).await, [bots[1].clone(), follows[1].clone(), follows[2].clone()]);
    store.write(OWNER, vec![Change::RemoveBot(bot(2))]).await.unwrap();
    assert_eq!(loaded(store).await, []);
    let mut pending = bot_row(1, "one", 1);
    if let Row::Bot(bot) = &mut pending {
        bot.is_approved = false;
    }
    write(store, [pending.clone()]).await;
    assert_eq!(loaded(store).await, [pending]);
    write(store, [bot_row(1, "one", 1)]).await;
    assert_eq!(loaded(store).await, [bot_row(1, "one", 1)]);
}

/// Asserts that only one of many concurrent writers creates a follow.
async fn a_decision_has_exclusive_access_to_its_rows(store: &dyn Store) {
    write(store, [bot_row(1, "one", 1)]).await;
    for round in 0..20 {
        let made = (0..4).map(async |n| {
            let mut is_new = false;
            let mut decide = |rows: &[Option<Row>]| {
                is_new = rows[0].is_none();
                Ok(vec![Change::Put(follow_row(follow(1, round), &[n + 1], 1))])
            };
            let keys = [RowKey::Follow(follow(1, round))];
            store.change(OWNER, &keys, soon(), &mut decide).await.unwrap();
            usize::from(is_new)
        });
        let made: usize = futures_util::future::join_all(made).await.into_iter().sum();
        assert_eq!(made, 1, "round {round}");
    }
}

async fn an_empty_change_takes_no_lock(store: &dyn Store) {
    let wait = tokio::time::timeout(std::time::Duration::from_millis(50), store.changed());
    assert!(wait.await.is_err(), "nothing was changed");
}
