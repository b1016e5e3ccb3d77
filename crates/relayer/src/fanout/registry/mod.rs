//! Who may be followed and who follows: kept in a [`store`], known in memory.
//!
//! A [`row`] is a bot or a follow. Secrets are [sealed](seal) before a store sees them. There are
//! two stores: one that is [`embedded`] in the gateway's own database, and [`postgres`], which
//! several gateways share. The store decides what a change comes to, and memory follows; what
//! others write in a database that is shared, the store tells.

pub mod directory;
pub(crate) mod embedded;
mod health;
pub(crate) mod postgres;
pub(crate) mod row;
pub(crate) mod seal;
pub(crate) mod store;
pub(crate) mod transfer;
mod writes;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use prometheus_client::metrics::counter::Counter;
use tokio::sync::MutexGuard;
use tokio::time::{Instant, sleep, timeout};
use wire::{PublicKey, Signer};

use super::keys::MessageKey;
use super::shared_secret;
use crate::config::Config;
use crate::event_log::EventLog;
use crate::fanout::Metrics;
use crate::limits::{REGISTRY_RETRY, REGISTRY_RETRY_SELDOM, REGISTRY_START_MAX};

use directory::{Directory, UnsealedFollow};
use health::HealthMonitor;
use seal::DoesNotOpen;

pub use embedded::Embedded;
pub use health::Health;
pub use postgres::Postgres;
pub use row::{BotName, BotRow, Change, FollowKey, FollowRow, Row, RowKey};
pub use seal::{SealedSecret, Sealer};
pub use store::{Changed, Mode, RegistryError, Store};
pub use writes::{NewBots, Registered};

/// How much there may be, so that nobody fills memory and disk from outside. What is there already may be more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegistryLimits {
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
    /// than what was written before. It has when all of it was read last.
    write_lock: tokio::sync::Mutex<Option<Instant>>,
    health: HealthMonitor,
    limits: RegistryLimits,
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
type WriteGuard<'a> = MutexGuard<'a, Option<Instant>>;

impl Registry {
    /// Reads what a store has. One that cannot be reached, or takes too long, is tried again by
    /// [`keep_in_sync`](Self::keep_in_sync).
    ///
    /// # Errors
    /// When the store fails in a way that does not pass by itself.
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
            limits,
            is_loaded: AtomicBool::new(false),
            metrics,
        });
        let slow = || RegistryError::Unreachable("it takes too long to read".to_owned());
        match timeout(REGISTRY_START_MAX, registry.reload()).await.unwrap_or_else(|_| Err(slow())) {
            Ok(()) => {}
            Err(error) if error.is_transient() => registry.health.note_unavailable(&error),
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
        self.health.get()
    }

    /// Whether it was read since the start: until then nobody is known.
    pub fn is_loaded(&self) -> bool {
        self.is_loaded.load(Ordering::Acquire)
    }

    /// Follows what others write, and reads everything again when that was not possible for a while. It does not end.
    pub async fn keep_in_sync(&self) {
        loop {
            if let Err(error) = self.sync_once().await {
                // Nobody knows then what was changed, so it counts as a failure of the database
                // even if it was busy.
                self.health.note_unavailable(&error);
            }
            match self.health() {
                Health::Up => {}
                Health::ReadOnly { .. } | Health::Down { is_transient: true, .. } => {
                    sleep(REGISTRY_RETRY).await
                }
                // What somebody must mend is not mended within a second.
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
            // A write has failed.
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

    /// Reads everything again; what can only be read not each time that it is tried whether it can
    /// be written.
    async fn reload(&self) -> Result<(), RegistryError> {
        // However many write before: they have time-outs.
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
                    follows = weak,
                    "some follows have a shared secret that is refused now, because others know it or can guess it; \
                     they are served as before: have their followers subscribe again with a random secret"
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

    /// Reads these rows again.
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

    /// A follow with what follows from its secret. One whose secret does not open is left out: its signals would be
    /// encrypted otherwise than it has message_key with us.
    fn unseal(&self, follow: FollowRow) -> Option<UnsealedFollow> {
        let FollowKey { bot, follower } = follow.key;
        let message_key = self.message_key(&follow).inspect_err(|error| {
            tracing::error!(%bot, %follower, "a follow is left out until it is made anew: {error}");
        });
        Some(UnsealedFollow { key: follow.key, secret: message_key.ok()?, since_ms: follow.since_ms })
    }

    /// Whether a follow has a secret that a call would be refused with.
    fn is_weak(&self, follow: &FollowRow) -> bool {
        let FollowKey { bot, follower } = follow.key;
        let secret = follow.secret.as_ref().and_then(|sealed| self.sealer.open(&follow.key, sealed).ok());
        secret.is_some_and(|secret| shared_secret::check(&secret, &[bot, follower, self.owner]).is_err())
    }

    /// What follows from a follow's secret, if it has one.
    fn message_key(&self, follow: &FollowRow) -> Result<Option<Arc<MessageKey>>, DoesNotOpen> {
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
