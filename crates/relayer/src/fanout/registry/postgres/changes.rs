//! Changes to the registry, each in one transaction that first checks the owner.

use std::collections::HashSet;

use sqlx::query;
use tokio::time::{Instant, timeout_at};
use wire::PublicKey;

use super::super::row::{BotRow, Change, FollowKey, FollowRow, Row, RowKey};
use super::super::seal::SealedSecret;
use super::super::store::{Decide, RegistryError, Reseal, check_owner};
use super::pool::{ConnectionPool, PooledConnection};
use super::rows::{Locking, follow, stored};
use super::schema::{OWNER_CHANGES, OWNER_STAYS, owner_of};
use crate::limits::{REGISTRY_BATCH_ROWS, REGISTRY_MARGIN};

/// Reads rows and applies the changes that `decide` derives from these rows. Locks the rows first,
/// even rows that do not exist.
pub async fn change(
    pool: &ConnectionPool,
    owner: PublicKey,
    keys: &[RowKey],
    until: Instant,
    decide: &mut Decide<'_>,
) -> Result<(), RegistryError> {
    let changed = async {
        let mut connection = pool.acquire().await?;
        let left = until.saturating_duration_since(Instant::now());
        connection.begin_within(left.saturating_sub(2 * REGISTRY_MARGIN)).await?;
        check_owner(owner_of(&mut connection, OWNER_STAYS).await?, owner)?;
        lock(&mut connection, keys).await?;
        let rows = stored(&mut connection, keys, Locking::ForUpdate).await?;
        apply(&mut connection, &decide(&rows)?).await?;
        Ok::<_, RegistryError>(connection)
    };
    let late = |_| RegistryError::Busy("this change waited too long".to_owned());
    let mut connection = timeout_at(until - REGISTRY_MARGIN, changed).await.map_err(late)??;
    // From here on, the outcome is unknown until the server reports whether it has committed.
    let unknown = |_| RegistryError::Unreachable("it did not confirm the commit in time".to_owned());
    timeout_at(until, connection.command("COMMIT")).await.map_err(unknown)??;
    connection.release();
    Ok(())
}

/// Takes advisory locks on these rows until the transaction ends. Unlike `FOR UPDATE`, advisory
/// locks also cover rows that do not exist.
async fn lock(connection: &mut PooledConnection<'_>, keys: &[RowKey]) -> Result<(), RegistryError> {
    /// Separates these locks from other advisory locks in the database: "rela" in ASCII.
    const ROWS: i32 = 0x72_65_6c_61;
    let mut names: Vec<String> = keys.iter().map(name).collect();
    // A fixed order prevents deadlocks.
    names.sort_unstable();
    let statement = "SELECT pg_advisory_xact_lock($1, hashtext(name)) FROM unnest($2::text[]) AS name";
    connection.execute(query(statement).bind(ROWS).bind(names)).await
}

fn name(key: &RowKey) -> String {
    match key {
        RowKey::Bot(bot) => format!("b:{bot}"),
        RowKey::Follow(FollowKey { bot, follower }) => format!("f:{bot}:{follower}"),
    }
}

/// Applies all changes in the given order. If one change fails, no change is applied.
pub async fn write(
    pool: &ConnectionPool,
    owner: PublicKey,
    changes: Vec<Change>,
) -> Result<(), RegistryError> {
    let mut connection = pool.acquire().await?;
    connection.command("BEGIN").await?;
    check_owner(owner_of(&mut connection, OWNER_STAYS).await?, owner)?;
    apply(&mut connection, &changes).await?;
    connection.command("COMMIT").await?;
    connection.release();
    Ok(())
}

async fn apply(connection: &mut PooledConnection<'_>, changes: &[Change]) -> Result<(), RegistryError> {
    let mut rest = changes;
    while let (batch, [first, ..]) = (batch_of(rest), rest) {
        match first {
            Change::Put(Row::Bot(_)) => put_bots(connection, batch).await?,
            Change::Put(Row::Follow(_)) => put_follows(connection, batch).await?,
            Change::Unfollow(_) => unfollow(connection, batch).await?,
            Change::RemoveBot(bot) => remove_bot(connection, bot).await?,
            Change::RemoveUnfollowedBot(bot) => remove_unfollowed_bot(connection, bot).await?,
        }
        rest = rest.get(batch.len()..).unwrap_or_default();
    }
    Ok(())
}

/// Returns as many of the first changes as one statement can make: changes of one kind that affect
/// each row only once.
fn batch_of(changes: &[Change]) -> &[Change] {
    let sort = |change: &Change| match change {
        Change::Put(Row::Bot(_)) => 0,
        Change::Put(Row::Follow(_)) => 1,
        Change::Unfollow(_) => 2,
        Change::RemoveBot(_) | Change::RemoveUnfollowedBot(_) => 3,
    };
    let (first, mut rows) = (changes.first().map(sort), HashSet::new());
    let fits = |change: &&Change| Some(sort(change)) == first && rows.insert(change.key());
    let most = if first == Some(3) { 1 } else { REGISTRY_BATCH_ROWS };
    let length = changes.iter().take(most).take_while(fits).count();
    changes.get(..length).unwrap_or_default()
}

async fn put_bots(connection: &mut PooledConnection<'_>, batch: &[Change]) -> Result<(), RegistryError> {
    let (mut pubkeys, mut names) = (Vec::new(), Vec::new());
    let (mut times, mut approvals) = (Vec::new(), Vec::new());
    for change in batch {
        if let Change::Put(Row::Bot(BotRow { pubkey, name, registered_at_ms, is_approved })) = change {
            pubkeys.push(pubkey.as_bytes().as_slice());
            names.push(name.as_str());
            times.push(number(*registered_at_ms));
            approvals.push(*is_approved);
        }
    }
    // The statement skips unchanged rows, so that they cause no notification.
    let statement = "INSERT INTO bots AS there (pubkey, name, registered_at_ms, approved)
        SELECT * FROM unnest($1::bytea[], $2::text[], $3::bigint[], $4::boolean[])
        ON CONFLICT (pubkey) DO UPDATE
        SET name = excluded.name, registered_at_ms = least(there.registered_at_ms, excluded.registered_at_ms),
            approved = excluded.approved
        WHERE there.name <> excluded.name OR there.registered_at_ms > excluded.registered_at_ms
            OR there.approved <> excluded.approved";
    connection.execute(query(statement).bind(pubkeys).bind(names).bind(times).bind(approvals)).await
}

async fn remove_bot(connection: &mut PooledConnection<'_>, bot: &PublicKey) -> Result<(), RegistryError> {
    keep_unfollowed(connection, bot).await?;
    let key = bot.as_bytes().as_slice();
    connection.execute(query("DELETE FROM follows WHERE bot = $1").bind(key)).await?;
    connection.execute(query("DELETE FROM bots WHERE pubkey = $1").bind(key)).await
}

async fn remove_unfollowed_bot(
    connection: &mut PooledConnection<'_>,
    bot: &PublicKey,
) -> Result<(), RegistryError> {
    keep_unfollowed(connection, bot).await?;
    let key = bot.as_bytes().as_slice();
    if connection
        .fetch_optional(query("SELECT FROM follows WHERE bot = $1 LIMIT 1").bind(key))
        .await?
        .is_some()
    {
        return Err(RegistryError::Followed(*bot));
    }
    connection.execute(query("DELETE FROM bots WHERE pubkey = $1").bind(key)).await
}

/// Locks a bot's row, so that nobody adds a follow of the bot until the transaction ends. Later
/// statements of the transaction see every follow that was added before the lock.
async fn keep_unfollowed(
    connection: &mut PooledConnection<'_>,
    bot: &PublicKey,
) -> Result<(), RegistryError> {
    let lock = "SELECT FROM bots WHERE pubkey = $1 FOR UPDATE";
    connection.execute(query(lock).bind(bot.as_bytes().as_slice())).await
}

async fn put_follows(connection: &mut PooledConnection<'_>, batch: &[Change]) -> Result<(), RegistryError> {
    let (mut bots, mut followers) = (Vec::new(), Vec::new());
    let (mut secrets, mut times) = (Vec::new(), Vec::new());
    for change in batch {
        if let Change::Put(Row::Follow(FollowRow { key, secret, since_ms })) = change {
            bots.push(key.bot.as_bytes().as_slice());
            followers.push(key.follower.as_bytes().as_slice());
            secrets.push(secret.as_ref().map(SealedSecret::as_bytes));
            times.push(number(*since_ms));
        }
    }
    let statement = "INSERT INTO follows AS there (bot, follower, secret, since_ms)
        SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::bytea[], $4::bigint[])
        ON CONFLICT (bot, follower) DO UPDATE
        SET secret = excluded.secret, since_ms = least(there.since_ms, excluded.since_ms)
        WHERE there.secret IS DISTINCT FROM excluded.secret OR there.since_ms > excluded.since_ms";
    connection.execute(query(statement).bind(bots).bind(followers).bind(secrets).bind(times)).await
}

async fn unfollow(connection: &mut PooledConnection<'_>, batch: &[Change]) -> Result<(), RegistryError> {
    let (mut bots, mut followers) = (Vec::new(), Vec::new());
    for change in batch {
        if let Change::Unfollow(FollowKey { bot, follower }) = change {
            bots.push(bot.as_bytes().as_slice());
            followers.push(follower.as_bytes().as_slice());
        }
    }
    let statement = "DELETE FROM follows USING unnest($1::bytea[], $2::bytea[]) AS gone (bot, follower)
        WHERE follows.bot = gone.bot AND follows.follower = gone.follower";
    connection.execute(query(statement).bind(bots).bind(followers)).await
}

/// Seals all secrets again and changes the owner. Other writers wait, because every writer locks
/// the owner.
pub async fn rekey(
    pool: &ConnectionPool,
    from: PublicKey,
    to: PublicKey,
    reseal: &mut Reseal<'_>,
) -> Result<u64, RegistryError> {
    let mut connection = pool.acquire().await?;
    connection.command("BEGIN").await?;
    check_owner(owner_of(&mut connection, OWNER_CHANGES).await?, from)?;
    let (mut after, mut count) = (None, 0);
    loop {
        let follows = secrets_after(&mut connection, after).await?;
        let Some(last) = follows.last() else { break };
        after = Some(last.key);
        count += replace(&mut connection, &follows, &mut *reseal).await?;
    }
    let owner = query("UPDATE meta SET value = $1 WHERE key = 'owner'").bind(to.as_bytes().as_slice());
    connection.execute(owner).await?;
    connection.command("COMMIT").await?;
    connection.release();
    Ok(count)
}

/// Returns the next follows with secrets.
async fn secrets_after(
    connection: &mut PooledConnection<'_>,
    after: Option<FollowKey>,
) -> Result<Vec<FollowRow>, RegistryError> {
    let statement = "SELECT bot, follower, secret, since_ms FROM follows
        WHERE secret IS NOT NULL AND (bot, follower) > ($1, $2) ORDER BY bot, follower LIMIT $3";
    let bytes =
        |key: fn(&FollowKey) -> &PublicKey| after.as_ref().map_or(&[][..], |after| key(after).as_bytes());
    let statement = query(statement)
        .bind(bytes(|key| &key.bot))
        .bind(bytes(|key| &key.follower))
        .bind(number(REGISTRY_BATCH_ROWS as u64));
    connection.fetch_all(statement).await?.iter().map(follow).collect()
}

/// Replaces secrets and returns their number.
async fn replace(
    connection: &mut PooledConnection<'_>,
    follows: &[FollowRow],
    reseal: &mut Reseal<'_>,
) -> Result<u64, RegistryError> {
    let sealed = follows.iter().map(reseal).collect::<Result<Vec<_>, _>>()?;
    let column = |key: fn(&FollowKey) -> &PublicKey| -> Vec<&[u8]> {
        follows.iter().map(|follow| key(&follow.key).as_bytes().as_slice()).collect()
    };
    let secrets: Vec<_> = sealed.iter().map(|sealed| sealed.as_ref().map(SealedSecret::as_bytes)).collect();
    let statement = "UPDATE follows SET secret = new.secret
        FROM unnest($1::bytea[], $2::bytea[], $3::bytea[]) AS new (bot, follower, secret)
        WHERE follows.bot = new.bot AND follows.follower = new.follower";
    let statement =
        query(statement).bind(column(|key| &key.bot)).bind(column(|key| &key.follower)).bind(secrets);
    connection.execute(statement).await?;
    Ok(sealed.iter().flatten().count() as u64)
}

/// PostgreSQL has no unsigned type. `i64::MAX` milliseconds are 292 million years.
fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
