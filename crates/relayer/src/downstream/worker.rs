//! The life of one sink: connect, deliver, and after a rest again, until the gateway stops.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::bookmark::Bookmark;
use super::selection::Selection;
use super::sink::{Sink, SinkState};
use super::tcp::{Connection, Deadline, End, connect};
use crate::backoff::Backoff;
use crate::config::{TcpOptions, TcpSink};
use crate::event_log::{EventLog, StorageError};
use crate::ingest::candidate::unix_ms;
use crate::limits::SINK_BACKOFF_MAX;
use crate::relay::resolver::Lookups;

/// What delivers to one sink.
#[derive(Debug)]
pub struct Worker {
    config: TcpSink,
    selection: Selection,
    log: Arc<EventLog>,
    sink: Arc<Sink>,
    lookups: Arc<Lookups>,
    bookmark: Bookmark,
    stop: Deadline,
    backoff: Backoff,
    connections: u64,
    /// Why the sink was not connected, as it was last logged.
    trouble: Option<String>,
}

impl Worker {
    /// A worker for a sink whose present cursor is in the database.
    pub fn new(
        config: TcpSink,
        log: Arc<EventLog>,
        sink: Arc<Sink>,
        lookups: Arc<Lookups>,
        stop: Deadline,
    ) -> Self {
        Self {
            selection: selection(&config.options),
            bookmark: Bookmark::new(Arc::clone(&log), Arc::clone(&sink)),
            config,
            log,
            sink,
            lookups,
            stop,
            backoff: Backoff::of_sink(),
            connections: 0,
            trouble: None,
        }
    }

    /// Keeps the sink supplied until the gateway stops.
    ///
    /// # Errors
    /// When RocksDB fails; the process must not go on then.
    pub async fn run(mut self) -> Result<(), StorageError> {
        while self.stop.borrow().is_none() {
            let end = self.once().await;
            self.bookmark.save().await?;
            match end {
                End::Stopping => break,
                End::Storage(error) => return Err(error),
                end => {
                    let rest = self.rest(&end);
                    tokio::select! {
                        () = sleep(rest) => {}
                        () = stopping(&mut self.stop) => {}
                    }
                }
            }
        }
        self.sink.set_state(SinkState::Stopped);
        Ok(())
    }

    /// One connection from dialling to its end.
    async fn once(&mut self) -> End {
        self.sink.set_state(SinkState::Connecting);
        let connected = tokio::select! {
            connected = connect(&self.config.address, &self.lookups) => connected,
            // What it has not got it gets when the gateway is back.
            () = stopping(&mut self.stop) => return End::Stopping,
        };
        let stream = match connected {
            Ok(stream) => stream,
            Err(end) => return end,
        };
        self.connections += 1;
        if self.connections > 1 {
            self.sink.reconnects.inc();
        }
        let (log, sink, options) = (&self.log, &*self.sink, &self.config.options);
        tracing::info!(sink = &*sink.name, address = &*sink.address, cursor = %sink.cursor(), "sink connected");
        let began = Instant::now();
        let mut connection = Connection::new(stream, log, sink, options, &self.selection);
        let end = connection.run(&mut self.bookmark, &mut self.stop).await;
        if connection.had() > 0 || began.elapsed() > SINK_BACKOFF_MAX {
            self.backoff.reset();
            self.trouble = None;
        }
        if matches!(end, End::Stopping) {
            connection.close(&self.stop).await;
        }
        end
    }

    /// How long the sink is left alone after a connection ended so.
    fn rest(&mut self, end: &End) -> Duration {
        if end.is_ack_error() {
            self.sink.ack_errors.inc();
        }
        let (rest, reason) = (self.backoff.next_delay(), end.to_string());
        let milliseconds = u64::try_from(rest.as_millis()).unwrap_or(u64::MAX);
        let sink = &*self.sink.name;
        // A sink that stays away does not fill the log.
        if self.trouble.as_deref() == Some(&reason) {
            tracing::debug!(sink, reason, milliseconds, "still not connected");
        } else {
            tracing::warn!(sink, reason, milliseconds, "sink not connected; it is tried again");
            self.trouble = Some(reason.clone());
        }
        self.sink.set_state(SinkState::Retrying { until_ms: unix_ms().saturating_add(milliseconds), reason });
        rest
    }
}

/// What of the log a sink gets.
fn selection(options: &TcpOptions) -> Selection {
    let TcpOptions { kinds, authors, filter, .. } = options;
    let kinds = (!kinds.is_empty()).then(|| wire::Filter::new().kinds(kinds.iter().copied()));
    let authors = (!authors.is_empty()).then(|| wire::Filter::new().authors(authors.iter().copied()));
    Selection::new([kinds, authors, filter.clone()].into_iter().flatten().collect())
}

/// Comes back when the gateway is stopping. A sender that is gone means the same.
async fn stopping(stop: &mut Deadline) {
    let _ = stop.wait_for(Option::is_some).await;
}
