//! Gateways that write to PostgreSQL concurrently, and the cost of writes.

use std::time::{Duration, Instant};

use moltrade_relayer::fanout::registry::{Change, FollowKey, RegistryError, Row, RowKey, Store};
use moltrade_relayer::limits::REGISTRY_TIMEOUT;
use relay_sim::wait::until_async;
use sqlx::PgConnection;
use tokio::join;
use tokio::time::timeout;

use crate::postgres::Database;
use crate::stores::{
    OTHER, OWNER, bot, bot_row, counted, follow, follow_row, gateway, loaded, loaded_by, somebody, sql, text,
    write,
};

/// While the owner changes, a writer with the old key waits and is then refused, because nobody
/// could decrypt that writer's secrets.
#[tokio::test]
async fn nobody_writes_while_the_owner_changes() {
    let database = Database::fresh();
    let store = gateway(&database).await;
    let mut hand = somebody(&database).await;
    sql(&mut hand, &format!("BEGIN; UPDATE meta SET value = '\\x{OTHER}' WHERE key = 'owner'")).await;
    let mut writing = store.write(OWNER, vec![Change::Put(bot_row(1, "one", 1))]);
    assert!(timeout(Duration::from_millis(300), &mut writing).await.is_err(), "it waits");
    sql(&mut hand, "COMMIT").await;
    let refused = writing.await.unwrap_err();
    assert!(matches!(refused, RegistryError::OtherKey { found: OTHER, ours: OWNER }), "{refused:?}");
    assert_eq!(loaded_by(OTHER, &store).await, []);
}

#[tokio::test]
async fn changing_the_owner_waits_for_writers() {
    let database = Database::fresh();
    let store = gateway(&database).await;
    write(&store, [bot_row(1, "one", 1)]).await;
    let mut hand = somebody(&database).await;
    let follow = follow(1, 8);
    sql(&mut hand, "BEGIN; SELECT FROM meta WHERE key = 'owner' FOR SHARE").await;
    let insert =
        format!("INSERT INTO follows VALUES ('\\x{}', '\\x{}', '\\x01', 2)", follow.bot, follow.follower);
    sql(&mut hand, &insert).await;
    let mut seen = 0;
    let mut reseal = |_: &_| {
        seen += 1;
        Ok(None)
    };
    let mut giving = store.rekey(OWNER, OTHER, &mut reseal);
    assert!(timeout(Duration::from_millis(300), &mut giving).await.is_err(), "it waits");
    sql(&mut hand, "COMMIT").await;
    assert_eq!(giving.await.unwrap(), 0);
    assert_eq!(seen, 1, "concurrent writes are resealed, too");
}

/// Commits the transaction of `hand` when another transaction waits for it.
async fn commit_when_waited_for(database: &Database, hand: &mut PgConnection) {
    let mut watcher = somebody(database).await;
    let waits =
        "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    until_async("a transaction waits", async || {
        sqlx::query(waits).fetch_optional(&mut watcher).await.unwrap().is_some()
    })
    .await;
    sql(hand, "COMMIT").await;
}

/// A concurrent follow must not prevent the removal of the bot.
#[tokio::test]
async fn removing_a_bot_removes_a_concurrent_follow() {
    let database = Database::fresh();
    let store = gateway(&database).await;
    write(&store, [bot_row(1, "one", 1)]).await;
    let mut hand = somebody(&database).await;
    let FollowKey { bot, follower } = follow(1, 8);
    let insert = format!("BEGIN; INSERT INTO follows VALUES ('\\x{bot}', '\\x{follower}', NULL, 2)");
    sql(&mut hand, &insert).await;
    let removing = store.write(OWNER, vec![Change::RemoveBot(bot)]);
    let (removed, ()) = join!(removing, commit_when_waited_for(&database, &mut hand));
    removed.unwrap();
    assert_eq!(loaded(&store).await, []);
}

#[tokio::test]
async fn a_decision_waits_for_concurrent_writes() {
    let database = Database::fresh();
    let store = gateway(&database).await;
    write(&store, [bot_row(1, "one", 1)]).await;
    let mut hand = somebody(&database).await;
    sql(&mut hand, "BEGIN; UPDATE bots SET name = 'two'").await;
    let mut seen = Vec::new();
    let mut decide = |rows: &[Option<Row>]| {
        seen = rows.to_vec();
        Ok(vec![Change::Put(bot_row(1, "three", 1))])
    };
    let (keys, until) = ([RowKey::Bot(bot(1))], tokio::time::Instant::now() + REGISTRY_TIMEOUT);
    let changing = store.change(OWNER, &keys, until, &mut decide);
    let (changed, ()) = join!(changing, commit_when_waited_for(&database, &mut hand));
    changed.unwrap();
    assert_eq!(seen, [Some(bot_row(1, "two", 1))]);
    assert_eq!(loaded(&store).await, [bot_row(1, "three", 1)]);
}

#[tokio::test]
async fn a_long_held_lock_makes_others_fail_in_time() {
    let database = Database::fresh();
    let store = gateway(&database).await;
    let mut hand = somebody(&database).await;
    sql(&mut hand, "BEGIN; LOCK TABLE bots").await;
    let since = Instant::now();
    let failed = store.write(OWNER, vec![Change::Put(bot_row(1, "one", 1))]).await.unwrap_err();
    assert!(failed.is_transient() && text(&failed).contains("lock timeout"), "{failed:?}");
    assert!(since.elapsed() < 2 * REGISTRY_TIMEOUT, "{:?}", since.elapsed());
    sql(&mut hand, "ROLLBACK").await;
    write(&store, [bot_row(1, "two", 1)]).await;
    assert_eq!(loaded(&store).await, [bot_row(1, "two", 1)], "a failed change was not applied later");
}

#[tokio::test]
async fn few_statements_do_much() {
    let database = Database::fresh();
    let (store, queries) = counted(&database.dsn, 1);
    store.prepare(OWNER).await.unwrap();
    let before = queries.get();
    let rows: Vec<Row> = [bot_row(1, "one", 1)]
        .into_iter()
        .chain((0..20_000).map(|n| follow_row(follow(1, n), &[7; 100], 1)))
        .collect();
    let since = Instant::now();
    write(&store, rows.clone()).await;
    println!("20,000 follows are written in {:?}", since.elapsed());
    assert_eq!(queries.get() - before, 3 + 1 + 10, "begin, owner, commit; the bot; 2,000 follows each");
    let before = queries.get();
    let keys: Vec<_> = rows.iter().map(Row::key).collect();
    assert!(store.read(OWNER, &keys).await.unwrap().into_iter().eq(rows.into_iter().map(Some)));
    assert_eq!(queries.get() - before, 3, "the bot, the follows, and the owner");
    let since = Instant::now();
    assert_eq!(loaded(&store).await.len(), 20_001);
    println!("and loaded in {:?}", since.elapsed());
    assert!(since.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn a_dropped_future_leaves_no_partial_change() {
    let database = Database::fresh();
    let (store, _) = counted(&database.dsn, 2);
    store.prepare(OWNER).await.unwrap();
    let change = || vec![Change::Put(bot_row(1, "one", 1)), Change::Put(follow_row(follow(1, 8), b"", 1))];
    for micros in (0..60).map(|step| step * 100) {
        timeout(Duration::from_micros(micros), store.write(OWNER, change())).await.ok();
        let count = loaded(&store).await.len();
        assert!(count == 0 || count == 2, "{count}");
    }
    write(&store, [bot_row(2, "two", 1)]).await;
    // The last write succeeds, whether or not any earlier write finished in time.
    assert!(loaded(&store).await.contains(&bot_row(2, "two", 1)));
}
