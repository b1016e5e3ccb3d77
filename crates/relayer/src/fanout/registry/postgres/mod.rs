//! The registry in PostgreSQL, so that several gateways share one.
//!
//! It has a [`schema`] of its own in a database that may be somebody else's, too. [`rows`] are read and [`changes`]
//! made in [`session`]s with their [`options`]; what others change, also by hand, is heard by [`listen`]. [`fault`] says
//! which errors pass by themselves. The DSN is never shown.

mod changes;
mod fault;
mod listen;
mod options;
mod rows;
mod schema;
mod session;

use std::fmt;
use std::num::NonZeroUsize;

use prometheus_client::metrics::counter::Counter;
use tokio::time::Instant;
use wire::PublicKey;

use super::row::{Change, FollowRow, Row, RowKey};
use super::seal::SealedSecret;
use super::store::{Answer, Changed, Decide, Mode, RegistryError, Store};
use crate::config::Secret;
use listen::Listening;
use session::Access;

/// The registry that gateways share.
pub struct Postgres {
    access: Access,
    listening: Listening,
}

impl Postgres {
    /// The registry in the database that `dsn` names. There is no connection until something needs one, and there are
    /// not more than so many; but two are needed, since one listens, and when none could be had, one more asks for a
    /// moment why. Every statement counts in `queries`, except those of the migrations.
    ///
    /// # Errors
    /// When the DSN is none, has a parameter that is not known, or names a file that cannot be read.
    pub fn new(dsn: &Secret, max_connections: NonZeroUsize, queries: Counter) -> Result<Self, RegistryError> {
        let access = Access::new(options::options(dsn)?, max_connections, queries);
        Ok(Self { access, listening: Listening::default() })
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

    fn prepare(&self, owner: PublicKey) -> Answer<'_, Mode> {
        Box::pin(async move {
            match schema::prepare(&self.access, owner).await? {
                // Before rows are read, so that what is changed after that is told.
                Mode::Writable => self.listening.begin(&self.access).await.map(|()| Mode::Writable),
                // A standby tells nothing. And after a failover, the connection that listens may be
                // one to a server that nobody writes to any more.
                Mode::ReadOnly => {
                    self.listening.end().await;
                    Ok(Mode::ReadOnly)
                }
            }
        })
    }

    fn load<'a>(&'a self, owner: PublicKey, each: &'a mut (dyn FnMut(Row) + Send)) -> Answer<'a, ()> {
        Box::pin(rows::load(&self.access, owner, each))
    }

    fn read<'a>(&'a self, owner: PublicKey, keys: &'a [RowKey]) -> Answer<'a, Vec<Option<Row>>> {
        Box::pin(rows::read(&self.access, owner, keys))
    }

    fn change<'a>(
        &'a self,
        owner: PublicKey,
        keys: &'a [RowKey],
        until: Instant,
        decide: &'a mut Decide<'a>,
    ) -> Answer<'a, ()> {
        Box::pin(changes::change(&self.access, owner, keys, until, decide))
    }

    fn write(&self, owner: PublicKey, changes: Vec<Change>) -> Answer<'_, ()> {
        Box::pin(changes::write(&self.access, owner, changes))
    }

    fn rekey<'a>(
        &'a self,
        from: PublicKey,
        to: PublicKey,
        reseal: &'a mut (dyn FnMut(&FollowRow) -> Result<Option<SealedSecret>, RegistryError> + Send),
    ) -> Answer<'a, u64> {
        Box::pin(changes::rekey(&self.access, from, to, reseal))
    }

    fn changed(&self) -> Answer<'_, Changed> {
        Box::pin(self.listening.changed(&self.access))
    }
}
