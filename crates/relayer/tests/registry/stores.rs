//! The stores under test, and rows to put in them.

use std::num::NonZeroUsize;

use moltrade_relayer::config::Secret;
use moltrade_relayer::event_log::{EventLog, StoreOptions};
use moltrade_relayer::fanout::registry::{
    BotName, BotRow, Change, Embedded, FollowKey, FollowRow, Postgres, RegistryError, Row, RowKey,
    SealedSecret, Store,
};
use prometheus_client::metrics::counter::Counter;
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;
use wire::PublicKey;

use crate::postgres::{Database, PASSWORD};

/// A prepared store of either kind, owned by [`OWNER`].
#[derive(Debug)]
pub struct TestStore {
    pub store: Box<dyn Store>,
    _kept: Kept,
}

#[derive(Debug)]
#[allow(dead_code, reason = "kept until the end")]
enum Kept {
    Folder(TempDir),
    Database(Database),
}

impl TestStore {
    pub async fn embedded() -> Self {
        let folder = TempDir::new().unwrap();
        let log =
            EventLog::open(folder.path(), StoreOptions { fsync: false, ..StoreOptions::default() }, 1 << 20)
                .unwrap();
        let store = Box::new(Embedded::new(log));
        store.prepare(OWNER).await.unwrap();
        Self { store, _kept: Kept::Folder(folder) }
    }

    pub async fn postgres() -> Self {
        let database = Database::fresh();
        let store = Box::new(gateway(&database).await);
        Self { store, _kept: Kept::Database(database) }
    }
}

/// The owner of the registry.
pub const OWNER: PublicKey = PublicKey::from_bytes([1; 32]);
/// A key that is not the owner.
pub const OTHER: PublicKey = PublicKey::from_bytes([2; 32]);

/// A store on this database, not prepared yet.
pub fn store(dsn: &str) -> Postgres {
    counted(dsn, 5).0
}

/// A store with this number of connections, and the counter of its statements.
pub fn counted(dsn: &str, connections: usize) -> (Postgres, Counter) {
    let (queries, connections) = (Counter::default(), NonZeroUsize::new(connections).unwrap());
    (Postgres::new(&Secret::new(dsn), connections, queries.clone()).unwrap(), queries)
}

/// A prepared store on this database.
pub async fn gateway(database: &Database) -> Postgres {
    let store = store(&database.dsn);
    store.prepare(OWNER).await.unwrap();
    store
}

/// A manual SQL connection that uses the registry's schema.
pub async fn somebody(database: &Database) -> PgConnection {
    let mut connection = PgConnection::connect(&database.dsn).await.unwrap();
    sql(&mut connection, "SET search_path = moltrade_relayer").await;
    connection
}

pub async fn sql(connection: &mut PgConnection, statements: &str) {
    sqlx::raw_sql(statements).execute(connection).await.unwrap();
}

pub fn key(first: u8, number: u32) -> PublicKey {
    let mut bytes = [first; 32];
    bytes[28..].copy_from_slice(&number.to_be_bytes());
    PublicKey::from_bytes(bytes)
}

pub fn bot(number: u32) -> PublicKey {
    key(0xb0, number)
}

pub fn follow(bot_number: u32, follower: u32) -> FollowKey {
    FollowKey { bot: bot(bot_number), follower: key(0xf0, follower) }
}

pub fn bot_row(number: u32, name: &str, registered_at_ms: u64) -> Row {
    let name = BotName::stored(name).unwrap();
    Row::Bot(BotRow { pubkey: bot(number), name, registered_at_ms, is_approved: true })
}

pub fn follow_row(key: FollowKey, secret: &[u8], since_ms: u64) -> Row {
    let secret = (!secret.is_empty()).then(|| SealedSecret::from_bytes(secret).unwrap());
    Row::Follow(FollowRow { key, secret, since_ms })
}

pub async fn write(store: &dyn Store, rows: impl IntoIterator<Item = Row>) {
    store.write(OWNER, rows.into_iter().map(Change::Put).collect()).await.unwrap();
}

/// All rows, as `load` returns them.
pub async fn loaded(store: &dyn Store) -> Vec<Row> {
    loaded_by(OWNER, store).await
}

/// All rows, loaded on behalf of this owner.
pub async fn loaded_by(owner: PublicKey, store: &dyn Store) -> Vec<Row> {
    let mut rows = Vec::new();
    store.load(owner, &mut |row| rows.push(row)).await.unwrap();
    rows
}

pub async fn read(store: &dyn Store, key: RowKey) -> Option<Row> {
    store.read(OWNER, &[key]).await.unwrap().remove(0)
}

/// The text of an error, which must be one line without the password.
#[track_caller]
pub fn text(error: &RegistryError) -> String {
    let text = error.to_string();
    let whole = format!("{text} {error:?}");
    assert!(!whole.contains(PASSWORD) && !whole.contains("postgres://"), "{whole}");
    assert!(!text.contains('\n') && text.len() < 500, "{text}");
    text
}
