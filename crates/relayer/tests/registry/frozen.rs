//! A server that does not answer, and one that goes and comes back. It is our own in any case.

use std::future::Future;
use std::time::{Duration, Instant};

use moltrade_relayer::fanout::registry::{Change, Changed, RegistryError, RowKey, Store};

use relay_sim::wait::within;

use crate::bench::{OWNER, bot, bot_row, gateway, loaded, read, store, text, write};
use crate::postgres::Database;

/// It fails in time, and it passes.
async fn passes<T: std::fmt::Debug>(operation: impl Future<Output = Result<T, RegistryError>>) -> String {
    let since = Instant::now();
    let error = operation.await.expect_err("nobody answers");
    assert!(error.is_transient(), "{error:?}");
    assert!(since.elapsed() < Duration::from_secs(15), "{:?}", since.elapsed());
    text(&error)
}

#[tokio::test]
async fn a_server_that_does_not_answer_holds_up_nobody_for_long() {
    let database = Database::alone();
    let known = gateway(&database).await;
    write(&known, [bot_row(1, "one", 1)]).await;
    let told = Changed::Rows(vec![RowKey::Bot(bot(1))]);
    within("the bot is told", async { while known.changed().await.unwrap() != told {} }).await;
    let new = store(&database.dsn);
    database.cluster().freeze();
    let keys = [RowKey::Bot(bot(1))];
    let (mut nothing, mut nothing_new, mut reseal) = (|_| {}, |_| {}, |_: &_| Ok(None));
    let change = || vec![Change::Put(bot_row(2, "two", 1))];
    let (first, second, third, fourth, fifth, sixth) = tokio::join!(
        passes(known.read(OWNER, &keys)),
        passes(known.load(OWNER, &mut nothing)),
        passes(known.write(OWNER, change())),
        passes(new.prepare(OWNER)),
        passes(new.load(OWNER, &mut nothing_new)),
        passes(known.rekey(OWNER, OWNER, &mut reseal)),
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

/// The connection that listens says nothing anyway, so it is asked now and then.
#[tokio::test]
async fn a_server_that_is_silent_for_long_is_asked_whether_it_is_there() {
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
async fn a_server_that_is_back_is_used_again() {
    let database = Database::alone();
    let store = gateway(&database).await;
    for round in 1..=2 {
        write(&store, [bot_row(round, "before", 1)]).await;
        database.cluster().stop();
        let down = passes(store.read(OWNER, &[RowKey::Bot(bot(1))])).await;
        assert!(down.contains("Connection refused"), "{down}");
        database.cluster().start();
        assert_eq!(loaded(&store).await.len(), round as usize);
    }
}
