//! All sinks of the configuration: where each begins, and how they end with the gateway.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::sink::Sink;
use super::worker::Worker;
use crate::config::{Start, TcpSink};
use crate::event_log::{Cursor, EventLog, StorageError, keys};
use crate::limits::SINK_CLOSE_MAX;
use crate::relay::resolver::{Lookups, Resolver};
use crate::tasks::StageFailure;
use crate::telemetry::Metrics;

/// The sinks, and a task for each.
#[derive(Debug)]
pub struct Workers {
    sinks: Vec<Arc<Sink>>,
    tasks: JoinSet<Result<(), StorageError>>,
    stop: watch::Sender<Option<Instant>>,
}

impl Workers {
    /// Starts delivering to each sink after its cursor. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// When the cursors cannot be read, or the first one of a new sink cannot be written.
    pub fn start(
        configs: Vec<TcpSink>,
        log: &Arc<EventLog>,
        resolver: Resolver,
        metrics: &Metrics,
    ) -> Result<Self, StorageError> {
        let known: HashMap<String, Cursor> = log.cursors()?.into_iter().collect();
        let lookups = Arc::new(Lookups::new(resolver));
        let stop = watch::Sender::new(None);
        let (mut sinks, mut tasks) = (Vec::new(), JoinSet::new());
        for config in configs {
            let cursor = match known.get(config.name.as_str()) {
                // No sink can have what was never committed: it would not be sent what is under these numbers.
                Some(cursor) => (*cursor).min(log.head()),
                None => first_cursor(log, &config)?,
            };
            let (name, address) = (config.name.to_arc(), config.address.as_str());
            let sink = Arc::new(Sink::new(name, "tcp", address, cursor, metrics));
            sinks.push(Arc::clone(&sink));
            let worker = Worker::new(config, Arc::clone(log), sink, Arc::clone(&lookups), stop.subscribe());
            tasks.spawn(worker.run());
        }
        Ok(Self { sinks, tasks, stop })
    }

    /// The sinks, in the order of the configuration.
    pub fn sinks(&self) -> &[Arc<Sink>] {
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
}

/// Where a sink begins that is new, and that from now on it is not.
fn first_cursor(log: &EventLog, config: &TcpSink) -> Result<Cursor, StorageError> {
    let cursor = match config.options.start {
        Start::Now => log.head(),
        Start::Oldest => keys::before(log.floor()),
    };
    log.set_cursor(config.name.as_str(), cursor)?;
    Ok(cursor)
}
