//! Database errors: each states whether it is transient, and no error contains the password.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use moltrade_relayer::config::Secret;
use moltrade_relayer::fanout::registry::{Changed, Postgres, RegistryError, RowKey, Store};
use prometheus_client::metrics::counter::Counter;
use relay_sim::wait::within;
use sqlx::postgres::PgDatabaseError;

use crate::postgres::{Database, PASSWORD};
use crate::stores::{
    OWNER, bot, bot_row, follow, follow_row, gateway, loaded, somebody, sql, store, text, write,
};

/// Asserts that every operation fails with the same error.
async fn fails(dsn: &str) -> RegistryError {
    let store = store(dsn);
    let error = store.prepare(OWNER).await.unwrap_err();
    let others = [
        store.load(OWNER, &mut |_| {}).await.unwrap_err(),
        store.read(OWNER, &[RowKey::Bot(bot(1))]).await.unwrap_err(),
        store.write(OWNER, Vec::new()).await.unwrap_err(),
        store.changed().await.unwrap_err(),
    ];
    for other in others {
        assert_eq!(text(&other), text(&error));
        assert_eq!(other.is_transient(), error.is_transient());
    }
    error
}

#[tokio::test]
async fn a_refused_login_names_the_reason() {
    // A dedicated server is used, because other servers may accept any password.
    let database = Database::alone();
    let wrong = database.dsn_with(|url| url.set_password(Some("wrong-hunter2-not-shown")).unwrap());
    let missing = database.dsn_with(|url| url.set_path("nowhere"));
    let plain = database.dsn_with(|url| url.set_query(Some("sslmode=verify-full")));
    for (dsn, why) in [
        (wrong, "password authentication failed for user"),
        (missing, "database \"nowhere\" does not exist"),
        (plain, "TLS: server does not support TLS"),
    ] {
        let error = fails(&dsn).await;
        assert!(matches!(error, RegistryError::Refused(_)), "{error:?}");
        assert!(text(&error).starts_with("the registry's database refuses: "), "{}", text(&error));
        assert!(text(&error).contains(why), "{}", text(&error));
    }
}

#[tokio::test]
async fn an_unreachable_server_is_transient() {
    // The port is free, because it was just released.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let dsn = format!("postgres://relayer:{PASSWORD}@{free}/moltrade");
    let since = Instant::now();
    let error = store(&dsn).prepare(OWNER).await.unwrap_err();
    assert!(since.elapsed() < Duration::from_secs(30), "a refusal needs no time-out");
    assert!(error.is_transient() && text(&error).contains("Connection refused"), "{}", text(&error));
    let dsn = format!("postgres://relayer:{PASSWORD}@nobody.invalid/moltrade");
    let error = store(&dsn).prepare(OWNER).await.unwrap_err();
    assert!(error.is_transient(), "{}", text(&error));
}

#[tokio::test]
async fn another_protocol_is_refused() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let dsn = format!("postgres://relayer:{PASSWORD}@{}/moltrade", server.local_addr().unwrap());
    std::thread::spawn(move || {
        for connection in server.incoming() {
            use std::io::{Read, Write};
            let mut connection = connection.unwrap();
            connection.read_exact(&mut [0; 8]).ok();
            connection.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").ok();
        }
    });
    let error = store(&dsn).prepare(OWNER).await.unwrap_err();
    assert!(matches!(error, RegistryError::Refused(_)), "{}", text(&error));
}

#[tokio::test]
async fn a_dsn_that_cannot_be_used_is_refused_at_once() {
    let dsn = format!("postgres://relayer:{PASSWORD}@127.0.0.1/x?pasword={PASSWORD}");
    let error = Postgres::new(&Secret::new(dsn), 5.try_into().unwrap(), Counter::default()).unwrap_err();
    assert!(text(&error).contains("an unknown parameter"), "{}", text(&error));
}

#[tokio::test]
async fn a_full_pool_is_transient() {
    let database = Database::fresh();
    let (store, _) = crate::stores::counted(&database.dsn, 2);
    store.prepare(OWNER).await.unwrap();
    write(&store, [bot_row(1, "one", 1)]).await;
    // There are two connections: one listens, and one waits for a lock.
    let mut hand = somebody(&database).await;
    sql(&mut hand, "BEGIN; LOCK TABLE bots").await;
    let (mut each, keys) = (|_| {}, [RowKey::Bot(bot(1))]);
    let (first, second) = tokio::join!(store.load(OWNER, &mut each), store.read(OWNER, &keys));
    let (first, second) = (first.unwrap_err(), second.unwrap_err());
    assert!(first.is_transient() && text(&first).contains("lock timeout"), "{}", text(&first));
    assert!(second.is_transient() && text(&second).contains("are in use"), "{}", text(&second));
}

#[tokio::test]
async fn the_schema_refuses_invalid_rows() {
    let database = Database::fresh();
    let store = gateway(&database).await;
    write(&store, [bot_row(1, "one", 1)]).await;
    let mut hand = somebody(&database).await;
    let (short, whole) = ("07".repeat(31), "07".repeat(32));
    let bot = bot(1);
    for row in [
        format!("bots VALUES ('\\x{short}', 'short', 1)"),
        format!("bots VALUES ('\\x{whole}', '', 1)"),
        format!("bots VALUES ('\\x{whole}', repeat('x', 101), 1)"),
        format!("bots VALUES ('\\x{whole}', E'a\\x01', 1)"),
        format!("bots VALUES ('\\x{whole}', E'\\x1b[2J', 1)"),
        format!("bots VALUES ('\\x{whole}', E'a\\nb', 1)"),
        format!("bots VALUES ('\\x{whole}', E'\\x1f', 1)"),
        format!("bots VALUES ('\\x{whole}', E'\\x7f', 1)"),
        format!("bots VALUES ('\\x{whole}', E'a\\u0080', 1)"),
        format!("bots VALUES ('\\x{whole}', E'\\u009fb', 1)"),
        format!("bots VALUES ('\\x{whole}', 'early', -1)"),
        format!("bots VALUES ('\\x{whole}', NULL, 1)"),
        format!("follows VALUES ('\\x{bot}', '\\x{short}', NULL, 1)"),
        format!("follows VALUES ('\\x{bot}', '\\x{whole}', '', 1)"),
        format!("follows VALUES ('\\x{bot}', '\\x{whole}', decode(repeat('00', 298), 'hex'), 1)"),
        format!("follows VALUES ('\\x{bot}', '\\x{whole}', NULL, -1)"),
        format!("follows VALUES ('\\x{whole}', '\\x{whole}', NULL, 1)"),
        format!("meta VALUES ('owner', '\\x{short}') ON CONFLICT (key) DO UPDATE SET value = excluded.value"),
    ] {
        let refused = sqlx::raw_sql(&format!("INSERT INTO {row}")).execute(&mut hand).await.expect_err(&row);
        let refused = refused.into_database_error().unwrap();
        let refused = refused.downcast_ref::<PgDatabaseError>();
        assert!(refused.code().starts_with("23"), "{row}: {refused}");
    }
    // The reader accepts every row that the schema accepts.
    for row in [
        format!("bots VALUES ('\\x{whole}', U&'\\0020~\\00a0' || repeat('é', 97), 0)"),
        format!("follows VALUES ('\\x{whole}', '\\x{whole}', decode(repeat('00', 297), 'hex'), 0)"),
    ] {
        sql(&mut hand, &format!("INSERT INTO {row}")).await;
    }
    assert_eq!(loaded(&store).await.len(), 3);
}

#[tokio::test]
async fn a_damaged_row_is_never_read_as_absent() {
    let database = Database::fresh();
    let store = gateway(&database).await;
    write(&store, [bot_row(1, "one", 1), follow_row(follow(1, 8), b"", 1)]).await;
    let mut hand = somebody(&database).await;
    let loose =
        "ALTER TABLE bots DROP CONSTRAINT bots_name_check, DROP CONSTRAINT bots_registered_at_ms_check;
        ALTER TABLE follows DROP CONSTRAINT follows_follower_check, DROP CONSTRAINT follows_secret_check,
        DROP CONSTRAINT follows_since_ms_check; ALTER TABLE meta DROP CONSTRAINT meta_owner_check";
    sql(&mut hand, loose).await;
    let (good_name, good_follow) = ("UPDATE bots SET name = 'one'", "UPDATE follows SET secret = NULL");
    for (damage, why, mend) in [
        ("UPDATE bots SET name = E'a\\x1b[2J'", "the name of the bot b0b0", good_name),
        ("UPDATE bots SET name = ''", "is not valid", good_name),
        ("UPDATE bots SET name = repeat('x', 101)", "is not valid", good_name),
        ("UPDATE bots SET registered_at_ms = -1", "is negative", "UPDATE bots SET registered_at_ms = 1"),
        ("UPDATE follows SET secret = decode(repeat('00', 298), 'hex')", "is too long", good_follow),
        ("ALTER TABLE bots RENAME name TO title", "", "ALTER TABLE bots RENAME title TO name"),
        ("ALTER TABLE follows ALTER since_ms TYPE text", "not compatible", "SELECT"),
    ] {
        sql(&mut hand, damage).await;
        let keys = [RowKey::Bot(bot(1)), RowKey::Follow(follow(1, 8))];
        let errors =
            [store.load(OWNER, &mut |_| {}).await.unwrap_err(), store.read(OWNER, &keys).await.unwrap_err()];
        for error in errors {
            let is_named = matches!(error, RegistryError::Damaged(_) | RegistryError::Refused(_));
            assert!(is_named && text(&error).contains(why), "{damage}: {}", text(&error));
            assert!(!text(&error).contains('\u{1b}'));
            assert!(why.is_empty() || matches!(error, RegistryError::Damaged(_)), "{error:?}");
        }
        sql(&mut hand, mend).await;
    }
    sql(&mut hand, "UPDATE follows SET follower = '\\x07'").await;
    let error = store.load(OWNER, &mut |_| {}).await.unwrap_err();
    assert_eq!(text(&error), "the registry is damaged: a key in follower has 1 bytes");
    sql(&mut hand, "UPDATE meta SET value = '\\x07'").await;
    let error = store.write(OWNER, Vec::new()).await.unwrap_err();
    assert_eq!(text(&error), "the registry is damaged: a key in value has 1 bytes");
    sql(&mut hand, "DELETE FROM meta").await;
    let error = store.write(OWNER, Vec::new()).await.unwrap_err();
    assert_eq!(text(&error), "the registry is damaged: it has no owner");
    sql(&mut hand, "DROP SCHEMA moltrade_relayer CASCADE").await;
    let error = store.write(OWNER, Vec::new()).await.unwrap_err();
    assert!(text(&error).contains("relation \"meta\" does not exist"), "{}", text(&error));
    within("unknown rows may have changed", async {
        while store.changed().await.unwrap() != Changed::Unknown {}
    })
    .await;
}
