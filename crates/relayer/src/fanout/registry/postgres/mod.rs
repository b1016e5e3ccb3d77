//! The registry in PostgreSQL, which several gateways can share.
//!
//! The registry has its own [`schema`] in a database that may hold other data. [`rows`] reads and
//! [`changes`] writes over connections of the [`pool`]; [`listen`] receives the changes of other
//! gateways and manual changes. [`error`] says which errors are transient. The DSN is never shown.

mod changes;
mod error;
mod listen;
mod pool;
mod rows;
mod schema;

use std::fmt;
use std::num::NonZeroUsize;

use prometheus_client::metrics::counter::Counter;
use tokio::time::Instant;
use wire::PublicKey;

use super::row::{Change, Row, RowKey};
use super::store::{Changed, Decide, Mode, RegistryError, Reseal, Store, StoreFuture};
use crate::config::Secret;
use listen::ChangeListener;
use pool::ConnectionPool;

/// A registry that several gateways can share.
pub struct Postgres {
    pool: ConnectionPool,
    listener: ChangeListener,
}

impl Postgres {
    /// Opens the registry in the database that `dsn` names. Connects on first use, with at most
    /// `max_connections` connections. At least two are needed, because one of them only listens. If
    /// no connection is available, an additional one is opened briefly to find the cause. `queries`
    /// counts all statements except those of the migrations.
    ///
    /// # Errors
    /// When the DSN is invalid, has an unknown parameter, or names a file that cannot be read.
    pub fn new(dsn: &Secret, max_connections: NonZeroUsize, queries: Counter) -> Result<Self, RegistryError> {
        let pool = ConnectionPool::new(pool::options(dsn)?, max_connections, queries);
        Ok(Self { pool, listener: ChangeListener::default() })
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Postgres(***)")
    }
}

impl Store for Postgres {
    fn name(&self) -> &'static str {
        "postgres"
    }

    fn prepare(&self, owner: PublicKey) -> StoreFuture<'_, Mode> {
        Box::pin(async move {
            match schema::prepare(&self.pool, owner).await? {
                // Listening starts before rows are read, so that no change after the read is
                // missed.
                Mode::Writable => self.listener.begin(&self.pool).await.map(|()| Mode::Writable),
                // A standby sends no notifications. After a failover, the listening connection may
                // lead to a server without writers.
                Mode::ReadOnly => {
                    self.listener.end().await;
                    Ok(Mode::ReadOnly)
                }
            }
        })
    }

    fn load<'a>(&'a self, owner: PublicKey, each: &'a mut (dyn FnMut(Row) + Send)) -> StoreFuture<'a, ()> {
        Box::pin(rows::load(&self.pool, owner, each))
    }

    fn read<'a>(&'a self, owner: PublicKey, keys: &'a [RowKey]) -> StoreFuture<'a, Vec<Option<Row>>> {
        Box::pin(rows::read(&self.pool, owner, keys))
    }

    fn change<'a>(
        &'a self,
        owner: PublicKey,
        keys: &'a [RowKey],
        until: Instant,
        decide: &'a mut Decide<'a>,
    ) -> StoreFuture<'a, ()> {
        Box::pin(changes::change(&self.pool, owner, keys, until, decide))
    }

    fn write(&self, owner: PublicKey, changes: Vec<Change>) -> StoreFuture<'_, ()> {
        Box::pin(changes::write(&self.pool, owner, changes))
    }

    fn rekey<'a>(
        &'a self,
        from: PublicKey,
        to: PublicKey,
        reseal: &'a mut Reseal<'a>,
    ) -> StoreFuture<'a, u64> {
        Box::pin(changes::rekey(&self.pool, from, to, reseal))
    }

    fn changed(&self) -> StoreFuture<'_, Changed> {
        Box::pin(self.listener.changed(&self.pool))
    }
}
