//! The registry's schema in a database with other data.

use moltrade_relayer::fanout::registry::{Changed, RegistryError, Store};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{Connection, PgConnection, Row};

use crate::postgres::Database;
use crate::stores::{OWNER, bot_row, gateway, loaded, somebody, sql, store, text, write};

#[tokio::test]
async fn gateways_that_start_at_once_all_succeed() {
    let database = Database::fresh();
    let stores: Vec<_> = (0..4).map(|_| store(&database.dsn)).collect();
    for done in futures_util::future::join_all(stores.iter().map(|store| store.prepare(OWNER))).await {
        done.unwrap();
    }
    write(&stores[0], [bot_row(1, "one", 1)]).await;
    assert_eq!(loaded(&stores[3]).await, [bot_row(1, "one", 1)]);
}

#[tokio::test]
async fn gateways_of_several_keys_that_start_at_once_do_not_share() {
    let database = Database::fresh();
    let stores: Vec<_> = (0..4).map(|_| store(&database.dsn)).collect();
    let prepared = stores.iter().zip(1..).map(|(store, n)| store.prepare(crate::stores::key(n, 0)));
    let prepared = futures_util::future::join_all(prepared).await;
    assert_eq!(prepared.iter().filter(|done| done.is_ok()).count(), 1, "{prepared:?}");
    let others = prepared.iter().filter(|done| matches!(done, Err(RegistryError::OtherKey { .. })));
    assert_eq!(others.count(), 3, "{prepared:?}");
}

#[tokio::test]
async fn it_leaves_other_data_in_the_database_alone() {
    let database = Database::fresh();
    let mut hand = PgConnection::connect(&database.dsn).await.unwrap();
    let theirs = "CREATE TABLE bots (id int); CREATE TABLE meta (id int); INSERT INTO bots VALUES (7);
        CREATE TABLE _sqlx_migrations (version int)";
    sql(&mut hand, theirs).await;
    let store = gateway(&database).await;
    write(&store, [bot_row(1, "one", 1)]).await;
    let tables = "SELECT string_agg(table_schema || '.' || table_name, ' ' ORDER BY table_schema, table_name)
        FROM information_schema.tables WHERE table_schema IN ('public', 'moltrade_relayer')";
    let tables: String = sqlx::query(tables).fetch_one(&mut hand).await.unwrap().get(0);
    let ours = ["_sqlx_migrations", "bots", "follows", "meta"].map(|name| format!("moltrade_relayer.{name}"));
    assert_eq!(tables, format!("{} public._sqlx_migrations public.bots public.meta", ours.join(" ")));
    let id: i32 = sqlx::query("SELECT id FROM public.bots").fetch_one(&mut hand).await.unwrap().get(0);
    assert_eq!(id, 7);
}

/// Starts from a database with the schema of the first version.
#[tokio::test]
async fn an_older_schema_becomes_the_present_one() {
    let database = Database::fresh();
    let mut hand = PgConnection::connect(&database.dsn).await.unwrap();
    sql(&mut hand, "CREATE SCHEMA moltrade_relayer; SET search_path = moltrade_relayer").await;
    let first = include_str!("../../src/fanout/registry/postgres/migrations/0001_registry.sql");
    let first = Migration::new(1, "registry".into(), MigrationType::Simple, first.into(), false);
    let migrator = Migrator { migrations: vec![first].into(), ..Migrator::DEFAULT };
    migrator.run_direct(&mut hand).await.unwrap();
    let rows = format!("INSERT INTO bots VALUES ('\\x{}', 'old', 1)", crate::stores::bot(1));
    sql(&mut hand, &rows).await;
    let store = gateway(&database).await;
    assert_eq!(loaded(&store).await, [bot_row(1, "old", 1)]);
    sql(&mut hand, "UPDATE bots SET name = 'new'").await;
    assert!(matches!(store.changed().await.unwrap(), Changed::Rows(rows) if rows.len() == 1));
}

#[tokio::test]
async fn a_newer_schema_is_left_alone() {
    let database = Database::fresh();
    drop(gateway(&database).await);
    let mut hand = somebody(&database).await;
    sql(&mut hand, "INSERT INTO _sqlx_migrations VALUES (9999, 'later', now(), true, '\\x00', 1)").await;
    let newer = store(&database.dsn);
    for _ in 0..2 {
        let refused = newer.prepare(OWNER).await.unwrap_err();
        assert!(matches!(refused, RegistryError::Newer(9999)), "{refused:?}");
        assert!(text(&refused).contains("later version (migration 9999)") && !refused.is_transient());
    }
    // A refused gateway does not block other gateways.
    sql(&mut hand, "DELETE FROM _sqlx_migrations WHERE version = 9999").await;
    store(&database.dsn).prepare(OWNER).await.unwrap();
    newer.prepare(OWNER).await.unwrap();
    sql(&mut hand, "UPDATE _sqlx_migrations SET checksum = '\\x00' WHERE version = 1").await;
    let refused = newer.prepare(OWNER).await.unwrap_err();
    assert!(matches!(refused, RegistryError::Damaged(_)), "{}", text(&refused));
}

#[tokio::test]
async fn minimal_rights_suffice_and_missing_ones_are_named() {
    let database = Database::fresh();
    let mut hand = PgConnection::connect(&database.dsn).await.unwrap();
    let role = format!("few_{}", std::process::id());
    sql(&mut hand, &format!("CREATE ROLE {role} LOGIN PASSWORD 'hunter2-not-shown'")).await;
    let dsn = database.dsn_with(|url| url.set_username(&role).unwrap());
    let refused = store(&dsn).prepare(OWNER).await.unwrap_err();
    assert!(matches!(refused, RegistryError::Refused(_)), "{refused:?}");
    assert!(text(&refused).contains("permission denied for database"), "{}", text(&refused));
    sql(&mut hand, &format!("CREATE SCHEMA moltrade_relayer AUTHORIZATION {role}")).await;
    let few = store(&dsn);
    few.prepare(OWNER).await.unwrap();
    write(&few, [bot_row(1, "one", 1)]).await;
    assert_eq!(loaded(&few).await, [bot_row(1, "one", 1)]);
    drop(few);
    let undo = format!("DROP OWNED BY {role}; DROP ROLE {role}");
    sql(&mut hand, &undo).await;
}
