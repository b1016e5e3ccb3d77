//! A PostgreSQL server that accepts no writes, or only some. Known followers are served, and the
//! state is transient.

use moltrade_relayer::fanout::registry::{Health, Mode, NewBots, RegistryError, Store};
use moltrade_relayer::limits::REGISTRY_TIMEOUT;
use relay_sim::wait;
use sqlx::{Connection, PgConnection};
use tokio::time::timeout;

use crate::postgres::Database;
use crate::stores::{OWNER, bot_row, gateway, loaded, somebody, sql, store, text, write};
use crate::unnotified::{Gateway, bot, follow, name, until};

fn is_read_only(gateway: &Gateway) -> bool {
    matches!(gateway.registry.health(), Health::ReadOnly { .. })
}

/// The metrics `registry_up` and `registry_read_only`.
fn shown(gateway: &Gateway) -> (i64, i64) {
    (gateway.metrics.registry_up.get(), gateway.metrics.registry_read_only.get())
}

/// Asserts that every kind of write is refused at once with the right error.
async fn refuses_writes(gateway: &Gateway) {
    let registry = &gateway.registry;
    for refused in [
        registry.register(bot(), name("another"), NewBots::Approved).await.unwrap_err(),
        // Even a write without an effect is refused, because only the store could tell that it has
        // none.
        registry.register(bot(), name("one"), NewBots::Approved).await.unwrap_err(),
        registry.subscribe(follow(11), None).await.unwrap_err(),
        registry.unsubscribe(follow(11)).await.unwrap_err(),
    ] {
        assert!(matches!(refused, RegistryError::ReadOnly(_)), "{refused:?}");
        assert!(text(&refused).starts_with("the registry's database is read-only"), "{}", text(&refused));
    }
}

/// Switches the server between read-only and writable, including for open connections.
async fn set_read_only(database: &Database, is: bool) {
    let mut hand = PgConnection::connect(&database.dsn).await.unwrap();
    sql(&mut hand, "SET default_transaction_read_only = off").await;
    let value = if is { "on" } else { "off" };
    sql(&mut hand, &format!("ALTER SYSTEM SET default_transaction_read_only = {value}")).await;
    sql(&mut hand, "SELECT pg_reload_conf()").await;
    // Open connections see the setting slightly later.
    let is_set = async || {
        let mut probe = PgConnection::connect(&database.dsn).await.unwrap();
        let setting = "SELECT current_setting('transaction_read_only')";
        let found: String = sqlx::query_scalar(setting).fetch_one(&mut probe).await.unwrap();
        found == value
    };
    wait::until_async("the setting is in effect", is_set).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_becomes_read_only_is_noticed_by_a_write_and_recovers() {
    let database = Database::alone();
    let gateway = Gateway::on(&database.dsn).await;
    gateway.registry.register(bot(), name("one"), NewBots::Approved).await.unwrap();
    gateway.registry.subscribe(follow(11), None).await.unwrap();
    assert_eq!(shown(&gateway), (1, 0));
    for _ in 0..2 {
        set_read_only(&database, true).await;
        // The write is repeated, because the first attempt may precede the new setting on this
        // connection.
        let is_noticed = async || {
            gateway.registry.register(bot(), name("one"), NewBots::Approved).await.ok();
            is_read_only(&gateway)
        };
        wait::until_async("a write notices it", is_noticed).await;
        assert_eq!(shown(&gateway), (0, 1));
        refuses_writes(&gateway).await;
        assert_eq!(gateway.registry.directory().len(), (1, 1), "known rows stay");
        set_read_only(&database, false).await;
        until("it recovers by itself", || gateway.registry.health() == Health::Up).await;
        assert_eq!(shown(&gateway), (1, 0));
        gateway.registry.subscribe(follow(12), None).await.unwrap();
        gateway.registry.unsubscribe(follow(12)).await.unwrap();
    }
    // The gateway receives changes by other gateways again.
    let other = Gateway::on(&database.dsn).await;
    other.registry.subscribe(follow(13), None).await.unwrap();
    until("it is told", || gateway.registry.directory().follow(&follow(13)).is_some()).await;
}

/// A standby does not even accept `LISTEN`.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_serves_its_rows_until_it_is_promoted() {
    let database = Database::alone();
    {
        let gateway = Gateway::on(&database.dsn).await;
        gateway.registry.register(bot(), name("one"), NewBots::Approved).await.unwrap();
        gateway.registry.subscribe(follow(11), None).await.unwrap();
    }
    database.cluster().stop();
    database.cluster().start_as_standby();
    let gateway = Gateway::on(&database.dsn).await;
    assert!(is_read_only(&gateway) && gateway.registry.is_loaded(), "{:?}", gateway.registry.health());
    assert_eq!(gateway.registry.directory().len(), (1, 1));
    refuses_writes(&gateway).await;
    let mut hand = PgConnection::connect(&database.dsn).await.unwrap();
    sql(&mut hand, "SELECT pg_promote()").await;
    until("it recovers by itself", || gateway.registry.health() == Health::Up).await;
    gateway.registry.subscribe(follow(12), None).await.unwrap();
    let other = Gateway::on(&database.dsn).await;
    other.registry.subscribe(follow(13), None).await.unwrap();
    until("it is told", || gateway.registry.directory().follow(&follow(13)).is_some()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_database_without_tables_does_not_stop_the_start() {
    let database = Database::alone();
    set_read_only(&database, true).await;
    let gateway = Gateway::on(&database.dsn).await;
    assert!(is_read_only(&gateway) && !gateway.registry.is_loaded(), "{:?}", gateway.registry.health());
    set_read_only(&database, false).await;
    until("it recovers by itself", || gateway.registry.health() == Health::Up).await;
    assert!(gateway.registry.register(bot(), name("one"), NewBots::Approved).await.unwrap().is_new);
}

/// docs/operations.md promises this for an up-to-date schema.
#[tokio::test]
async fn tables_that_are_up_to_date_need_no_right_to_create() {
    let database = Database::fresh();
    drop(gateway(&database).await);
    let mut hand = somebody(&database).await;
    let role = format!("rows_only_{}", std::process::id());
    sql(&mut hand, &format!("CREATE ROLE {role} LOGIN PASSWORD 'hunter2-not-shown'")).await;
    let rights = format!(
        "GRANT USAGE ON SCHEMA moltrade_relayer TO {role};
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA moltrade_relayer TO {role}"
    );
    sql(&mut hand, &rights).await;
    let dsn = database.dsn_with(|url| url.set_username(&role).unwrap());
    let few = store(&dsn);
    assert_eq!(few.prepare(OWNER).await.unwrap(), Mode::Writable);
    write(&few, [bot_row(1, "one", 1)]).await;
    assert_eq!(loaded(&few).await, [bot_row(1, "one", 1)]);
    drop(few);
    sql(&mut hand, &format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

/// Several concurrent calls each wait for the write lock and then for the row lock.
#[tokio::test(flavor = "multi_thread")]
async fn writes_behind_a_held_lock_end_in_time_and_change_nothing() {
    let database = Database::fresh();
    let gateway = Gateway::on(&database.dsn).await;
    gateway.registry.register(bot(), name("one"), NewBots::Approved).await.unwrap();
    let mut hand = somebody(&database).await;
    sql(&mut hand, "BEGIN; LOCK TABLE follows").await;
    let writes =
        (11..15).map(|seed| timeout(2 * REGISTRY_TIMEOUT, gateway.registry.subscribe(follow(seed), None)));
    for done in futures_util::future::join_all(writes).await {
        let failed = done.expect("within the time that limits.rs states").unwrap_err();
        assert!(matches!(failed, RegistryError::Busy(_)), "{failed:?}");
    }
    assert_eq!(gateway.registry.health(), Health::Up, "the database is there");
    sql(&mut hand, "ROLLBACK").await;
    assert!(
        gateway.registry.subscribe(follow(11), None).await.unwrap(),
        "a failed change was not applied later"
    );
    assert_eq!(gateway.registry.directory().len(), (1, 1));
}
