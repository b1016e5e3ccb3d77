//! What others change is heard on a connection that does nothing else.
//!
//! Nothing is missed: what is changed while there is no such connection is unknown, and said to be so as soon as there
//! is one again.

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
use super::session::{Access, within};
use crate::limits::{REGISTRY_CHANGES_MAX, REGISTRY_CONNECT_MAX, REGISTRY_SILENCE_MAX, REGISTRY_TIMEOUT};

/// Where it is told; `migrations/0002_tell.sql` says what.
const CHANNEL: &str = "moltrade_relayer";

/// Who listens.
#[derive(Default)]
pub struct Listening(Mutex<State>);

#[derive(Default)]
struct State {
    ear: Option<Ear>,
    /// Whether something may have been changed of which nobody was told.
    has_missed: bool,
}

impl Listening {
    /// Begins to listen, unless that was done.
    pub async fn begin(&self, access: &Access) -> Result<(), RegistryError> {
        // Who holds it is about to listen, or does so already.
        let Ok(mut state) = self.0.try_lock() else { return Ok(()) };
        if state.ear.is_none() {
            state.ear = Some(Ear::open(access).await?);
        }
        Ok(())
    }

    /// Stops listening. What is changed until it begins again is unknown.
    pub async fn end(&self) {
        *self.0.lock().await = State { ear: None, has_missed: true };
    }

    /// Waits until something was changed.
    pub async fn changed(&self, access: &Access) -> Result<Changed, RegistryError> {
        let mut state = self.0.lock().await;
        let State { ear, has_missed } = &mut *state;
        let ear = match ear {
            Some(ear) => ear,
            None => {
                *has_missed = true;
                ear.insert(Ear::open(access).await?)
            }
        };
        if mem::take(has_missed) {
            return Ok(Changed::Unknown);
        }
        let heard = ear.hear(access).await;
        if heard.is_err() {
            *state = State { ear: None, has_missed: true };
        }
        heard
    }
}

/// A connection that listens.
struct Ear {
    /// Always there, until it is dropped.
    listener: Option<PgListener>,
    /// When the server last showed that it is there.
    heard_at: Instant,
}

impl Ear {
    async fn open(access: &Access) -> Result<Self, RegistryError> {
        // Each has a pool of its own: what is left of a lost one may hold its only connection for long.
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(REGISTRY_CONNECT_MAX)
            .acquire_slow_threshold(std::time::Duration::MAX)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_lazy_with(access.options.clone());
        let listener = async {
            let mut listener = PgListener::connect_with(&pool).await?;
            listener.ignore_pool_close_event(true);
            // It would do so without a word.
            listener.eager_reconnect(false);
            access.queries.inc();
            listener.listen(CHANNEL).await?;
            Ok(listener)
        };
        match timeout(REGISTRY_TIMEOUT, listener).await.unwrap_or(Err(sqlx::Error::PoolTimedOut)) {
            Ok(listener) => Ok(Self { listener: Some(listener), heard_at: Instant::now() }),
            Err(error) => Err(access.reason(error).await),
        }
    }

    /// Waits for what is told, and takes what else is there already. Nothing is lost when the future is dropped.
    async fn hear(&mut self, access: &Access) -> Result<Changed, RegistryError> {
        let Self { listener: Some(listener), heard_at } = self else { return Err(lost()) };
        let mut told = Told::default();
        while told.count == 0 {
            match timeout_at(*heard_at + REGISTRY_SILENCE_MAX, listener.try_recv()).await {
                Ok(heard) => told.take(heard)?,
                Err(_) => {
                    access.queries.inc();
                    within(REGISTRY_TIMEOUT, listener.execute("SELECT 1")).await?;
                }
            }
            *heard_at = Instant::now();
        }
        while told.count < REGISTRY_CHANGES_MAX
            && let Some(heard) = listener.try_recv().now_or_never()
        {
            told.take(heard)?;
        }
        Ok(told.into())
    }
}

impl Drop for Ear {
    /// The listener says goodbye on a task, and panics where there can be none.
    fn drop(&mut self) {
        if Handle::try_current().is_err() {
            mem::forget(self.listener.take());
        }
    }
}

/// What was told at once.
#[derive(Default)]
struct Told {
    rows: BTreeSet<RowKey>,
    is_unknown: bool,
    count: usize,
}

impl Told {
    fn take(&mut self, heard: Result<Option<PgNotification>, sqlx::Error>) -> Result<(), RegistryError> {
        let told = heard.map_err(super::fault::fault)?.ok_or_else(lost)?;
        self.count += 1;
        match read(told.payload()) {
            Some(row) => {
                self.rows.insert(row);
            }
            // "*", or what somebody else tells on our channel: reading everything is never wrong.
            None => self.is_unknown = true,
        }
        Ok(())
    }
}

impl From<Told> for Changed {
    fn from(told: Told) -> Self {
        if told.is_unknown { Self::Unknown } else { Self::Rows(told.rows.into_iter().collect()) }
    }
}

fn read(told: &str) -> Option<RowKey> {
    let key = |hex: &str| PublicKey::from_hex(hex.as_bytes()).ok();
    match told.split_once(':')? {
        ("b", bot) => Some(RowKey::Bot(key(bot)?)),
        ("f", follow) => {
            let (bot, follower) = follow.split_once(':')?;
            Some(RowKey::Follow(FollowKey { bot: key(bot)?, follower: key(follower)? }))
        }
        _ => None,
    }
}

fn lost() -> RegistryError {
    RegistryError::Unreachable("the connection on which changes are told was lost".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_understood_or_everything_is_read() {
        let (bot, follower) = (PublicKey::from_bytes([7; 32]), PublicKey::from_bytes([8; 32]));
        assert_eq!(read(&format!("b:{bot}")), Some(RowKey::Bot(bot)));
        assert_eq!(read(&format!("f:{bot}:{follower}")), Some(RowKey::Follow(FollowKey { bot, follower })));
        for other in ["", "*", "b", "b:", "f:", "é", &format!("f:{bot}"), &format!("b:{bot}:{follower}")] {
            assert_eq!(read(other), None, "{other}");
        }
    }
}
