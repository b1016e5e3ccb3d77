//! Connections to the database, statements on them, and how long each may take.

use std::future::Future;
use std::num::NonZeroUsize;
use std::time::Duration;

use futures_util::TryStreamExt;
use futures_util::stream::BoxStream;
use prometheus_client::metrics::counter::Counter;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgConnection, PgPool, PgPoolOptions, PgRow};
use sqlx::query::Query;
use sqlx::{ConnectOptions, Executor, Postgres};
use tokio::time::timeout;

use super::super::store::RegistryError;
use super::fault::fault;
use crate::limits::{
    REGISTRY_CONNECT_MAX, REGISTRY_MARGIN, REGISTRY_REASON_MAX, REGISTRY_ROWS_TIMEOUT, REGISTRY_TIMEOUT,
};

/// A statement with its values.
pub type Statement<'q> = Query<'q, Postgres, PgArguments>;

/// The way to the database.
pub struct Access {
    pub options: PgConnectOptions,
    pub queries: Counter,
    pool: PgPool,
}

impl Access {
    pub fn new(options: PgConnectOptions, connections_max: NonZeroUsize, queries: Counter) -> Self {
        // One connection listens.
        let sessions = u32::try_from(connections_max.get()).unwrap_or(u32::MAX).saturating_sub(1).max(1);
        let pool = PgPoolOptions::new()
            .max_connections(sessions)
            .acquire_timeout(REGISTRY_CONNECT_MAX)
            // Its warning would say no more than our error.
            .acquire_slow_threshold(Duration::MAX)
            .connect_lazy_with(options.clone());
        Self { options, queries, pool }
    }

    /// A connection, and it answers.
    pub async fn session(&self) -> Result<Session<'_>, RegistryError> {
        match self.pool.acquire().await {
            Ok(connection) => Ok(Session { connection, queries: &self.queries, is_done: false }),
            Err(error) => Err(self.reason(error).await),
        }
    }

    /// Why there is no connection. The pool tries again and again, and forgets why it had to.
    pub async fn reason(&self, error: sqlx::Error) -> RegistryError {
        if !matches!(error, sqlx::Error::PoolTimedOut) {
            return fault(error);
        }
        match timeout(REGISTRY_REASON_MAX, self.options.connect()).await {
            Ok(Err(error)) => fault(error),
            Ok(Ok(_)) => RegistryError::Busy("all connections that we may have are in use".to_owned()),
            Err(_) => RegistryError::Unreachable("it does not answer".to_owned()),
        }
    }
}

/// A connection for a while. One that is not [done](Self::done) is closed: nobody knows what it is in the middle of.
pub struct Session<'a> {
    connection: PoolConnection<Postgres>,
    queries: &'a Counter,
    is_done: bool,
}

impl Session<'_> {
    /// Gives the connection back for others.
    pub fn done(mut self) {
        self.is_done = true;
    }

    /// The connection, for the migrations.
    pub fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// Sends a statement without values, such as `BEGIN`.
    pub async fn command(&mut self, sql: &'static str) -> Result<(), RegistryError> {
        self.queries.inc();
        within(REGISTRY_TIMEOUT, self.connection.execute(sql)).await.map(|_| ())
    }

    /// Begins a transaction in which the server gives up after so long: a lock first, so that it
    /// says what it waited for.
    pub async fn begin_within(&mut self, lock: Duration) -> Result<(), RegistryError> {
        // Zero would mean without a limit.
        let lock = lock.as_millis().max(1);
        let statement = lock + REGISTRY_MARGIN.as_millis() / 2;
        let begin =
            format!("BEGIN; SET LOCAL lock_timeout = {lock}; SET LOCAL statement_timeout = {statement}");
        self.queries.inc();
        within(REGISTRY_TIMEOUT, self.connection.execute(begin.as_str())).await.map(|_| ())
    }

    /// Sends a statement; its rows are of no interest.
    pub async fn execute(&mut self, statement: Statement<'_>) -> Result<(), RegistryError> {
        self.queries.inc();
        within(REGISTRY_TIMEOUT, statement.execute(&mut *self.connection)).await.map(|_| ())
    }

    /// The rows that a statement gives: few.
    pub async fn all(&mut self, statement: Statement<'_>) -> Result<Vec<PgRow>, RegistryError> {
        self.queries.inc();
        within(REGISTRY_TIMEOUT, statement.fetch_all(&mut *self.connection)).await
    }

    /// The row that a statement gives, if it gives one.
    pub async fn first(&mut self, statement: Statement<'_>) -> Result<Option<PgRow>, RegistryError> {
        self.queries.inc();
        within(REGISTRY_TIMEOUT, statement.fetch_optional(&mut *self.connection)).await
    }

    /// The rows that a statement gives, one after the other.
    pub fn each<'s>(&'s mut self, statement: Statement<'s>) -> Rows<'s> {
        self.queries.inc();
        Rows(statement.fetch(&mut *self.connection))
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            self.connection.close_on_drop();
        }
    }
}

/// Rows that are read as they are wanted.
pub struct Rows<'s>(BoxStream<'s, Result<PgRow, sqlx::Error>>);

impl Rows<'_> {
    pub async fn next(&mut self) -> Result<Option<PgRow>, RegistryError> {
        within(REGISTRY_ROWS_TIMEOUT, self.0.try_next()).await
    }
}

/// What an operation comes to, if it does so in time.
pub async fn within<T>(
    most: Duration,
    operation: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, RegistryError> {
    match timeout(most, operation).await {
        Ok(done) => done.map_err(fault),
        Err(_) => Err(RegistryError::Unreachable(format!("it did not answer within {} s", most.as_secs()))),
    }
}
