//! Receives the changes of other gateways over a dedicated connection (`LISTEN`).
//!
//! No change is missed: after a reconnect, the listener reports that unknown rows may have changed.

use std::collections::BTreeSet;
use std::mem;

use futures_util::FutureExt;
use sqlx::Executor;
use sqlx::postgres::{PgListener, PgNotification, PgPoolOptions};
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout, timeout_at};
use wire::PublicKey;

use super::super::row::{FollowKey, RowKey};
use super::super::store::{Changed, RegistryError};
use super::pool::{ConnectionPool, with_timeout};
use crate::limits::{REGISTRY_CHANGES_MAX, REGISTRY_CONNECT_MAX, REGISTRY_SILENCE_MAX, REGISTRY_TIMEOUT};

/// The notification channel; `migrations/0002_tell.sql` sends to it.
const CHANNEL: &str = "moltrade_relayer";

#[derive(Default)]
pub(crate) struct ChangeListener(Mutex<State>);

#[derive(Default)]
struct State {
    connection: Option<ListenConnection>,
    /// Whether changes may have been missed.
    has_missed: bool,
}

impl ChangeListener {
    /// Starts listening, if it has not started yet.
    pub async fn begin(&self, pool: &ConnectionPool) -> Result<(), RegistryError> {
        // The holder of the lock already listens or is about to.
        let Ok(mut state) = self.0.try_lock() else { return Ok(()) };
        if state.connection.is_none() {
            state.connection = Some(ListenConnection::open(pool).await?);
        }
        Ok(())
    }

    /// Stops listening. Changes before the next start count as missed.
    pub async fn end(&self) {
        *self.0.lock().await = State { connection: None, has_missed: true };
    }

    /// Waits for a change.
    pub async fn changed(&self, pool: &ConnectionPool) -> Result<Changed, RegistryError> {
        let mut state = self.0.lock().await;
        let State { connection, has_missed } = &mut *state;
        let connection = match connection {
            Some(connection) => connection,
            None => {
                *has_missed = true;
                connection.insert(ListenConnection::open(pool).await?)
            }
        };
        if mem::take(has_missed) {
            return Ok(Changed::Unknown);
        }
        let received = connection.receive(pool).await;
        if received.is_err() {
            *state = State { connection: None, has_missed: true };
        }
        received
    }
}

struct ListenConnection {
    /// `None` only while the value is being dropped.
    listener: Option<PgListener>,
    /// When the server last sent anything.
    last_seen: Instant,
}

impl ListenConnection {
    async fn open(pool: &ConnectionPool) -> Result<Self, RegistryError> {
        // Each listener gets its own pool: a lost listener may occupy the only connection of its
        // pool for a long time.
        let own_pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(REGISTRY_CONNECT_MAX)
            .acquire_slow_threshold(std::time::Duration::MAX)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_lazy_with(pool.options.clone());
        let listener = async {
            let mut listener = PgListener::connect_with(&own_pool).await?;
            listener.ignore_pool_close_event(true);
            // An automatic reconnect would hide missed notifications.
            listener.eager_reconnect(false);
            pool.queries.inc();
            listener.listen(CHANNEL).await?;
            Ok(listener)
        };
        match timeout(REGISTRY_TIMEOUT, listener).await.unwrap_or(Err(sqlx::Error::PoolTimedOut)) {
            Ok(listener) => Ok(Self { listener: Some(listener), last_seen: Instant::now() }),
            Err(error) => Err(pool.connect_error(error).await),
        }
    }

    /// Waits for a notification, and takes all further notifications that have arrived.
    /// Cancel-safe.
    async fn receive(&mut self, pool: &ConnectionPool) -> Result<Changed, RegistryError> {
        let Self { listener: Some(listener), last_seen } = self else { return Err(lost()) };
        let mut notifications = Notifications::default();
        while notifications.count == 0 {
            match timeout_at(*last_seen + REGISTRY_SILENCE_MAX, listener.try_recv()).await {
                Ok(received) => notifications.add(received)?,
                Err(_) => {
                    pool.queries.inc();
                    with_timeout(REGISTRY_TIMEOUT, listener.execute("SELECT 1")).await?;
                }
            }
            *last_seen = Instant::now();
        }
        while notifications.count < REGISTRY_CHANGES_MAX
            && let Some(received) = listener.try_recv().now_or_never()
        {
            notifications.add(received)?;
        }
        Ok(notifications.into())
    }
}

impl Drop for ListenConnection {
    /// Dropping a listener spawns a task, which would panic without a runtime.
    fn drop(&mut self) {
        if Handle::try_current().is_err() {
            mem::forget(self.listener.take());
        }
    }
}

/// Notifications that were received together.
#[derive(Default)]
struct Notifications {
    rows: BTreeSet<RowKey>,
    is_unknown: bool,
    count: usize,
}

impl Notifications {
    fn add(&mut self, received: Result<Option<PgNotification>, sqlx::Error>) -> Result<(), RegistryError> {
        let notifications = received.map_err(super::error::classify)?.ok_or_else(lost)?;
        self.count += 1;
        match parse(notifications.payload()) {
            Some(row) => {
                self.rows.insert(row);
            }
            // The text is "*" or an unrelated message on our channel. Reading everything is always
            // correct.
            None => self.is_unknown = true,
        }
        Ok(())
    }
}

impl From<Notifications> for Changed {
    fn from(notifications: Notifications) -> Self {
        if notifications.is_unknown {
            Self::Unknown
        } else {
            Self::Rows(notifications.rows.into_iter().collect())
        }
    }
}

fn parse(notifications: &str) -> Option<RowKey> {
    let key = |hex: &str| PublicKey::from_hex(hex.as_bytes()).ok();
    match notifications.split_once(':')? {
        ("b", bot) => Some(RowKey::Bot(key(bot)?)),
        ("f", follow) => {
            let (bot, follower) = follow.split_once(':')?;
            Some(RowKey::Follow(FollowKey { bot: key(bot)?, follower: key(follower)? }))
        }
        _ => None,
    }
}

fn lost() -> RegistryError {
    RegistryError::Unreachable("the connection that listens for changes was lost".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_notification_means_that_everything_is_read() {
        let (bot, follower) = (PublicKey::from_bytes([7; 32]), PublicKey::from_bytes([8; 32]));
        assert_eq!(parse(&format!("b:{bot}")), Some(RowKey::Bot(bot)));
        assert_eq!(parse(&format!("f:{bot}:{follower}")), Some(RowKey::Follow(FollowKey { bot, follower })));
        for other in ["", "*", "b", "b:", "f:", "é", &format!("f:{bot}"), &format!("b:{bot}:{follower}")] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
