//! Starts a worker for every configured sink, and stops all workers when the gateway stops.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, RootCertStore};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::cursor_writer::CursorWriter;
use super::http::{Client, HttpTransport};
use super::metrics::SinkMetrics;
use super::state::Sink;
use super::tcp::TcpTransport;
use super::transport::{Context, Interrupts, Transport};
use super::worker::Worker;
use crate::config::{CommonOptions, Output, RestSink, SinkName, Start, TcpSink};
use crate::event_log::{Cursor, CursorRow, Cursors, EventLog, StorageError};
use crate::limits::SINK_CLOSE_MAX;
use crate::net::Dialer;
use crate::net::resolver::{Lookups, Resolver};
use crate::net::tls::{self, TlsSetupError};
use crate::receiver::Selection;
use crate::tasks::StageFailure;

/// Why the sinks cannot start.
#[derive(Debug, thiserror::Error)]
pub enum SinkSetupError {
    /// RocksDB failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A CA file cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsSetupError),
    /// The HTTP client refused its configuration.
    #[error("HTTP cannot be set up: {0}")]
    Http(#[from] reqwest::Error),
}

/// The sinks and their tasks.
#[derive(Debug)]
pub struct Workers {
    sinks: Arc<[Arc<Sink>]>,
    tasks: JoinSet<Result<(), StorageError>>,
    stop: watch::Sender<Option<Instant>>,
}

impl Workers {
    /// Starts delivery to every sink from the sink's cursor. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// When the cursors cannot be read or stored, or a CA file cannot be used.
    pub fn start(
        output: &Output,
        log: &Arc<EventLog>,
        resolver: Resolver,
        metrics: &SinkMetrics,
    ) -> Result<Self, SinkSetupError> {
        let mut starting = Starting::new(log, resolver, metrics)?;
        for config in output.tcp_sinks() {
            starting.tcp(config)?;
        }
        for config in output.rest_sinks() {
            starting.rest(config)?;
        }
        let Starting { sinks, tasks, stop, .. } = starting;
        let workers = Self { sinks: sinks.into(), tasks, stop };
        workers.forget_unused(log, output.keep_unused)?;
        Ok(workers)
    }

    /// The sinks in the order of the configuration, TCP sinks first.
    pub fn sinks(&self) -> &Arc<[Arc<Sink>]> {
        &self.sinks
    }

    /// Waits until a worker fails; otherwise never completes.
    pub async fn failure(&mut self) -> StageFailure {
        match self.tasks.join_next().await {
            Some(Ok(Err(error))) => StageFailure::new("a sink", error),
            Some(Ok(Ok(()))) => StageFailure::new("a sink", "it ended"),
            Some(Err(panic)) => StageFailure::new("a sink", panic),
            None => std::future::pending().await, // There are no sinks.
        }
    }

    /// Lets connected sinks get the rest of the log, and stores their cursors. Close the log first.
    pub async fn drain(mut self, within: Duration) {
        let deadline = Instant::now() + within;
        self.stop.send_replace(Some(deadline));
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        // Waits twice as long: once for the close, and once for storing the cursor.
        if timeout_at(deadline + 2 * SINK_CLOSE_MAX, ended).await.is_err() {
            tracing::warn!(
                name: "sinks_undrained",
                sinks = self.tasks.len(), "some sinks did not end in time"
            );
        }
        for sink in self.sinks.iter() {
            let (name, cursor) = (&*sink.name, sink.cursor());
            tracing::info!(name: "sink_stopped", sink = name, cursor = cursor.get(), "sink stopped");
        }
    }

    /// Deletes the data of sinks that have been missing from the configuration for the time `keep`.
    fn forget_unused(&self, log: &EventLog, keep: Duration) -> Result<(), StorageError> {
        let used: HashSet<&str> = self.sinks.iter().map(|sink| &*sink.name).collect();
        let keep_ms = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
        let is_used = |name: &str| used.contains(name);
        for sink in log.forget_unused(Cursors::Sinks, is_used, keep_ms)? {
            tracing::info!(
                name: "sink_forgotten",
                sink,
                "deleted the cursor and the dead letters of a sink that is no longer configured"
            );
        }
        Ok(())
    }
}

/// Starts sinks one by one.
struct Starting<'a> {
    log: &'a Arc<EventLog>,
    metrics: &'a SinkMetrics,
    known: HashMap<String, CursorRow>,
    lookups: Arc<Lookups>,
    /// The system's certificate authorities, loaded on first use.
    authorities: Option<Arc<RootCertStore>>,
    sinks: Vec<Arc<Sink>>,
    tasks: JoinSet<Result<(), StorageError>>,
    stop: watch::Sender<Option<Instant>>,
}

impl<'a> Starting<'a> {
    fn new(
        log: &'a Arc<EventLog>,
        resolver: Resolver,
        metrics: &'a SinkMetrics,
    ) -> Result<Self, StorageError> {
        Ok(Self {
            log,
            metrics,
            known: log.cursors(Cursors::Sinks)?.into_iter().collect(),
            lookups: Arc::new(Lookups::new(resolver)),
            authorities: None,
            sinks: Vec::new(),
            tasks: JoinSet::new(),
            stop: watch::Sender::new(None),
        })
    }

    fn tcp(&mut self, config: TcpSink) -> Result<(), SinkSetupError> {
        let TcpSink { name, address, common, options } = config;
        let shown = address.as_str().to_owned();
        let tls = self.tls(&name, options.tls, options.ca_file.as_deref())?;
        let dialer = Dialer::new(Arc::clone(&self.lookups), Arc::new(tls));
        self.spawn(&name, "tcp", &shown, &common, TcpTransport::new(address, options, dialer))
    }

    fn rest(&mut self, config: RestSink) -> Result<(), SinkSetupError> {
        let RestSink { name, address, common, options } = config;
        let shown = address.without_query().to_owned();
        let tls = self.tls(&name, address.is_https(), options.ca_file.as_deref())?;
        let client = Client::new(address, options.clone(), tls, Arc::clone(&self.lookups))?;
        self.spawn(&name, "http", &shown, &common, HttpTransport::new(client, options))
    }

    /// Returns the TLS configuration of a sink. A sink without TLS needs no authorities, so none
    /// are read.
    fn tls(
        &mut self,
        name: &SinkName,
        is_secure: bool,
        ca_file: Option<&Path>,
    ) -> Result<ClientConfig, TlsSetupError> {
        if !is_secure {
            return tls::config_of(RootCertStore::empty());
        }
        let authorities = self.authorities.get_or_insert_with(|| Arc::new(tls::system_authorities()));
        if ca_file.is_none() {
            return tls::config_of(Arc::clone(authorities)); // One copy for all sinks.
        }
        let authorities = RootCertStore::clone(authorities);
        let key = format!("ca_file of the sink {}", name.as_str());
        tls::config_of(tls::trusted(authorities, &key, ca_file)?)
    }

    fn spawn(
        &mut self,
        name: &SinkName,
        kind: &'static str,
        address: &str,
        common: &CommonOptions,
        transport: impl Transport,
    ) -> Result<(), SinkSetupError> {
        let (row, is_written) = self.row(name, common.start)?;
        let (sink, commands) =
            Sink::new(name.to_arc(), kind, address, selection(common), row.cursor, self.log, self.metrics)?;
        let sink = Arc::new(sink);
        self.sinks.push(Arc::clone(&sink));
        let context = Context {
            log: Arc::clone(self.log),
            cursor_writer: CursorWriter::new(Arc::clone(self.log), Arc::clone(&sink), row, is_written),
            interrupts: Interrupts { deadline: self.stop.subscribe(), commands },
            sink,
        };
        self.tasks.spawn(Worker::new(context).run(transport));
        Ok(())
    }

    /// Returns the row of a sink, and whether the database has it. The row of a new sink is stored
    /// if the disk has room.
    fn row(&self, name: &SinkName, start: Start) -> Result<(CursorRow, bool), StorageError> {
        let known = self.known.get(name.as_str()).copied();
        let row = known.unwrap_or_else(|| CursorRow::at(first_cursor(self.log, start)));
        // A cursor beyond the head would skip future events with these sequences.
        let row = CursorRow { cursor: row.cursor.min(self.log.head()), unused_since_ms: 0, ..row };
        if known == Some(row) {
            return Ok((row, true));
        }
        match self.log.set_cursor(Cursors::Sinks, name.as_str(), row) {
            Err(error) if error.is_full() => Ok((row, false)),
            written => written.map(|()| (row, true)),
        }
    }
}

/// Returns the stored cursor of the slowest sink: all sinks have everything up to this cursor, even
/// after a crash.
pub fn needed_after(sinks: &[Arc<Sink>]) -> Cursor {
    sinks.iter().map(|sink| sink.saved_cursor()).min().unwrap_or(Cursor::END)
}

/// Returns the first cursor of a new sink.
fn first_cursor(log: &EventLog, start: Start) -> Cursor {
    match start {
        Start::Now => log.head(),
        Start::Oldest => Cursor::before(log.floor()),
    }
}

/// Returns the selection of events that a sink wants.
fn selection(common: &CommonOptions) -> Selection {
    let CommonOptions { kinds, authors, filter, .. } = common;
    let kinds = (!kinds.is_empty()).then(|| wire::Filter::new().kinds(kinds.iter().copied()));
    let authors = (!authors.is_empty()).then(|| wire::Filter::new().authors(authors.iter().copied()));
    Selection::new([kinds, authors, filter.clone()].into_iter().flatten().collect())
}
