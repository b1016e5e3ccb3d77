//! All sinks of the configuration: where each begins, and how they end with the gateway.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, RootCertStore};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::bookmark::Bookmark;
use super::http::client::Client;
use super::state::Sink;
use super::worker::{Transport, Worker};
use super::{http, tcp};
use crate::config::{CommonOptions, Output, RestSink, SinkName, Start, TcpSink};
use crate::event_log::{Cursor, CursorRow, Cursors, EventLog, StorageError};
use crate::limits::SINK_CLOSE_MAX;
use crate::net::Dialer;
use crate::net::resolver::{Lookups, Resolver};
use crate::net::tls::{self, TlsSetupError};
use crate::receiver::Selection;
use crate::tasks::StageFailure;
use crate::telemetry::Metrics;

/// Why the sinks cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum SinkSetupError {
    /// The database.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsSetupError),
    /// The HTTP client.
    #[error("HTTP cannot be set up: {0}")]
    Http(#[from] reqwest::Error),
}

/// The sinks, and a task for each.
#[derive(Debug)]
pub struct Workers {
    sinks: Arc<[Arc<Sink>]>,
    tasks: JoinSet<Result<(), StorageError>>,
    stop: watch::Sender<Option<Instant>>,
}

impl Workers {
    /// Starts delivering to each sink after its cursor. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// When the cursors cannot be read or written, or a file of certificate authorities is of no use.
    pub fn start(
        output: &Output,
        log: &Arc<EventLog>,
        resolver: Resolver,
        metrics: &Metrics,
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

    /// The sinks, in the order of the configuration, those by TCP first.
    pub fn sinks(&self) -> &Arc<[Arc<Sink>]> {
        &self.sinks
    }

    /// Waits for a worker to end before its time. As long as all is well, it waits.
    pub async fn failure(&mut self) -> StageFailure {
        match self.tasks.join_next().await {
            Some(Ok(Err(error))) => StageFailure::new("a sink", error),
            Some(Ok(Ok(()))) => StageFailure::new("a sink", "it ended"),
            Some(Err(panic)) => StageFailure::new("a sink", panic),
            None => std::future::pending().await, // There are no sinks.
        }
    }

    /// Lets the sinks that are connected take what is left, and writes down how far each is. Close the log
    /// before.
    pub async fn drain(mut self, within: Duration) {
        let deadline = Instant::now() + within;
        self.stop.send_replace(Some(deadline));
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        // Twice: for the close, and for the cursor.
        if timeout_at(deadline + 2 * SINK_CLOSE_MAX, ended).await.is_err() {
            tracing::warn!(sinks = self.tasks.len(), "some sinks did not end in time");
        }
        for sink in self.sinks.iter() {
            let (name, cursor) = (&*sink.name, sink.cursor());
            tracing::info!(sink = name, %cursor, "sink stopped");
        }
    }

    /// Forgets sinks that have not been configured for so long.
    fn forget_unused(&self, log: &EventLog, keep: Duration) -> Result<(), StorageError> {
        let used: HashSet<&str> = self.sinks.iter().map(|sink| &*sink.name).collect();
        let keep_ms = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
        let is_used = |name: &str| used.contains(name);
        for sink in log.forget_unused(Cursors::Sinks, is_used, keep_ms)? {
            tracing::info!(sink, "a sink that is no longer configured was forgotten, with its dead letters");
        }
        Ok(())
    }
}

/// The sinks that were started, and what the others are started with.
struct Starting<'a> {
    log: &'a Arc<EventLog>,
    metrics: &'a Metrics,
    known: HashMap<String, CursorRow>,
    lookups: Arc<Lookups>,
    /// The system's authorities, once they were asked for.
    authorities: Option<Arc<RootCertStore>>,
    sinks: Vec<Arc<Sink>>,
    tasks: JoinSet<Result<(), StorageError>>,
    stop: watch::Sender<Option<Instant>>,
}

impl<'a> Starting<'a> {
    fn new(log: &'a Arc<EventLog>, resolver: Resolver, metrics: &'a Metrics) -> Result<Self, StorageError> {
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
        let transport = tcp::Transport::new(address, options, dialer);
        self.spawn(&name, "tcp", &shown, &common, Transport::Tcp(transport))
    }

    fn rest(&mut self, config: RestSink) -> Result<(), SinkSetupError> {
        let RestSink { name, address, common, options } = config;
        let shown = address.without_query().to_owned();
        let tls = self.tls(&name, address.is_https(), options.ca_file.as_deref())?;
        let client = Client::new(address, options.clone(), tls, Arc::clone(&self.lookups))?;
        self.spawn(&name, "http", &shown, &common, Transport::Http(http::Transport::new(client, options)))
    }

    /// How a sink's certificate is checked. Without TLS no authority is trusted, and none is read.
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
            return tls::config_of(Arc::clone(authorities)); // One copy for all of them.
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
        transport: Transport,
    ) -> Result<(), SinkSetupError> {
        let (row, is_written) = self.row(name, common.start)?;
        let sink = Sink::new(name.to_arc(), kind, address, row.cursor, self.log, self.metrics)?;
        let (sink, orders) = (Arc::new(sink.0), sink.1);
        self.sinks.push(Arc::clone(&sink));
        let bookmark = Bookmark::new(Arc::clone(self.log), Arc::clone(&sink), row, is_written);
        let log = Arc::clone(self.log);
        let worker = Worker::new(log, sink, selection(common), bookmark, self.stop.subscribe(), orders);
        self.tasks.spawn(worker.run(transport));
        Ok(())
    }

    /// What is kept of a sink, and whether it is so in the database: of one that is new, it is
    /// written down, if the disk has room.
    fn row(&self, name: &SinkName, start: Start) -> Result<(CursorRow, bool), StorageError> {
        let known = self.known.get(name.as_str()).copied();
        let row = known.unwrap_or_else(|| CursorRow::at(first_cursor(self.log, start)));
        // No sink can have what was never committed: it would not be sent what is under these numbers.
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

/// Up to where all of these sinks have everything, also after a crash: the cursor of the slowest.
pub fn needed_after(sinks: &[Arc<Sink>]) -> Cursor {
    sinks.iter().map(|sink| sink.saved_cursor()).min().unwrap_or(Cursor::END)
}

/// Where a sink begins that is new.
fn first_cursor(log: &EventLog, start: Start) -> Cursor {
    match start {
        Start::Now => log.head(),
        Start::Oldest => Cursor::before(log.floor()),
    }
}

/// What of the log a sink gets.
fn selection(common: &CommonOptions) -> Selection {
    let CommonOptions { kinds, authors, filter, .. } = common;
    let kinds = (!kinds.is_empty()).then(|| wire::Filter::new().kinds(kinds.iter().copied()));
    let authors = (!authors.is_empty()).then(|| wire::Filter::new().authors(authors.iter().copied()));
    Selection::new([kinds, authors, filter.clone()].into_iter().flatten().collect())
}
