//! The changes that bots and followers request. The store decides the outcome of each change; then
//! the directory is updated.

use std::sync::Arc;

use tokio::time::{Instant, timeout_at};
use wire::PublicKey;

use super::health::Health;
use super::row::{BotName, BotRow, Change, FollowKey, FollowRow, Row, RowKey};
use super::store::{Decide, RegistryError};
use super::{Registry, WriteGuard};
use crate::clock::unix_ms;
use crate::event_log::StorageError;
use crate::fanout::keys::MessageKey;
use crate::fanout::registry::directory::UnsealedFollow;
use crate::limits::{REGISTRY_MARGIN, REGISTRY_TIMEOUT};

/// What happens to a bot that is not yet registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewBots {
    /// The bot may be followed at once.
    Approved,
    /// The bot waits for the operator's approval.
    Pending,
    /// The bot is refused.
    Refused,
}

/// The result of registering a bot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registered {
    /// Whether the bot was not registered before.
    pub is_new: bool,
    /// Whether the bot may be followed.
    pub is_approved: bool,
}

impl Registry {
    /// Registers or renames a bot. If the registry is full, removes the oldest bot that has no
    /// followers and has published nothing.
    ///
    /// # Errors
    /// When a new bot is refused or finds no room, or when the store fails.
    pub async fn register(
        self: &Arc<Self>,
        pubkey: PublicKey,
        name: BotName,
        new_bots: NewBots,
    ) -> Result<Registered, RegistryError> {
        let registry = Arc::clone(self);
        run_to_completion(async move { registry.try_register(pubkey, name, new_bots).await }).await
    }

    /// Approves a bot. Returns whether the bot was waiting for approval.
    ///
    /// # Errors
    /// When the bot is not registered, or the store fails.
    pub async fn approve(self: &Arc<Self>, pubkey: PublicKey) -> Result<bool, RegistryError> {
        let registry = Arc::clone(self);
        run_to_completion(async move { registry.try_approve(pubkey).await }).await
    }

    async fn try_approve(&self, pubkey: PublicKey) -> Result<bool, RegistryError> {
        let until = Instant::now() + REGISTRY_TIMEOUT;
        let guard = self.lock_for_write(until).await?;
        let mut approved = None;
        let mut decide = |rows: &[Option<Row>]| match rows.first() {
            Some(Some(Row::Bot(bot))) => {
                let row = BotRow { is_approved: true, ..bot.clone() };
                approved = Some((!bot.is_approved, row.clone()));
                Ok(if bot.is_approved { Vec::new() } else { vec![Change::Put(Row::Bot(row))] })
            }
            _ => Err(RegistryError::NoSuchBot(pubkey)),
        };
        self.change(&guard, &[RowKey::Bot(pubkey)], until, &mut decide).await?;
        let (had_to_wait, row) = approved.ok_or(RegistryError::NoSuchBot(pubkey))?;
        self.directory.put_bot(row);
        Ok(had_to_wait)
    }

    /// Removes a bot and its follows. Returns whether the bot was registered.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn remove_bot(self: &Arc<Self>, pubkey: PublicKey) -> Result<bool, RegistryError> {
        let registry = Arc::clone(self);
        run_to_completion(async move { registry.try_remove_bot(pubkey).await }).await
    }

    async fn try_remove_bot(&self, pubkey: PublicKey) -> Result<bool, RegistryError> {
        let until = Instant::now() + REGISTRY_TIMEOUT;
        let guard = self.lock_for_write(until).await?;
        let mut was_there = false;
        let mut decide = |rows: &[Option<Row>]| {
            was_there = matches!(rows.first(), Some(Some(_)));
            Ok(if was_there { vec![Change::RemoveBot(pubkey)] } else { Vec::new() })
        };
        self.change(&guard, &[RowKey::Bot(pubkey)], until, &mut decide).await?;
        self.directory.remove_bot(&pubkey);
        self.update_size_metrics();
        Ok(was_there)
    }

    async fn try_register(
        &self,
        pubkey: PublicKey,
        name: BotName,
        new_bots: NewBots,
    ) -> Result<Registered, RegistryError> {
        let until = Instant::now() + REGISTRY_TIMEOUT;
        let guard = self.lock_for_write(until).await?;
        let is_full = self.directory.len().0 >= self.limits.lock().bots;
        let evicted = if is_full { self.directory.oldest_idle_bot() } else { None };
        let is_approved = new_bots == NewBots::Approved;
        let mut row = BotRow { pubkey, name, registered_at_ms: unix_ms(), is_approved };
        let (mut is_new, mut was_evicted) = (false, false);
        let mut decide = |rows: &[Option<Row>]| {
            if let Some(Some(Row::Bot(there))) = rows.first() {
                row.is_approved |= there.is_approved;
                row.registered_at_ms = row.registered_at_ms.min(there.registered_at_ms);
                // An unchanged row needs no write: bots register at each of their starts.
                let is_same = *there == row;
                return Ok(if is_same { Vec::new() } else { vec![Change::Put(Row::Bot(row.clone()))] });
            }
            is_new = true;
            let put = Change::Put(Row::Bot(row.clone()));
            match evicted {
                _ if new_bots == NewBots::Refused => Err(RegistryError::Closed),
                None if is_full => Err(RegistryError::Full),
                None => Ok(vec![put]),
                Some(first) => {
                    was_evicted = true;
                    Ok(vec![Change::RemoveUnfollowedBot(first), put])
                }
            }
        };
        match self.change(&guard, &[RowKey::Bot(pubkey)], until, &mut decide).await {
            Ok(()) => {}
            // The bot to evict has got a follower through another gateway, and this gateway has not
            // received that change yet.
            Err(RegistryError::Followed(_)) => return Err(RegistryError::Full),
            Err(error) => return Err(error),
        }
        if let Some(first) = evicted.filter(|_| was_evicted) {
            tracing::info!(
                name: "bot_evicted",
                bot = %first, "removed a bot without followers and signals to make room for a new one"
            );
            self.directory.remove_bot(&first);
        }
        let registered = Registered { is_new, is_approved: row.is_approved };
        self.directory.put_bot(row);
        self.update_size_metrics();
        Ok(registered)
    }

    /// Adds a follow, or changes the secret of a follow. Returns whether the follow is new.
    ///
    /// # Errors
    /// When the bot is not registered or not approved, a limit on follows is reached, or the store
    /// fails.
    pub async fn subscribe(
        self: &Arc<Self>,
        key: FollowKey,
        secret: Option<&[u8]>,
    ) -> Result<bool, RegistryError> {
        let sealed = secret.map(|secret| self.sealer.seal(&key, secret));
        let row = FollowRow { key, secret: sealed, since_ms: unix_ms() };
        let message_key = secret.map(MessageKey::from_shared_secret).map(Arc::new);
        let registry = Arc::clone(self);
        run_to_completion(async move { registry.try_subscribe(row, message_key).await }).await
    }

    async fn try_subscribe(
        &self,
        row: FollowRow,
        message_key: Option<Arc<MessageKey>>,
    ) -> Result<bool, RegistryError> {
        let until = Instant::now() + REGISTRY_TIMEOUT;
        let guard = self.lock_for_write(until).await?;
        let key = row.key;
        self.ensure_bot_known(&guard, &key.bot, until).await?;
        if !self.is_approved(&key.bot) {
            self.refresh_bot(&guard, &key.bot, until).await?;
            if !self.is_approved(&key.bot) {
                return Err(RegistryError::NotApproved(key.bot));
            }
        }
        let is_at_follow_limit = self.directory.is_at_follow_limit(&key.follower);
        let is_full = self.directory.len().1 >= self.limits.lock().follows;
        let (mut is_new, mut since_ms) = (false, row.since_ms);
        let mut decide = |rows: &[Option<Row>]| match rows.first() {
            Some(Some(Row::Follow(there))) => {
                (is_new, since_ms) = (false, there.since_ms.min(row.since_ms));
                let is_same = self.message_key(there).is_ok_and(|there| there == message_key);
                Ok(if is_same { Vec::new() } else { vec![Change::Put(Row::Follow(row.clone()))] })
            }
            _ if is_at_follow_limit => Err(RegistryError::TooManyFollows),
            _ if is_full => Err(RegistryError::Full),
            _ => {
                is_new = true;
                Ok(vec![Change::Put(Row::Follow(row.clone()))])
            }
        };
        self.change(&guard, &[RowKey::Follow(key)], until, &mut decide).await?;
        self.directory.put_follow(UnsealedFollow { key, secret: message_key, since_ms });
        self.update_size_metrics();
        Ok(is_new)
    }

    /// Removes a follow. Returns whether the follow existed.
    ///
    /// # Errors
    /// When the bot is not registered, or the store fails.
    pub async fn unsubscribe(self: &Arc<Self>, key: FollowKey) -> Result<bool, RegistryError> {
        let registry = Arc::clone(self);
        run_to_completion(async move { registry.try_unsubscribe(key).await }).await
    }

    async fn try_unsubscribe(&self, key: FollowKey) -> Result<bool, RegistryError> {
        let until = Instant::now() + REGISTRY_TIMEOUT;
        let guard = self.lock_for_write(until).await?;
        self.ensure_bot_known(&guard, &key.bot, until).await?;
        let mut did_follow = false;
        let mut decide = |rows: &[Option<Row>]| {
            did_follow = matches!(rows.first(), Some(Some(_)));
            Ok(if did_follow { vec![Change::Unfollow(key)] } else { Vec::new() })
        };
        self.change(&guard, &[RowKey::Follow(key)], until, &mut decide).await?;
        self.directory.remove_follow(&key);
        self.update_size_metrics();
        Ok(did_follow)
    }

    /// Makes sure that a registered bot is in the directory: another gateway may have just
    /// registered the bot.
    async fn ensure_bot_known(
        &self,
        guard: &WriteGuard<'_>,
        bot: &PublicKey,
        until: Instant,
    ) -> Result<(), RegistryError> {
        if self.directory.bot(bot).is_none() {
            self.refresh_bot(guard, bot, until).await?;
            self.directory.bot(bot).ok_or(RegistryError::NoSuchBot(*bot))?;
        }
        Ok(())
    }

    async fn refresh_bot(
        &self,
        guard: &WriteGuard<'_>,
        bot: &PublicKey,
        until: Instant,
    ) -> Result<(), RegistryError> {
        let looked = timeout_at(until, self.refresh(guard, &[RowKey::Bot(*bot)])).await;
        self.record_failure(looked.unwrap_or_else(|_| Err(busy())))
    }

    fn is_approved(&self, bot: &PublicKey) -> bool {
        self.directory.bot(bot).is_some_and(|bot| bot.is_approved())
    }

    /// Makes a change in the store. Records a failure in the health.
    async fn change<'a>(
        &'a self,
        _: &WriteGuard<'_>,
        keys: &'a [RowKey],
        until: Instant,
        decide: &'a mut Decide<'a>,
    ) -> Result<(), RegistryError> {
        self.record_failure(self.store.change(self.owner, keys, until, decide).await)
    }

    fn record_failure<T>(&self, done: Result<T, RegistryError>) -> Result<T, RegistryError> {
        done.inspect_err(|error| self.health.note_write_failure(error))
    }

    /// Takes the write lock. Fails at once while the database is known to accept no writes;
    /// [`keep_in_sync`](Self::keep_in_sync) notices when the database accepts writes again.
    async fn lock_for_write(&self, until: Instant) -> Result<WriteGuard<'_>, RegistryError> {
        match self.health() {
            Health::Up => {}
            Health::ReadOnly { .. } => {
                return Err(RegistryError::ReadOnly("it is known to take no writes".to_owned()));
            }
            Health::Down { .. } => {
                return Err(RegistryError::Unreachable("it is known to be down".to_owned()));
            }
        }
        // A holder of the lock has timeouts, but may read a large registry, which takes a while.
        timeout_at(until - REGISTRY_MARGIN, self.write_lock.lock()).await.map_err(|_| busy())
    }
}

fn busy() -> RegistryError {
    RegistryError::Busy("other changes take too long".to_owned())
}

/// Runs `work` in its own task, so that the work completes even if the caller disconnects.
/// Otherwise a committed change could be missing from the directory.
async fn run_to_completion<T: Send + 'static>(
    work: impl Future<Output = Result<T, RegistryError>> + Send + 'static,
) -> Result<T, RegistryError> {
    let stopped = |error| StorageError::new("change the registry", error).into();
    tokio::spawn(work).await.unwrap_or_else(|error| Err(stopped(error)))
}
