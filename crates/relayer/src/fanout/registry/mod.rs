//! Who may be followed and who follows: kept in a [`store`], known in memory.
//!
//! A [`row`] is a bot or a follow. Secrets are [sealed](seal) before a store sees them. There are two stores: one that is
//! [`embedded`] in the gateway's own database, and [`postgres`], which several gateways share. What is written goes to
//! the store first and is known then; what others write in a database that is shared, the store tells.

pub mod embedded;
pub mod postgres;
pub mod row;
pub mod seal;
pub mod store;
pub mod transfer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::MutexGuard;
use tokio::time::{sleep, timeout};
use wire::{PublicKey, Signer};

use super::directory::{Directory, Opened};
use super::keys::MessageKey;
use crate::clock::unix_ms;
use crate::config::Config;
use crate::event_log::EventLog;
use crate::limits::{REGISTRY_RETRY, REGISTRY_RETRY_SELDOM, REGISTRY_START_MAX, REGISTRY_TIMEOUT};
use crate::telemetry::Metrics;

pub use embedded::Embedded;
pub use postgres::Postgres;
pub use row::{BotName, BotRow, Change, FollowKey, FollowRow, Row, RowKey};
pub use seal::{SealedSecret, Sealer};
pub use store::{Changed, RegistryError, Store};

/// Whether the registry's database can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It can.
    Up,
    /// It cannot. What is known goes on to be served.
    Down {
        /// Since when, in Unix milliseconds.
        since_ms: u64,
        /// Why, in a few words that anybody may read.
        reason: &'static str,
    },
}

/// How much there may be, so that nobody fills memory and disk from outside. What is there already may be more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bots.
    pub bots: usize,
    /// Follows of all of them.
    pub follows: usize,
}

/// The registry.
#[derive(Debug)]
pub struct Registry {
    store: Arc<dyn Store>,
    owner: PublicKey,
    sealer: Sealer,
    directory: Arc<Directory>,
    /// Held from a write, or a look at what others wrote, until it is known here: so that what is known is never older
    /// than what was written before.
    turn: tokio::sync::Mutex<()>,
    health: Mutex<Health>,
    room: Room,
    is_loaded: AtomicBool,
    metrics: Arc<Metrics>,
}

/// The store that is configured: Postgres, or else the gateway's own database.
///
/// # Errors
/// When the DSN is none.
pub fn store(
    config: &Config,
    log: &Arc<EventLog>,
    queries: Counter,
) -> Result<Arc<dyn Store>, RegistryError> {
    Ok(match postgres(config, queries)? {
        Some(store) => store,
        None => Arc::new(Embedded::new(Arc::clone(log))),
    })
}

/// The store in Postgres, if one is configured.
///
/// # Errors
/// When the DSN is none.
pub fn postgres(config: &Config, queries: Counter) -> Result<Option<Arc<dyn Store>>, RegistryError> {
    let Some(dsn) = &config.postgres.dsn else { return Ok(None) };
    Ok(Some(Arc::new(Postgres::new(dsn, config.postgres.max_connections, queries)?)))
}

/// Holds that nobody else writes.
type Turn<'a> = MutexGuard<'a, ()>;

impl Registry {
    /// Reads what a store has. One that cannot be reached, or takes too long, is tried again by
    /// [`follow`](Self::follow).
    ///
    /// # Errors
    /// When the store fails in a way that does not pass by itself.
    pub async fn open(
        store: Arc<dyn Store>,
        gateway: &Signer,
        room: Room,
        metrics: Arc<Metrics>,
    ) -> Result<Arc<Self>, RegistryError> {
        let registry = Arc::new(Self {
            store,
            owner: *gateway.pubkey(),
            sealer: Sealer::new(gateway),
            directory: Arc::default(),
            turn: tokio::sync::Mutex::default(),
            health: Mutex::new(Health::Up),
            room,
            is_loaded: AtomicBool::new(false),
            metrics,
        });
        let slow = || RegistryError::Unreachable("it takes too long to read".to_owned());
        match timeout(REGISTRY_START_MAX, registry.reload()).await.unwrap_or_else(|_| Err(slow())) {
            Ok(()) => registry.note_up(),
            Err(error) if error.is_passing() => registry.note_down(&error),
            Err(error) => return Err(error),
        }
        Ok(registry)
    }

    /// What is known.
    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// Where it is kept.
    pub fn store_name(&self) -> &'static str {
        self.store.name()
    }

    /// Whether it can be written.
    pub fn health(&self) -> Health {
        self.health.lock().clone()
    }

    /// Whether it was read since the start: until then nobody is known.
    pub fn is_loaded(&self) -> bool {
        self.is_loaded.load(Ordering::Acquire)
    }

    /// Registers a bot, or gives it another name. Returns whether it is new.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn register(&self, pubkey: PublicKey, name: BotName) -> Result<bool, RegistryError> {
        let _turn = self.turn_to_write().await?;
        let known = self.directory.bot(&pubkey);
        // Programs say so each time that they start.
        if known.as_ref().is_some_and(|bot| bot.name() == name) {
            return Ok(false);
        }
        let is_new = known.is_none();
        if is_new && self.directory.len().0 >= self.room.bots {
            return Err(RegistryError::Full);
        }
        let row = BotRow { pubkey, name: name.clone(), registered_at_ms: unix_ms() };
        self.store.write(self.owner, vec![Change::Put(Row::Bot(row))]).await?;
        self.directory.put_bot(pubkey, name);
        self.show_size();
        Ok(is_new)
    }

    /// A follower follows a bot from now on, and has agreed on this secret with us. Returns whether it is new.
    ///
    /// # Errors
    /// When there is no such bot, it follows enough, or the store fails.
    pub async fn subscribe(&self, key: FollowKey, secret: Option<&[u8]>) -> Result<bool, RegistryError> {
        let turn = self.turn_to_write().await?;
        if self.directory.bot(&key.bot).is_none() {
            // Another gateway may have registered it a moment ago.
            self.look_at(&turn, &[RowKey::Bot(key.bot)]).await?;
            self.directory.bot(&key.bot).ok_or(RegistryError::NoSuchBot(key.bot))?;
        }
        let known = self.directory.follow(&key);
        let agreed = secret.map(MessageKey::from_shared_secret).map(Arc::new);
        if known.as_ref().is_some_and(|known| known.secret == agreed) {
            return Ok(false);
        }
        if known.is_none() && self.directory.follows_enough(&key.follower) {
            return Err(RegistryError::TooManyFollows);
        }
        if known.is_none() && self.directory.len().1 >= self.room.follows {
            return Err(RegistryError::Full);
        }
        let since_ms = known.as_ref().map_or_else(unix_ms, |known| known.since_ms);
        let sealed = secret.map(|secret| self.sealer.seal(&key, secret));
        let row = FollowRow { key, secret: sealed, since_ms };
        self.store.write(self.owner, vec![Change::Put(Row::Follow(row))]).await?;
        self.directory.put_follow(Opened { key, secret: agreed, since_ms });
        self.show_size();
        Ok(known.is_none())
    }

    /// A follower follows a bot no more. Returns whether it did.
    ///
    /// # Errors
    /// When there is no such bot, or the store fails.
    pub async fn unsubscribe(&self, key: FollowKey) -> Result<bool, RegistryError> {
        let turn = self.turn_to_write().await?;
        if self.directory.follow(&key).is_none() {
            self.look_at(&turn, &[RowKey::Bot(key.bot), RowKey::Follow(key)]).await?;
            self.directory.bot(&key.bot).ok_or(RegistryError::NoSuchBot(key.bot))?;
        }
        let did_follow = self.directory.follow(&key).is_some();
        // In any case: a follow that was left out, because its secret does not open, is in the store.
        self.store.write(self.owner, vec![Change::Unfollow(key)]).await?;
        self.directory.remove_follow(&key);
        self.show_size();
        Ok(did_follow)
    }

    /// Follows what others write, and reads everything again when that was not possible for a while. It does not end.
    pub async fn follow(&self) {
        loop {
            match self.follow_once().await {
                Ok(()) => self.note_up(),
                Err(error) => {
                    self.note_down(&error);
                    // What somebody must mend is not mended within a second.
                    sleep(if error.is_passing() { REGISTRY_RETRY } else { REGISTRY_RETRY_SELDOM }).await;
                }
            }
        }
    }

    async fn follow_once(&self) -> Result<(), RegistryError> {
        if self.health() != Health::Up {
            return self.reload().await;
        }
        match self.store.changed().await? {
            Changed::Rows(keys) => {
                let turn = self.turn.lock().await;
                self.look_at(&turn, &keys).await
            }
            Changed::Unknown => self.reload().await,
        }
    }

    /// Reads everything again.
    async fn reload(&self) -> Result<(), RegistryError> {
        // However many write before: they have time-outs.
        let _turn = self.turn.lock().await;
        self.store.prepare(self.owner).await?;
        let (mut bots, mut follows) = (Vec::new(), Vec::new());
        let mut each = |row| match row {
            Row::Bot(bot) => bots.push((bot.pubkey, bot.name)),
            Row::Follow(follow) => follows.extend(self.opened(follow)),
        };
        self.store.load(self.owner, &mut each).await?;
        self.directory.replace(bots, follows);
        self.is_loaded.store(true, Ordering::Release);
        self.show_size();
        Ok(())
    }

    /// Reads these rows again.
    async fn look_at(&self, _: &Turn<'_>, keys: &[RowKey]) -> Result<(), RegistryError> {
        let rows = self.store.read(self.owner, keys).await?;
        for (key, row) in keys.iter().zip(rows) {
            match (key, row) {
                (_, Some(Row::Bot(bot))) => self.directory.put_bot(bot.pubkey, bot.name),
                (RowKey::Follow(key), Some(Row::Follow(follow))) => match self.opened(follow) {
                    Some(follow) => self.directory.put_follow(follow),
                    None => self.directory.remove_follow(key),
                },
                (RowKey::Bot(_), Some(Row::Follow(_))) => {
                    return Err(RegistryError::Damaged("a follow where a bot was asked for".to_owned()));
                }
                (RowKey::Bot(pubkey), None) => self.directory.remove_bot(pubkey),
                (RowKey::Follow(key), None) => self.directory.remove_follow(key),
            }
        }
        self.show_size();
        Ok(())
    }

    /// A follow with what follows from its secret. One whose secret does not open is left out: its signals would be
    /// encrypted otherwise than it has agreed with us.
    fn opened(&self, FollowRow { key, secret, since_ms }: FollowRow) -> Option<Opened> {
        let secret = match secret.map(|secret| self.sealer.open(&key, &secret)) {
            None => None,
            Some(Ok(secret)) => Some(Arc::new(MessageKey::from_shared_secret(&secret))),
            Some(Err(error)) => {
                let FollowKey { bot, follower } = key;
                tracing::error!(%bot, %follower, "a follow is left out until it is made anew: {error}");
                return None;
            }
        };
        Some(Opened { key, secret, since_ms })
    }

    /// While the database is known to be away, who writes is told at once: it is tried again without him.
    async fn turn_to_write(&self) -> Result<Turn<'_>, RegistryError> {
        if self.health() != Health::Up {
            return Err(RegistryError::Unreachable("it is known to be away".to_owned()));
        }
        // What is under way has its own time-outs, and reading a large registry takes a while.
        let turn = timeout(REGISTRY_TIMEOUT, self.turn.lock()).await;
        turn.map_err(|_| RegistryError::Unreachable("it is busy".to_owned()))
    }

    fn show_size(&self) {
        let (bots, follows) = self.directory.len();
        self.metrics.registry_bots.set(i64::try_from(bots).unwrap_or(i64::MAX));
        self.metrics.registry_follows.set(i64::try_from(follows).unwrap_or(i64::MAX));
    }

    fn note_up(&self) {
        let before = std::mem::replace(&mut *self.health.lock(), Health::Up);
        self.metrics.registry_up.set(1);
        if let Health::Down { since_ms, .. } = before {
            let seconds = unix_ms().saturating_sub(since_ms) / 1_000;
            tracing::info!(
                store = self.store.name(),
                seconds,
                "the registry of the fan-out can be used again"
            );
        }
    }

    /// A failure is logged when it is new, not each time that it is met again.
    fn note_down(&self, error: &RegistryError) {
        let reason = error.kind();
        self.metrics.registry_up.set(0);
        let mut health = self.health.lock();
        let since_ms = match &*health {
            Health::Down { reason: before, .. } if *before == reason => return,
            Health::Down { since_ms, .. } => *since_ms,
            Health::Up => unix_ms(),
        };
        tracing::error!("{error}; known followers are served, and it is tried again");
        *health = Health::Down { since_ms, reason };
    }
}
