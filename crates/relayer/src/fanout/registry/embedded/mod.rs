//! The registry in the gateway's own RocksDB. It needs no setup and has no other writers.
//!
//! A column family of the event log holds the rows; [`layout`] describes their format.

pub mod layout;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::{Mutex, OwnedMutexGuard, mpsc};
use tokio::time::{Instant, timeout_at};
use wire::PublicKey;

use super::row::{BotRow, Change, FollowRow, Row, RowKey};
use super::store::{Changed, Decide, Mode, RegistryError, Reseal, Store, StoreFuture, check_owner};
use crate::event_log::registry::RegistryChange;
use crate::event_log::{EventLog, StorageError};
use crate::limits::REGISTRY_BATCH_ROWS;

/// The registry of one gateway. A log must have only one such object.
#[derive(Debug)]
pub struct Embedded {
    log: Arc<EventLog>,
    /// Held from reading the current rows until the change that depends on these rows is committed.
    write_lock: Arc<Mutex<()>>,
}

impl Embedded {
    /// Creates the registry in this log.
    pub fn new(log: Arc<EventLog>) -> Self {
        Self { log, write_lock: Arc::default() }
    }

    /// Runs blocking disk work on the blocking pool.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&EventLog) -> Result<T, RegistryError> + Send + 'static,
    ) -> Result<T, RegistryError> {
        let log = Arc::clone(&self.log);
        tokio::task::spawn_blocking(move || work(&log)).await.unwrap_or_else(|error| Err(task_failed(error)))
    }

    /// Runs a change on the blocking pool. The pool thread holds the lock, so a change runs
    /// exclusively even if its caller is dropped.
    async fn blocking_locked<T: Send + 'static>(
        &self,
        guard: OwnedMutexGuard<()>,
        work: impl FnOnce(&EventLog) -> Result<T, RegistryError> + Send + 'static,
    ) -> Result<T, RegistryError> {
        self.blocking(move |log| {
            let done = work(log);
            drop(guard);
            done
        })
        .await
    }

    async fn lock(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.write_lock).lock_owned().await
    }

    /// Calls `each` for all rows until `each` fails.
    async fn for_each(
        &self,
        mut each: impl FnMut(Row) -> Result<(), RegistryError> + Send,
    ) -> Result<(), RegistryError> {
        let (chunks, mut read) = mpsc::channel(1);
        let log = Arc::clone(&self.log);
        let reader = tokio::task::spawn_blocking(move || send_rows(&log, &chunks));
        while let Some(chunk) = read.recv().await {
            chunk.into_iter().try_for_each(&mut each)?;
        }
        reader.await.unwrap_or_else(|error| Err(task_failed(error)))
    }
}

impl Store for Embedded {
    fn name(&self) -> &'static str {
        "embedded"
    }

    fn prepare(&self, owner: PublicKey) -> StoreFuture<'_, Mode> {
        Box::pin(async move {
            let guard = self.lock().await;
            let prepare = move |log: &EventLog| match log.registry_owner()? {
                None => Ok(log.change_registry(&[], Some(owner))?),
                found => check_owner(found, owner),
            };
            self.blocking_locked(guard, prepare).await?;
            Ok(Mode::Writable)
        })
    }

    fn load<'a>(&'a self, owner: PublicKey, each: &'a mut (dyn FnMut(Row) + Send)) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            // The lock is held until all rows are read, so that the owner cannot change meanwhile.
            let _guard = self.lock().await;
            self.blocking(move |log| check_log_owner(log, owner)).await?;
            let each = move |row| {
                each(row);
                Ok(())
            };
            self.for_each(each).await
        })
    }

    fn read<'a>(&'a self, owner: PublicKey, keys: &'a [RowKey]) -> StoreFuture<'a, Vec<Option<Row>>> {
        let keys = keys.to_vec();
        Box::pin(self.blocking(move |log| {
            let rows = keys.iter().map(|key| stored(log, key)).collect::<Result<_, _>>()?;
            // An owner never returns after a change, so this key was also the owner during the
            // reads.
            check_log_owner(log, owner)?;
            Ok(rows)
        }))
    }

    fn change<'a>(
        &'a self,
        owner: PublicKey,
        keys: &'a [RowKey],
        until: Instant,
        decide: &'a mut Decide<'a>,
    ) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            let busy = |_| RegistryError::Busy("other changes take too long".to_owned());
            let guard = timeout_at(until, self.lock()).await.map_err(busy)?;
            let rows = self.read(owner, keys).await?;
            let changes = decide(&rows)?;
            // No timeout applies here: a commit that has begun takes as long as the disk needs.
            self.blocking_locked(guard, move |log| commit(log, owner, changes)).await
        })
    }

    fn write(&self, owner: PublicKey, changes: Vec<Change>) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            let guard = self.lock().await;
            self.blocking_locked(guard, move |log| commit(log, owner, changes)).await
        })
    }

    fn rekey<'a>(
        &'a self,
        from: PublicKey,
        to: PublicKey,
        reseal: &'a mut Reseal<'a>,
    ) -> StoreFuture<'a, u64> {
        Box::pin(async move {
            let guard = self.lock().await;
            self.blocking(move |log| check_log_owner(log, from)).await?;
            let (mut changes, mut secrets) = (Vec::new(), 0);
            self.for_each(|row| {
                if let Row::Follow(mut follow) = row
                    && follow.secret.is_some()
                {
                    follow.secret = reseal(&follow)?;
                    secrets += u64::from(follow.secret.is_some());
                    changes.push(put(&Row::Follow(follow)));
                }
                Ok(())
            })
            .await?;
            self.blocking_locked(guard, move |log| Ok(log.change_registry(&changes, Some(to))?)).await?;
            Ok(secrets)
        })
    }

    fn changed(&self) -> StoreFuture<'_, Changed> {
        Box::pin(std::future::pending())
    }
}

/// Changes that are not committed yet. They hide the stored rows.
struct PendingChanges<'l> {
    log: &'l EventLog,
    rows: BTreeMap<RowKey, Option<Row>>,
}

impl PendingChanges<'_> {
    fn apply(&mut self, change: Change) -> Result<(), RegistryError> {
        let key = change.key();
        let row = match change {
            Change::Unfollow(_) => None,
            Change::RemoveBot(bot) => {
                for follow in self.follows_of(&bot)? {
                    self.rows.insert(follow, None);
                }
                None
            }
            Change::RemoveUnfollowedBot(bot) if self.follows_of(&bot)?.is_empty() => None,
            Change::RemoveUnfollowedBot(bot) => return Err(RegistryError::Followed(bot)),
            Change::Put(Row::Bot(bot)) => {
                let earlier = match self.row(key)? {
                    Some(Row::Bot(there)) => there.registered_at_ms,
                    _ => bot.registered_at_ms,
                };
                Some(Row::Bot(BotRow { registered_at_ms: bot.registered_at_ms.min(earlier), ..bot }))
            }
            Change::Put(Row::Follow(follow)) => {
                if self.row(RowKey::Bot(follow.key.bot))?.is_none() {
                    return Err(RegistryError::NoSuchBot(follow.key.bot));
                }
                let earlier = match self.row(key)? {
                    Some(Row::Follow(there)) => there.since_ms,
                    _ => follow.since_ms,
                };
                Some(Row::Follow(FollowRow { since_ms: follow.since_ms.min(earlier), ..follow }))
            }
        };
        self.rows.insert(key, row);
        Ok(())
    }

    /// Returns the follows of a bot after the pending changes.
    fn follows_of(&self, bot: &PublicKey) -> Result<BTreeSet<RowKey>, StorageError> {
        let (from, mut follows) = (layout::follows_of(bot), BTreeSet::new());
        self.log.for_each_registry_row(&from, |key, _| {
            if !key.starts_with(&from) {
                return Some(false);
            }
            follows.insert(layout::read_key(key)?);
            Some(true)
        })?;
        for (key, row) in &self.rows {
            match key {
                RowKey::Follow(follow) if follow.bot == *bot && row.is_some() => follows.insert(*key),
                _ => row.is_none() && follows.remove(key),
            };
        }
        Ok(follows)
    }

    fn row(&self, key: RowKey) -> Result<Option<Row>, StorageError> {
        match self.rows.get(&key) {
            Some(row) => Ok(row.clone()),
            None => stored(self.log, &key),
        }
    }

    fn changes(&self) -> Vec<RegistryChange> {
        let changes = self.rows.iter().map(|(key, row)| match row {
            Some(row) => put(row),
            None => (layout::key(key), None),
        });
        changes.collect()
    }
}

/// Commits changes in the given order. If one change fails, no change is committed.
fn commit(log: &EventLog, owner: PublicKey, changes: Vec<Change>) -> Result<(), RegistryError> {
    check_log_owner(log, owner)?;
    if changes.is_empty() {
        return Ok(());
    }
    let mut pending = PendingChanges { log, rows: BTreeMap::new() };
    changes.into_iter().try_for_each(|change| pending.apply(change))?;
    Ok(log.change_registry(&pending.changes(), None)?)
}

fn put(row: &Row) -> RegistryChange {
    (layout::key(&row.key()), Some(layout::value(row)))
}

fn stored(log: &EventLog, key: &RowKey) -> Result<Option<Row>, StorageError> {
    log.registry_row(&layout::key(key), |value| layout::read(*key, value))
}

/// Sends all rows in chunks until the receiver is dropped.
fn send_rows(log: &EventLog, chunks: &mpsc::Sender<Vec<Row>>) -> Result<(), RegistryError> {
    let mut chunk = Vec::new();
    log.for_each_registry_row(&[], |key, value| {
        chunk.push(layout::read(layout::read_key(key)?, value)?);
        let is_full = chunk.len() >= REGISTRY_BATCH_ROWS;
        Some(!is_full || chunks.blocking_send(std::mem::take(&mut chunk)).is_ok())
    })?;
    // Sending fails if the receiver was dropped.
    chunks.blocking_send(chunk).ok();
    Ok(())
}

fn check_log_owner(log: &EventLog, ours: PublicKey) -> Result<(), RegistryError> {
    check_owner(log.registry_owner()?, ours)
}

/// Reports that the task panicked or the process is stopping.
fn task_failed(error: tokio::task::JoinError) -> RegistryError {
    StorageError::new("do work for the registry", error).into()
}
