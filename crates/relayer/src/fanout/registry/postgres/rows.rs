//! Reads rows. Other programs may write to the database, so every value is checked.

use std::collections::HashMap;

use sqlx::postgres::PgRow;
use sqlx::{Row as _, query};
use wire::PublicKey;

use super::super::row::{BotName, BotRow, FollowKey, FollowRow, Row, RowKey};
use super::super::seal::SealedSecret;
use super::super::store::{RegistryError, check_owner};
use super::error::classify;
use super::pool::{ConnectionPool, PooledConnection};
use super::schema::{OWNER, owner_of};

/// Calls `each` for all rows of one snapshot. Fails if the registry does not belong to `owner` in
/// this snapshot.
pub async fn load(
    pool: &ConnectionPool,
    owner: PublicKey,
    each: &mut (dyn FnMut(Row) + Send),
) -> Result<(), RegistryError> {
    let mut connection = pool.acquire().await?;
    connection.command("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY").await?;
    // The first statement of the transaction takes the snapshot.
    check_owner(owner_of(&mut connection, OWNER).await?, owner)?;
    let bots = "SELECT pubkey, name, registered_at_ms, approved FROM bots ORDER BY pubkey";
    let follows = "SELECT bot, follower, secret, since_ms FROM follows ORDER BY bot, follower";
    let mut rows = connection.fetch(query(bots));
    while let Some(row) = rows.next().await? {
        each(Row::Bot(bot(&row)?));
    }
    drop(rows);
    let mut rows = connection.fetch(query(follows));
    while let Some(row) = rows.next().await? {
        each(Row::Follow(follow(&row)?));
    }
    drop(rows);
    connection.command("COMMIT").await?;
    connection.release();
    Ok(())
}

/// Returns the rows of these keys in the same order. Sends two statements for the rows, and one for
/// the owner.
pub async fn read(
    pool: &ConnectionPool,
    owner: PublicKey,
    keys: &[RowKey],
) -> Result<Vec<Option<Row>>, RegistryError> {
    let mut connection = pool.acquire().await?;
    let rows = stored(&mut connection, keys, Locking::No).await?;
    // An owner never returns after a change, so this key was also the owner during the reads.
    check_owner(owner_of(&mut connection, OWNER).await?, owner)?;
    connection.release();
    Ok(rows)
}

/// Whether a read locks the rows until the transaction ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Locking {
    No,
    ForUpdate,
}

/// Returns the rows of these keys in the same order.
pub async fn stored(
    connection: &mut PooledConnection<'_>,
    keys: &[RowKey],
    locking: Locking,
) -> Result<Vec<Option<Row>>, RegistryError> {
    let (mut pubkeys, mut bots, mut followers) = (Vec::new(), Vec::new(), Vec::new());
    for key in keys {
        match key {
            RowKey::Bot(bot) => pubkeys.push(bot.as_bytes().as_slice()),
            RowKey::Follow(FollowKey { bot, follower }) => {
                bots.push(bot.as_bytes().as_slice());
                followers.push(follower.as_bytes().as_slice());
            }
        }
    }
    let mut found = HashMap::with_capacity(keys.len());
    if !pubkeys.is_empty() {
        let statement = match locking {
            Locking::No => "SELECT pubkey, name, registered_at_ms, approved FROM bots WHERE pubkey = ANY($1)",
            Locking::ForUpdate => {
                "SELECT pubkey, name, registered_at_ms, approved FROM bots WHERE pubkey = ANY($1) FOR UPDATE"
            }
        };
        for row in connection.fetch_all(query(statement).bind(pubkeys)).await? {
            let row = bot(&row)?;
            found.insert(RowKey::Bot(row.pubkey), Row::Bot(row));
        }
    }
    if !bots.is_empty() {
        let statement = match locking {
            Locking::No => {
                "SELECT bot, follower, secret, since_ms FROM follows
                JOIN unnest($1::bytea[], $2::bytea[]) AS wanted (bot, follower) USING (bot, follower)"
            }
            Locking::ForUpdate => {
                "SELECT bot, follower, secret, since_ms FROM follows
                JOIN unnest($1::bytea[], $2::bytea[]) AS wanted (bot, follower) USING (bot, follower)
                FOR UPDATE OF follows"
            }
        };
        for row in connection.fetch_all(query(statement).bind(bots).bind(followers)).await? {
            let row = follow(&row)?;
            found.insert(RowKey::Follow(row.key), Row::Follow(row));
        }
    }
    Ok(keys.iter().map(|key| found.get(key).cloned()).collect())
}

/// Converts a row with `pubkey`, `name`, `registered_at_ms` and `approved`.
fn bot(row: &PgRow) -> Result<BotRow, RegistryError> {
    let pubkey = key(row, "pubkey")?;
    let name = row.try_get("name").map_err(classify)?;
    let name = BotName::stored(name)
        .ok_or_else(|| damaged(format_args!("the name of the bot {pubkey} is not valid")))?;
    let is_approved = row.try_get("approved").map_err(classify)?;
    Ok(BotRow { pubkey, name, registered_at_ms: time(row, "registered_at_ms")?, is_approved })
}

/// Converts a row with `bot`, `follower`, `secret` and `since_ms`.
pub fn follow(row: &PgRow) -> Result<FollowRow, RegistryError> {
    let key = FollowKey { bot: key(row, "bot")?, follower: key(row, "follower")? };
    let secret: Option<&[u8]> = row.try_get("secret").map_err(classify)?;
    let sealed = secret.map(|secret| {
        SealedSecret::from_bytes(secret).ok_or_else(|| {
            let FollowKey { bot, follower } = key;
            damaged(format_args!("the secret of the follower {follower} of {bot} is too long"))
        })
    });
    Ok(FollowRow { key, secret: sealed.transpose()?, since_ms: time(row, "since_ms")? })
}

/// Reads a column with a public key.
pub fn key(row: &PgRow, column: &str) -> Result<PublicKey, RegistryError> {
    let bytes: &[u8] = row.try_get(column).map_err(classify)?;
    let length = bytes.len();
    let key = bytes.try_into().map_err(|_| damaged(format_args!("a key in {column} has {length} bytes")))?;
    Ok(PublicKey::from_bytes(key))
}

fn time(row: &PgRow, column: &str) -> Result<u64, RegistryError> {
    let time: i64 = row.try_get(column).map_err(classify)?;
    u64::try_from(time).map_err(|_| damaged(format_args!("a time in {column} is negative")))
}

fn damaged(what: impl ToString) -> RegistryError {
    RegistryError::Damaged(what.to_string())
}
