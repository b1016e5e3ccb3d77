//! The registry's schema in the database: its migrations and its owner.

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{Row as _, query};
use tokio::time::timeout;
use wire::PublicKey;

use super::super::store::{Mode, RegistryError, check_owner};
use super::error::{classify, classify_migration};
use super::pool::{ConnectionPool, PooledConnection};
use super::rows::key;
use crate::limits::REGISTRY_ROWS_TIMEOUT;

/// The schema of all our objects, including the list of migrations. It avoids conflicts with other
/// data in the database.
pub const SCHEMA: &str = "moltrade_relayer";

/// The advisory lock for creating the schema: "relayer" in ASCII.
const LOCK: i64 = 0x72_65_6c_61_79_65_72;

/// The migrations, oldest first. A released migration is never changed.
const MIGRATIONS: [(i64, &str, &str); 3] = [
    (1, "registry", include_str!("migrations/0001_registry.sql")),
    (2, "tell", include_str!("migrations/0002_tell.sql")),
    (3, "approval", include_str!("migrations/0003_approval.sql")),
];

/// Prepares the tables for secrets that `owner` has sealed. If the tables are up to date, writes
/// nothing, so neither the right to create nor a writable database is needed.
pub async fn prepare(pool: &ConnectionPool, owner: PublicKey) -> Result<Mode, RegistryError> {
    let mut connection = pool.acquire().await?;
    if !is_current(&mut connection).await? {
        make_schema(&mut connection).await?;
        migrate(&mut connection).await?;
    }
    // The owner is read first, because an insert would notify all gateways.
    let mut found = owner_of(&mut connection, OWNER).await?;
    if found.is_none() {
        let insert = "INSERT INTO meta (key, value) VALUES ('owner', $1) ON CONFLICT DO NOTHING";
        connection.execute(query(insert).bind(owner.as_bytes().as_slice())).await?;
        found = owner_of(&mut connection, OWNER).await?;
    }
    check_owner(found, owner)?;
    let mode = mode(&mut connection).await?;
    if mode == Mode::Writable {
        connection.release();
    }
    // A read-only connection is closed, because the next connection may lead to the writable
    // server.
    Ok(mode)
}

/// Returns whether the server accepts writes on this connection.
async fn mode(connection: &mut PooledConnection<'_>) -> Result<Mode, RegistryError> {
    let row =
        connection.fetch_optional(query("SELECT current_setting('transaction_read_only')::bool")).await?;
    let is_read_only = row.map_or(Ok(false), |row| row.try_get(0).map_err(classify))?;
    Ok(if is_read_only { Mode::ReadOnly } else { Mode::Writable })
}

/// Reads the owner.
pub const OWNER: &str = "SELECT value FROM meta WHERE key = 'owner'";
/// Reads the owner, and prevents other gateways from changing the owner until the transaction ends.
pub(crate) const OWNER_STAYS: &str = "SELECT value FROM meta WHERE key = 'owner' FOR SHARE";
/// Reads the owner, and locks the owner's row until the transaction ends. Other locking reads wait.
pub(crate) const OWNER_CHANGES: &str = "SELECT value FROM meta WHERE key = 'owner' FOR UPDATE";

/// Runs one of the owner statements above.
pub(crate) async fn owner_of(
    connection: &mut PooledConnection<'_>,
    statement: &'static str,
) -> Result<Option<PublicKey>, RegistryError> {
    connection.fetch_optional(query(statement)).await?.map(|row| key(&row, "value")).transpose()
}

/// Whether the tables are exactly as this version expects them. [`migrate`] handles all other
/// cases.
async fn is_current(connection: &mut PooledConnection<'_>) -> Result<bool, RegistryError> {
    let there = query("SELECT to_regclass('moltrade_relayer._sqlx_migrations') IS NOT NULL");
    let row = connection.fetch_optional(there).await?;
    if !row.map_or(Ok(false), |row| row.try_get(0).map_err(classify))? {
        return Ok(false);
    }
    let applied = "SELECT version, success, checksum FROM _sqlx_migrations ORDER BY version";
    let mut found = Vec::new();
    for row in connection.fetch_all(query(applied)).await? {
        let (version, success) = (row.try_get(0).map_err(classify)?, row.try_get(1).map_err(classify)?);
        let checksum: Vec<u8> = row.try_get(2).map_err(classify)?;
        found.push((version, success, checksum));
    }
    let newest = MIGRATIONS.last().map_or(0, |(version, ..)| *version);
    // The version is checked here, because the migrations would need more rights and a writable
    // database before they report this error.
    if let Some((later, ..)) = found.last().filter(|(version, ..)| *version > newest) {
        return Err(RegistryError::Newer(*later));
    }
    let wanted = migrations().into_iter().map(|one| (one.version, true, one.checksum.into_owned()));
    Ok(wanted.eq(found))
}

fn migrations() -> Vec<Migration> {
    let migration = |(version, description, sql): (i64, &'static str, &'static str)| {
        Migration::new(version, description.into(), MigrationType::Simple, sql.into(), false)
    };
    MIGRATIONS.map(migration).to_vec()
}

/// Creates the schema if it is missing. `CREATE SCHEMA IF NOT EXISTS` would need the right to
/// create even if the schema exists.
async fn make_schema(connection: &mut PooledConnection<'_>) -> Result<(), RegistryError> {
    if has_schema(connection).await? {
        return Ok(());
    }
    connection.command("BEGIN").await?;
    connection.execute(query("SELECT pg_advisory_xact_lock($1)").bind(LOCK)).await?;
    if !has_schema(connection).await? {
        connection.command("CREATE SCHEMA moltrade_relayer").await?;
    }
    connection.command("COMMIT").await
}

async fn has_schema(connection: &mut PooledConnection<'_>) -> Result<bool, RegistryError> {
    let statement =
        query("SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1)").bind(SCHEMA);
    let row = connection.fetch_optional(statement).await?;
    row.map_or(Ok(false), |row| row.try_get(0).map_err(classify))
}

/// Runs the migrations. sqlx takes a lock, so that only one of several starting gateways migrates.
/// After a failure, the closed connection frees the lock.
async fn migrate(connection: &mut PooledConnection<'_>) -> Result<(), RegistryError> {
    let migrator = Migrator { migrations: migrations().into(), ..Migrator::DEFAULT };
    let newest = MIGRATIONS.last().map_or(0, |(version, ..)| *version);
    match timeout(REGISTRY_ROWS_TIMEOUT, migrator.run_direct(connection.raw())).await {
        Ok(done) => done.map_err(|error| classify_migration(error, newest)),
        Err(_) => Err(RegistryError::Unreachable("its migrations take too long".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::row::BotName;
    use super::super::super::seal::SealedSecret;
    use super::*;

    #[test]
    fn the_schema_is_as_strict_as_the_reader() {
        let [(_, _, tables), ..] = MIGRATIONS;
        for check in [
            format!("octet_length(secret) BETWEEN 1 AND {}", SealedSecret::BYTES_MAX),
            format!("char_length(name) BETWEEN 1 AND {}", BotName::CHARACTERS_MAX),
        ] {
            assert!(tables.contains(&check), "{check}");
        }
    }
}
