//! The registry: bots and follows, stored in a [`store`] and cached in a [`directory`].
//!
//! A [`row`] is a bot or a follow. A store gets only [sealed](seal) secrets. There are two stores:
//! [`embedded`] in the gateway's own database, and [`postgres`], which several gateways share. The
//! store decides the outcome of each change; then the directory is updated. A shared store also
//! reports changes by other gateways.

pub mod directory;
pub(crate) mod embedded;
pub(crate) mod follow;
mod health;
pub(crate) mod postgres;
pub(crate) mod row;
pub(crate) mod seal;
pub(crate) mod store;
pub(crate) mod transfer;
mod writes;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::MutexGuard;
use tokio::time::{Instant, sleep, timeout};
use wire::{PublicKey, Signer};

use super::keys::MessageKey;
use super::shared_secret;
use crate::config::{Config, Fanout};
use crate::event_log::EventLog;
use crate::fanout::Metrics;
use crate::limits::{REGISTRY_RETRY, REGISTRY_RETRY_SELDOM, REGISTRY_START_MAX};

use directory::{Directory, UnsealedFollow};
use health::HealthMonitor;
use seal::UnsealError;

pub use embedded::Embedded;
pub use health::Health;
pub use postgres::Postgres;
pub use row::{BotName, BotRow, Change, FollowKey, FollowRow, Row, RowKey};
pub use seal::{SealedSecret, Sealer};
pub use store::{Changed, Mode, RegistryError, Store};
pub use writes::{NewBots, Registered};

/// Limits that prevent callers from filling memory and disk. Existing rows beyond the limits are
/// kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegistryLimits {
    pub bots: usize,
    /// The limit on the follows of all bots together.
    pub follows: usize,
}

impl RegistryLimits {
    pub(super) const fn of(fanout: &Fanout) -> Self {
        Self { bots: fanout.max_bots.get(), follows: fanout.max_follows.get() }
    }
}

#[derive(Debug)]
pub struct Registry {
    store: Arc<dyn Store>,
    owner: PublicKey,
    sealer: Sealer,
    directory: Arc<Directory>,
    /// Held while the store is written, or changes of other gateways are read, and until the
    /// directory is updated. So the directory never returns to an older state. The value is the
    /// time of the last full read.
    write_lock: tokio::sync::Mutex<Option<Instant>>,
    health: HealthMonitor,
    limits: Mutex<RegistryLimits>,
    is_loaded: AtomicBool,
    metrics: Arc<Metrics>,
}

/// Opens the store: PostgreSQL if configured, otherwise the gateway's own database.
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

/// Opens the PostgreSQL store, if one is configured.
pub fn postgres(config: &Config, queries: Counter) -> Result<Option<Arc<dyn Store>>, RegistryError> {
    let Some(dsn) = &config.postgres.dsn else { return Ok(None) };
    Ok(Some(Arc::new(Postgres::new(dsn, config.postgres.max_connections, queries)?)))
}

/// Proof that the write lock is held.
type WriteGuard<'a> = MutexGuard<'a, Option<Instant>>;

impl Registry {
    /// Reads all rows. If the store is unreachable or too slow,
    /// [`keep_in_sync`](Self::keep_in_sync) tries again.
    ///
    /// # Errors
    /// When the store fails in a way that is not transient.
    pub async fn open(
        store: Arc<dyn Store>,
        gateway: &Signer,
        limits: RegistryLimits,
        metrics: Arc<Metrics>,
    ) -> Result<Arc<Self>, RegistryError> {
        let health = HealthMonitor::new(store.name(), Arc::clone(&metrics));
        let registry = Arc::new(Self {
            store,
            owner: *gateway.pubkey(),
            sealer: Sealer::new(gateway),
            directory: Arc::default(),
            write_lock: tokio::sync::Mutex::default(),
            health,
            limits: Mutex::new(limits),
            is_loaded: AtomicBool::new(false),
            metrics,
        });
        let slow = || RegistryError::Unreachable("reading it takes too long".to_owned());
        match timeout(REGISTRY_START_MAX, registry.reload()).await.unwrap_or_else(|_| Err(slow())) {
            Ok(()) => {}
            Err(error) if error.is_transient() => registry.health.note_unavailable(&error),
            Err(error) => return Err(error),
        }
        Ok(registry)
    }

    /// Sets the limits for new rows.
    pub(super) fn set_limits(&self, limits: RegistryLimits) {
        *self.limits.lock() = limits;
    }

    /// The bots and follows in memory.
    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    pub(crate) fn store_name(&self) -> &'static str {
        self.store.name()
    }

    /// Whether the store can be read and written.
    pub fn health(&self) -> Health {
        self.health.get()
    }

    /// Whether the store has been read since the start. No bot is known before that read.
    pub fn is_loaded(&self) -> bool {
        self.is_loaded.load(Ordering::Acquire)
    }

    /// Applies the changes of other gateways. Reads all rows again after an interruption. Never
    /// returns.
    pub async fn keep_in_sync(&self) {
        loop {
            if let Err(error) = self.sync_once().await {
                // Changes may have been missed, so even a busy database counts as unavailable.
                self.health.note_unavailable(&error);
            }
            match self.health() {
                Health::Up => {}
                Health::ReadOnly { .. } | Health::Down { is_transient: true, .. } => {
                    sleep(REGISTRY_RETRY).await
                }
                // An operator must act, so frequent attempts are pointless.
                Health::Down { is_transient: false, .. } => sleep(REGISTRY_RETRY_SELDOM).await,
            }
        }
    }

    async fn sync_once(&self) -> Result<(), RegistryError> {
        if self.health() != Health::Up {
            return self.reload().await;
        }
        let changed = tokio::select! {
            changed = self.store.changed() => changed?,
            () = self.health.write_failed() => return Ok(()),
        };
        match changed {
            Changed::Rows(keys) => {
                let guard = self.write_lock.lock().await;
                self.refresh(&guard, &keys).await
            }
            Changed::Unknown => self.reload().await,
        }
    }

    /// Reads all rows again. Each attempt checks whether the store is read-only; a read-only store
    /// is read less often.
    async fn reload(&self) -> Result<(), RegistryError> {
        // No timeout is needed: the writers that hold the lock have timeouts.
        let mut read_at = self.write_lock.lock().await;
        let mode = self.store.prepare(self.owner).await?;
        let is_recent = read_at.is_some_and(|at| at.elapsed() < REGISTRY_RETRY_SELDOM);
        if mode == Mode::Writable || !is_recent {
            let is_first = !self.is_loaded();
            let (mut bots, mut follows, mut weak) = (Vec::new(), Vec::new(), 0_u64);
            let mut each = |row| match row {
                Row::Bot(bot) => bots.push(bot),
                Row::Follow(follow) => {
                    weak += u64::from(is_first && self.is_weak(&follow));
                    follows.extend(self.unseal(follow));
                }
            };
            self.store.load(self.owner, &mut each).await?;
            if weak > 0 {
                tracing::warn!(
                    name: "weak_secrets",
                    follows = weak,
                    "some follows have a weak shared secret, which would be refused today; they are still served: \
                     ask their followers to subscribe again with a random secret"
                );
            }
            self.directory.replace(bots, follows);
            *read_at = Some(Instant::now());
            self.is_loaded.store(true, Ordering::Release);
            self.update_size_metrics();
        }
        self.health.note_read(mode);
        Ok(())
    }

    /// Reads these rows again and updates the directory.
    async fn refresh(&self, _: &WriteGuard<'_>, keys: &[RowKey]) -> Result<(), RegistryError> {
        let rows = self.store.read(self.owner, keys).await?;
        for (key, row) in keys.iter().zip(rows) {
            match (key, row) {
                (_, Some(Row::Bot(bot))) => self.directory.put_bot(bot),
                (RowKey::Follow(key), Some(Row::Follow(follow))) => match self.unseal(follow) {
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
        self.update_size_metrics();
        Ok(())
    }

    /// Derives the key of a follow. Returns `None` if the secret cannot be unsealed, because the
    /// follower would not expect signals that are encrypted with another key.
    fn unseal(&self, follow: FollowRow) -> Option<UnsealedFollow> {
        let FollowKey { bot, follower } = follow.key;
        let message_key = self.message_key(&follow).inspect_err(|error| {
            tracing::error!(
                name: "follow_ignored",
                %bot, %follower, "ignored a follow until its follower subscribes again: {error}"
            );
        });
        Some(UnsealedFollow { key: follow.key, secret: message_key.ok()?, since_ms: follow.since_ms })
    }

    /// Whether the API would refuse the secret of a follow today.
    fn is_weak(&self, follow: &FollowRow) -> bool {
        let FollowKey { bot, follower } = follow.key;
        let secret = follow.secret.as_ref().and_then(|sealed| self.sealer.open(&follow.key, sealed).ok());
        secret.is_some_and(|secret| shared_secret::check(&secret, &[bot, follower, self.owner]).is_err())
    }

    /// Derives the key of a follow from its secret; `None` if the follow has no secret.
    fn message_key(&self, follow: &FollowRow) -> Result<Option<Arc<MessageKey>>, UnsealError> {
        let Some(sealed) = &follow.secret else { return Ok(None) };
        let secret = self.sealer.open(&follow.key, sealed)?;
        Ok(Some(Arc::new(MessageKey::from_shared_secret(&secret))))
    }

    fn update_size_metrics(&self) {
        let (bots, follows) = self.directory.len();
        self.metrics.registry_bots.set(i64::try_from(bots).unwrap_or(i64::MAX));
        self.metrics.registry_follows.set(i64::try_from(follows).unwrap_or(i64::MAX));
    }
}
