//! How a store receives other gateways' changes from PostgreSQL.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use moltrade_relayer::fanout::registry::{Change, Changed, Postgres, RowKey, Store};
use tokio::time::{Instant, sleep, timeout};

use crate::postgres::Database;
use crate::stores::{
    OWNER, bot, bot_row, follow, follow_row, gateway, loaded, read, somebody, sql, text, write,
};

/// The time limit for a notification, which takes milliseconds except on a busy machine.
const SOON: Duration = Duration::from_secs(20);

async fn next_change(store: &Postgres) -> Changed {
    timeout(SOON, store.changed()).await.expect("a change soon").unwrap()
}

#[tokio::test]
async fn gateways_receive_the_changes_of_others() {
    let database = Database::fresh();
    let (one, two) = (gateway(&database).await, gateway(&database).await);
    let rows = vec![
        Change::Put(bot_row(1, "one", 1)),
        Change::Put(follow_row(follow(1, 9), b"", 1)),
        Change::Put(follow_row(follow(1, 8), b"", 1)),
        Change::Put(follow_row(follow(1, 8), b"again", 1)),
    ];
    one.write(OWNER, rows).await.unwrap();
    let keys = vec![RowKey::Bot(bot(1)), RowKey::Follow(follow(1, 8)), RowKey::Follow(follow(1, 9))];
    assert_eq!(next_change(&two).await, Changed::Rows(keys), "each once");
    two.write(OWNER, vec![Change::Unfollow(follow(1, 9))]).await.unwrap();
    assert_eq!(
        next_change(&two).await,
        Changed::Rows(vec![RowKey::Follow(follow(1, 9))]),
        "also what it changed itself"
    );
    let Changed::Rows(rows) = next_change(&one).await else { panic!("few rows") };
    assert_eq!(rows.len(), 3);
}

#[tokio::test]
async fn manual_changes_are_received() {
    let database = Database::fresh();
    let store = gateway(&database).await;
    write(&store, [bot_row(1, "one", 1), follow_row(follow(1, 8), b"", 1)]).await;
    next_change(&store).await;
    let mut hand = somebody(&database).await;
    let row = |key| Changed::Rows(vec![key]);

    sql(&mut hand, "UPDATE bots SET name = 'changed'").await;
    assert_eq!(next_change(&store).await, row(RowKey::Bot(bot(1))));
    assert_eq!(read(&store, RowKey::Bot(bot(1))).await, Some(bot_row(1, "changed", 1)));
    let other = follow(1, 7);
    sql(&mut hand, &format!("UPDATE follows SET follower = '\\x{}'", other.follower)).await;
    let both = vec![RowKey::Follow(other), RowKey::Follow(follow(1, 8))];
    assert_eq!(next_change(&store).await, Changed::Rows(both), "the old row and the new row");
    sql(&mut hand, "DELETE FROM follows").await;
    assert_eq!(next_change(&store).await, row(RowKey::Follow(other)));
    sql(&mut hand, &format!("INSERT INTO bots VALUES ('\\x{}', 'two', 1)", bot(2))).await;
    assert_eq!(next_change(&store).await, row(RowKey::Bot(bot(2))));
    sql(&mut hand, "BEGIN; UPDATE bots SET name = 'never'; ROLLBACK; DELETE FROM follows").await;
    sql(&mut hand, "NOTIFY moltrade_relayer, 'b:what is this?'").await;
    assert_eq!(next_change(&store).await, Changed::Unknown, "rolled back changes are not reported");
    for statement in [
        "UPDATE meta SET value = value",
        "TRUNCATE follows",
        "TRUNCATE bots CASCADE",
        "NOTIFY moltrade_relayer",
        "TRUNCATE meta",
    ] {
        sql(&mut hand, statement).await;
        assert_eq!(next_change(&store).await, Changed::Unknown, "{statement}");
    }
}

#[tokio::test]
async fn many_changes_are_reported_together() {
    let database = Database::fresh();
    let (one, two) = (gateway(&database).await, gateway(&database).await);
    let follows = |numbers: Range<u32>, secret: &'static [u8]| {
        numbers.map(move |number| follow_row(follow(1, number), secret, 1))
    };
    write(&one, [bot_row(1, "one", 1)]).await;
    next_change(&two).await;
    write(&one, follows(0..100, b"a")).await;
    // The changes may arrive in two parts.
    let mut rows = 0;
    while rows < 100 {
        let Changed::Rows(more) = next_change(&two).await else { panic!("100 are reported one by one") };
        rows += more.len();
    }
    assert_eq!(rows, 100);
    write(&one, follows(100..201, b"a")).await;
    assert!(matches!(next_change(&two).await, Changed::Unknown), "101 that are new");
    write(&one, follows(0..101, b"b")).await;
    assert!(matches!(next_change(&two).await, Changed::Unknown), "101 that are other ones");
    // Writes that change no row are not reported.
    write(&one, follows(0..101, b"b")).await;
    write(&one, [bot_row(2, "two", 1)]).await;
    assert_eq!(next_change(&two).await, Changed::Rows(vec![RowKey::Bot(bot(2))]));
}

#[tokio::test]
async fn changes_after_prepare_are_reported() {
    let database = Database::fresh();
    let (one, two) = (gateway(&database).await, gateway(&database).await);
    assert_eq!(loaded(&one).await, []);
    write(&two, [bot_row(1, "one", 1)]).await;
    sleep(Duration::from_millis(100)).await;
    assert_eq!(next_change(&one).await, Changed::Rows(vec![RowKey::Bot(bot(1))]));
    // A store that has not been prepared does not know earlier changes.
    let third = crate::stores::store(&database.dsn);
    assert_eq!(next_change(&third).await, Changed::Unknown);
    write(&two, [bot_row(2, "two", 1)]).await;
    assert_eq!(next_change(&third).await, Changed::Rows(vec![RowKey::Bot(bot(2))]));
}

#[tokio::test]
async fn a_dropped_wait_misses_nothing() {
    let database = Database::fresh();
    let (one, two) = (gateway(&database).await, gateway(&database).await);
    let writing = async {
        for n in 0..300 {
            write(&two, [bot_row(n, "a bot", 1)]).await;
        }
    };
    let mut heard = BTreeSet::new();
    let hearing = async {
        let since = Instant::now();
        let mut wait = 0;
        while heard.len() < 300 {
            assert!(since.elapsed() < Duration::from_secs(30), "{} of 300", heard.len());
            wait = (wait + 37) % 1_500;
            if let Ok(changed) = timeout(Duration::from_micros(wait), one.changed()).await {
                let Changed::Rows(rows) = changed.unwrap() else { panic!("none was lost") };
                heard.extend(rows);
            }
        }
    };
    tokio::join!(writing, hearing);
    assert_eq!(heard, (0..300).map(|n| RowKey::Bot(bot(n))).collect());
}

#[tokio::test]
async fn after_a_restart_of_the_server_nothing_is_missed() {
    let database = Database::alone();
    let (one, two) = (gateway(&database).await, gateway(&database).await);
    write(&two, [bot_row(1, "one", 1)]).await;
    next_change(&one).await;

    database.cluster().stop();
    let lost = timeout(SOON, one.changed()).await.expect("noticed").unwrap_err();
    assert!(lost.is_transient(), "{}", text(&lost));
    let down = one.changed().await.unwrap_err();
    assert!(down.is_transient() && text(&down).contains("refused"), "{}", text(&down));
    database.cluster().start();
    // This write precedes the listener's reconnect.
    write(&two, [bot_row(2, "two", 1)]).await;
    // Preparing restarts the listener, but the changes in between remain unknown.
    one.prepare(OWNER).await.unwrap();
    assert_eq!(next_change(&one).await, Changed::Unknown);
    assert_eq!(loaded(&one).await.len(), 2);
    write(&two, [bot_row(3, "three", 1)]).await;
    assert_eq!(next_change(&one).await, Changed::Rows(vec![RowKey::Bot(bot(3))]));
}

#[tokio::test]
async fn after_its_connection_was_ended_nothing_is_missed() {
    let database = Database::fresh();
    let store = gateway(&database).await;
    let mut hand = somebody(&database).await;
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'moltrade-relayer'";
    for name in ["one", "two"] {
        sql(&mut hand, end).await;
        let lost = timeout(SOON, store.changed()).await.expect("noticed").unwrap_err();
        assert!(lost.is_transient(), "{}", text(&lost));
        write(&store, [bot_row(1, name, 1)]).await;
        assert_eq!(next_change(&store).await, Changed::Unknown);
        write(&store, [bot_row(2, name, 1)]).await;
        assert_eq!(next_change(&store).await, Changed::Rows(vec![RowKey::Bot(bot(2))]));
    }
}
