//! A server that hangs, or that stops and restarts. Each test has a dedicated server.

use std::future::Future;
use std::time::{Duration, Instant};

use moltrade_relayer::fanout::registry::{Change, Changed, RegistryError, RowKey, Store};

use relay_sim::wait::within;

use crate::postgres::Database;
use crate::stores::{OWNER, bot, bot_row, gateway, loaded, read, store, text, write};

/// Asserts that the operation fails in time with a transient error.
async fn assert_transient_in_time<T: std::fmt::Debug>(
    operation: impl Future<Output = Result<T, RegistryError>>,
) -> String {
    let since = Instant::now();
    let error = operation.await.expect_err("nobody answers");
    assert!(error.is_transient(), "{error:?}");
    assert!(since.elapsed() < Duration::from_secs(15), "{:?}", since.elapsed());
    text(&error)
}

#[tokio::test]
async fn a_frozen_server_fails_operations_in_time() {
    let database = Database::alone();
    let known = gateway(&database).await;
    write(&known, [bot_row(1, "one", 1)]).await;
    let changes = Changed::Rows(vec![RowKey::Bot(bot(1))]);
    within("the bot is reported", async { while known.changed().await.unwrap() != changes {} }).await;
    let new = store(&database.dsn);
    database.cluster().freeze();
    let keys = [RowKey::Bot(bot(1))];
    let (mut nothing, mut nothing_new, mut reseal) = (|_| {}, |_| {}, |_: &_| Ok(None));
    let change = || vec![Change::Put(bot_row(2, "two", 1))];
    let (first, second, third, fourth, fifth, sixth) = tokio::join!(
        assert_transient_in_time(known.read(OWNER, &keys)),
        assert_transient_in_time(known.load(OWNER, &mut nothing)),
        assert_transient_in_time(known.write(OWNER, change())),
        assert_transient_in_time(new.prepare(OWNER)),
        assert_transient_in_time(new.load(OWNER, &mut nothing_new)),
        assert_transient_in_time(known.rekey(OWNER, OWNER, &mut reseal)),
    );
    for text in [first, second, third, fourth, fifth, sixth] {
        assert!(text.contains("answer"), "{text}");
    }
    database.cluster().thaw();
    assert_eq!(loaded(&known).await[0], bot_row(1, "one", 1));
    write(
        &known,
        change().into_iter().filter_map(|change| match change {
            Change::Put(row) => Some(row),
            _ => None,
        }),
    )
    .await;
    assert_eq!(read(&new, RowKey::Bot(bot(2))).await, Some(bot_row(2, "two", 1)));
}

/// A listening connection is normally silent, so the store tests it regularly.
#[tokio::test]
async fn a_silent_server_is_tested() {
    let database = Database::alone();
    let store = gateway(&database).await;
    database.cluster().freeze();
    let since = Instant::now();
    let lost = store.changed().await.unwrap_err();
    assert!(lost.is_transient(), "{}", text(&lost));
    assert!(since.elapsed() < Duration::from_secs(22), "{:?}", since.elapsed());
    database.cluster().thaw();
    assert_eq!(store.changed().await.unwrap(), Changed::Unknown);
    write(&store, [bot_row(1, "one", 1)]).await;
    assert_eq!(store.changed().await.unwrap(), Changed::Rows(vec![RowKey::Bot(bot(1))]));
}

#[tokio::test]
async fn a_restarted_server_is_used_again() {
    let database = Database::alone();
    let store = gateway(&database).await;
    for round in 1..=2 {
        write(&store, [bot_row(round, "before", 1)]).await;
        database.cluster().stop();
        let down = assert_transient_in_time(store.read(OWNER, &[RowKey::Bot(bot(1))])).await;
        assert!(down.contains("Connection refused"), "{down}");
        database.cluster().start();
        assert_eq!(loaded(&store).await.len(), round as usize);
    }
}
