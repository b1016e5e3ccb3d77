//! The connection pool, the statements sent over its connections, and their timeouts.

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
use super::error::classify;
use super::schema::SCHEMA;
use crate::config::{Secret, postgres_options};
use crate::limits::{
    REGISTRY_CONNECT_MAX, REGISTRY_LOCK_MAX, REGISTRY_MARGIN, REGISTRY_REASON_MAX, REGISTRY_ROWS_TIMEOUT,
    REGISTRY_TIMEOUT,
};

/// A statement with its values.
pub(crate) type Statement<'q> = Query<'q, Postgres, PgArguments>;

pub(crate) struct ConnectionPool {
    pub options: PgConnectOptions,
    pub queries: Counter,
    pool: PgPool,
}

impl ConnectionPool {
    pub fn new(options: PgConnectOptions, connections_max: NonZeroUsize, queries: Counter) -> Self {
        // One connection is used for listening.
        let sessions = u32::try_from(connections_max.get()).unwrap_or(u32::MAX).saturating_sub(1).max(1);
        let pool = PgPoolOptions::new()
            .max_connections(sessions)
            .acquire_timeout(REGISTRY_CONNECT_MAX)
            // Our own error already says what sqlx's warning would say.
            .acquire_slow_threshold(Duration::MAX)
            .connect_lazy_with(options.clone());
        Self { options, queries, pool }
    }

    /// Takes a connection from the pool. The pool has tested the connection.
    pub(crate) async fn acquire(&self) -> Result<PooledConnection<'_>, RegistryError> {
        match self.pool.acquire().await {
            Ok(connection) => Ok(PooledConnection { connection, queries: &self.queries, is_released: false }),
            Err(error) => Err(self.connect_error(error).await),
        }
    }

    /// Returns the reason why there is no connection. The pool retries and discards the cause, so
    /// this function connects once more to find the cause.
    pub(crate) async fn connect_error(&self, error: sqlx::Error) -> RegistryError {
        if !matches!(error, sqlx::Error::PoolTimedOut) {
            return classify(error);
        }
        match timeout(REGISTRY_REASON_MAX, self.options.connect()).await {
            Ok(Err(error)) => classify(error),
            Ok(Ok(_)) => {
                RegistryError::Busy("all connections that the gateway may have are in use".to_owned())
            }
            Err(_) => RegistryError::Unreachable("it does not answer".to_owned()),
        }
    }
}

/// A connection from the pool. A connection that is dropped without being [released](Self::release)
/// is closed, because it may be in the middle of a transaction.
pub(crate) struct PooledConnection<'a> {
    connection: PoolConnection<Postgres>,
    queries: &'a Counter,
    is_released: bool,
}

impl PooledConnection<'_> {
    /// Returns the connection to the pool.
    pub fn release(mut self) {
        self.is_released = true;
    }

    /// The underlying connection, which only the migrations use.
    pub(crate) fn raw(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// Sends a statement without values, such as `BEGIN`.
    pub async fn command(&mut self, sql: &'static str) -> Result<(), RegistryError> {
        self.queries.inc();
        with_timeout(REGISTRY_TIMEOUT, self.connection.execute(sql)).await.map(|_| ())
    }

    /// Begins a transaction with time limits on the server. The limit for locks is shorter than
    /// that for statements, so that the error names a lock as the cause.
    pub(crate) async fn begin_within(&mut self, lock: Duration) -> Result<(), RegistryError> {
        // Zero would mean no limit.
        let lock = lock.as_millis().max(1);
        let statement = lock + REGISTRY_MARGIN.as_millis() / 2;
        let begin =
            format!("BEGIN; SET LOCAL lock_timeout = {lock}; SET LOCAL statement_timeout = {statement}");
        self.queries.inc();
        with_timeout(REGISTRY_TIMEOUT, self.connection.execute(begin.as_str())).await.map(|_| ())
    }

    /// Sends a statement whose result rows are not needed.
    pub async fn execute(&mut self, statement: Statement<'_>) -> Result<(), RegistryError> {
        self.queries.inc();
        with_timeout(REGISTRY_TIMEOUT, statement.execute(&mut *self.connection)).await.map(|_| ())
    }

    /// Fetches all rows of a small result.
    pub async fn fetch_all(&mut self, statement: Statement<'_>) -> Result<Vec<PgRow>, RegistryError> {
        self.queries.inc();
        with_timeout(REGISTRY_TIMEOUT, statement.fetch_all(&mut *self.connection)).await
    }

    pub async fn fetch_optional(&mut self, statement: Statement<'_>) -> Result<Option<PgRow>, RegistryError> {
        self.queries.inc();
        with_timeout(REGISTRY_TIMEOUT, statement.fetch_optional(&mut *self.connection)).await
    }

    /// Fetches the rows of a large result one at a time.
    pub fn fetch<'s>(&'s mut self, statement: Statement<'s>) -> Rows<'s> {
        self.queries.inc();
        Rows(statement.fetch(&mut *self.connection))
    }
}

impl Drop for PooledConnection<'_> {
    fn drop(&mut self) {
        if !self.is_released {
            self.connection.close_on_drop();
        }
    }
}

pub struct Rows<'s>(BoxStream<'s, Result<PgRow, sqlx::Error>>);

impl Rows<'_> {
    pub async fn next(&mut self) -> Result<Option<PgRow>, RegistryError> {
        with_timeout(REGISTRY_ROWS_TIMEOUT, self.0.try_next()).await
    }
}

pub(crate) async fn with_timeout<T>(
    most: Duration,
    operation: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, RegistryError> {
    match timeout(most, operation).await {
        Ok(done) => done.map_err(classify),
        Err(_) => Err(RegistryError::Unreachable(format!("it did not answer within {} s", most.as_secs()))),
    }
}

/// Parses the DSN and adds our connection settings.
pub fn options(dsn: &Secret) -> Result<PgConnectOptions, RegistryError> {
    let options = postgres_options(dsn)
        .map_err(|why| RegistryError::Refused(format!("the DSN cannot be used: {why}")))?;
    let milliseconds = |time: Duration| time.as_millis().to_string();
    Ok(options
        .application_name("moltrade-relayer")
        .options([
            // With this path, our names resolve only in our schema. `pg_temp` is listed because it
            // would otherwise be searched first.
            ("search_path", format!("{SCHEMA},pg_temp")),
            // With this format, error details contain keys in hex.
            ("bytea_output", "hex".to_owned()),
            ("lock_timeout", milliseconds(REGISTRY_LOCK_MAX)),
            // A gateway that loses its connection in a transaction blocks other gateways for at
            // most this time.
            ("idle_in_transaction_session_timeout", milliseconds(REGISTRY_ROWS_TIMEOUT)),
        ])
        .disable_statement_logging())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_settings_are_added_to_those_of_the_dsn() {
        let options = options(&Secret::new("postgres://me@db/x?options[work_mem]=8MB")).unwrap();
        assert_eq!(options.get_application_name(), Some("moltrade-relayer"));
        let settings = options.get_options().unwrap();
        assert!(settings.contains("search_path=moltrade_relayer,pg_temp"), "{settings}");
        assert!(settings.contains("work_mem=8MB"), "{settings}");
    }

    #[test]
    fn an_error_names_the_problem_without_quoting_the_dsn() {
        let error = options(&Secret::new("postgres://me:x@db/x?passwort=hunter2")).unwrap_err().to_string();
        assert!(error.contains("an unknown parameter") && !error.contains("hunter2"), "{error}");
    }
}
