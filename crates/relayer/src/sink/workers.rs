//! The workers of the configured sinks. A reload [plans](Workers::plan) its changes, which may
//! fail, and then [applies](Workers::apply) them; the other sinks keep their connections.

use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use super::cursor_writer::CursorWriter;
use super::metrics::SinkMetrics;
use super::setup::{AnyTransport, Setup, SinkSettings, SinkSetupError};
use super::state::Sink;
use super::transport::{Context, Ending, Interrupts, Transport};
use super::worker::Worker;
use crate::config::{CommonOptions, Output, SinkName, Start};
use crate::crash_point;
use crate::event_log::{Cursor, CursorRow, Cursors, EventLog, StorageError};
use crate::limits::{SINK_CLOSE_MAX, SINK_DRAIN_MAX};
use crate::net::resolver::{Lookups, Resolver};
use crate::receiver::Selection;
use crate::tasks::StageFailure;

/// The running sinks.
#[derive(Debug)]
pub struct Workers {
    log: Arc<EventLog>,
    lookups: Arc<Lookups>,
    metrics: Arc<SinkMetrics>,
    state: Mutex<State>,
    failed: watch::Sender<Option<StageFailure>>,
}

#[derive(Debug, Default)]
struct State {
    /// In the order of the configuration, TCP sinks first.
    running: Vec<Running>,
    /// Whether the gateway is stopping, so that no sink may start.
    is_draining: bool,
}

/// A sink with its task, which ends when this is dropped.
#[derive(Debug)]
struct Running {
    settings: SinkSettings,
    sink: Arc<Sink>,
    /// The task holds the receivers, so the channel is closed when the task has ended.
    ending: watch::Sender<Option<Ending>>,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The sinks of a new configuration, in its order, with everything set up that may fail.
#[derive(Debug)]
pub(crate) struct SinkPlan {
    sinks: Vec<PlannedSink>,
    changes: SinkChanges,
    keep_unused: Duration,
}

#[derive(Debug)]
struct PlannedSink {
    settings: SinkSettings,
    /// `None` if the sink runs with these settings and goes on.
    transport: Option<AnyTransport>,
}

/// The names of the sinks that a reload adds, changes, removes and leaves unchanged.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct SinkChanges {
    pub added: Vec<String>,
    /// These sinks continue at their cursors with their new options.
    pub changed: Vec<String>,
    /// The cursors and dead letters of these sinks are kept for `[output] keep_unused_hours`.
    pub removed: Vec<String>,
    /// These sinks keep their connections.
    pub unchanged: Vec<String>,
}

/// Why planned sinks were not started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    #[error("the gateway is stopping")]
    Stopping,
    /// RocksDB failed. The process must stop.
    #[error(transparent)]
    Storage(#[from] StorageError),
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
        metrics: &Arc<SinkMetrics>,
    ) -> Result<Self, SinkSetupError> {
        let workers = Self {
            log: Arc::clone(log),
            lookups: Arc::new(Lookups::new(resolver)),
            metrics: Arc::clone(metrics),
            state: Mutex::default(),
            failed: watch::Sender::new(None),
        };
        let plan = workers.plan(output)?;
        let started = workers.start_planned(plan.sinks)?;
        workers.state.lock().running = started.into_iter().filter_map(Result::ok).collect();
        workers.forget_unused(plan.keep_unused)?;
        Ok(workers)
    }

    /// The sinks in the order of the configuration, TCP sinks first.
    pub fn list(&self) -> Vec<Arc<Sink>> {
        self.state.lock().running.iter().map(|running| Arc::clone(&running.sink)).collect()
    }

    /// Updates the gauges.
    pub(crate) fn refresh_metrics(&self) {
        // Holds the lock, so that a removed sink is not added again.
        let state = self.state.lock();
        self.metrics.refresh(state.running.iter().map(|running| &*running.sink), &self.log);
    }

    /// Waits until a worker fails; otherwise never completes.
    pub async fn failure(&self) -> StageFailure {
        let mut failed = self.failed.subscribe();
        match failed.wait_for(Option::is_some).await.map(|failure| failure.clone()) {
            Ok(Some(failure)) => failure,
            Ok(None) | Err(_) => std::future::pending().await, // Not reached: `self` holds the sender.
        }
    }

    /// Prepares the sinks of a new configuration without changing the running ones. May read files.
    /// Apply or drop the plan before making the next one.
    ///
    /// # Errors
    /// When a CA file or an option of HTTP cannot be used.
    pub(crate) fn plan(&self, output: &Output) -> Result<SinkPlan, SinkSetupError> {
        let before: HashMap<SinkName, SinkSettings> = {
            let state = self.state.lock();
            let settings = state.running.iter().map(|running| &running.settings);
            settings.map(|settings| (settings.name().clone(), settings.clone())).collect()
        };
        let mut changes = SinkChanges::default();
        let mut setup = Setup::new(Arc::clone(&self.lookups));
        let mut sinks = Vec::new();
        for settings in SinkSettings::all(output) {
            let name = settings.name().to_string();
            let transport = match before.get(settings.name()) {
                Some(present) if *present == settings => {
                    changes.unchanged.push(name);
                    None
                }
                present => {
                    let list = if present.is_some() { &mut changes.changed } else { &mut changes.added };
                    list.push(name);
                    Some(setup.transport(&settings)?)
                }
            };
            sinks.push(PlannedSink { settings, transport });
        }
        let after: HashSet<&SinkName> = sinks.iter().map(|planned| planned.settings.name()).collect();
        let removed = before.keys().filter(|name| !after.contains(name));
        changes.removed = removed.map(SinkName::to_string).collect();
        changes.removed.sort_unstable();
        Ok(SinkPlan { sinks, changes, keep_unused: output.keep_unused })
    }

    /// Ends the removed sinks and the previous workers of the changed ones, each after the events
    /// in flight, and then starts the new workers at the stored cursors.
    ///
    /// # Errors
    /// When the gateway is stopping, or RocksDB fails.
    pub(crate) async fn apply(self: &Arc<Self>, plan: SinkPlan) -> Result<SinkChanges, ApplyError> {
        for ending in self.retire(&plan.changes)? {
            ending.closed().await;
        }
        let workers = Arc::clone(self);
        let replaced = tokio::task::spawn_blocking(move || workers.replace(plan)).await;
        let replaced =
            replaced.unwrap_or_else(|error| Err(StorageError::new("start the sinks", error).into()));
        if let Err(ApplyError::Storage(error)) = &replaced {
            // Some sinks have ended and cannot start.
            self.failed.send_replace(Some(StageFailure::new("a sink", error)));
        }
        replaced
    }

    /// Tells the removed and the changed sinks to end. They stay in the list until they are
    /// replaced, so that retention keeps what they need.
    fn retire(&self, changes: &SinkChanges) -> Result<Vec<watch::Sender<Option<Ending>>>, ApplyError> {
        let names: HashSet<&str> =
            changes.removed.iter().chain(&changes.changed).map(String::as_str).collect();
        let state = self.state.lock();
        if state.is_draining {
            return Err(ApplyError::Stopping);
        }
        let by = Instant::now() + SINK_DRAIN_MAX;
        let retiring = state.running.iter().filter(|running| names.contains(&*running.sink.name));
        let ending = retiring.map(|running| {
            running.ending.send_replace(Some(Ending { by, is_retired: true }));
            running.ending.clone()
        });
        Ok(ending.collect())
    }

    /// Starts the planned workers in place of those that have ended. Blocks on the disk.
    fn replace(&self, plan: SinkPlan) -> Result<SinkChanges, ApplyError> {
        crash_point::reached("reload_sinks");
        let started = self.start_planned(plan.sinks)?;
        let mut state = self.state.lock();
        if state.is_draining {
            return Err(ApplyError::Stopping);
        }
        let previous = std::mem::take(&mut state.running);
        let mut previous: HashMap<SinkName, Running> =
            previous.into_iter().map(|running| (running.settings.name().clone(), running)).collect();
        let running = started.into_iter().filter_map(|started| match started {
            Ok(running) => Some(running),
            Err(name) => previous.remove(&name),
        });
        state.running = running.collect();
        for ended in &plan.changes.removed {
            self.metrics.forget(ended);
        }
        drop(state);
        let ended = previous.values().map(|running| &running.sink);
        ended.for_each(|sink| log_stopped(sink));
        self.forget_unused(plan.keep_unused)?;
        Ok(plan.changes)
    }

    /// Starts the workers of sinks whose transports are set up. Gives the name of a sink that goes
    /// on.
    fn start_planned(&self, sinks: Vec<PlannedSink>) -> Result<Vec<Result<Running, SinkName>>, StorageError> {
        let known: HashMap<String, CursorRow> = self.log.cursors(Cursors::Sinks)?.into_iter().collect();
        let started = sinks.into_iter().map(|PlannedSink { settings, transport }| {
            let known = known.get(settings.name().as_str()).copied();
            Ok(match transport {
                Some(AnyTransport::Tcp(transport)) => Ok(self.spawn(settings, transport, known)?),
                Some(AnyTransport::Http(transport)) => Ok(self.spawn(settings, transport, known)?),
                None => Err(settings.name().clone()),
            })
        });
        started.collect()
    }

    fn spawn(
        &self,
        settings: SinkSettings,
        transport: impl Transport,
        known: Option<CursorRow>,
    ) -> Result<Running, StorageError> {
        let (name, common) = (settings.name(), settings.common());
        let (row, is_written) = self.row(name, known, common.start)?;
        let (kind, address) = (settings.kind(), settings.shown_address());
        let (sink, commands) =
            Sink::new(name.to_arc(), kind, address, selection(common), row.cursor, &self.log, &self.metrics)?;
        let previous = self.list().into_iter().find(|previous| previous.name == sink.name);
        let sink = Arc::new(match previous {
            Some(previous) => sink.replacing(&previous),
            None => sink,
        });
        let ending = watch::Sender::new(None);
        let worker = Worker::new(Context {
            log: Arc::clone(&self.log),
            cursor_writer: CursorWriter::new(Arc::clone(&self.log), Arc::clone(&sink), row, is_written),
            interrupts: Interrupts { ending: ending.subscribe(), commands },
            sink: Arc::clone(&sink),
        });
        let (failed, expected) = (self.failed.clone(), ending.subscribe());
        let task = tokio::spawn(async move {
            let reason = match AssertUnwindSafe(worker.run(transport)).catch_unwind().await {
                Ok(Ok(())) if expected.borrow().is_some() => return,
                Ok(Ok(())) => "it ended".to_owned(),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "it panicked".to_owned(),
            };
            failed.send_replace(Some(StageFailure::new("a sink", reason)));
        });
        Ok(Running { settings, sink, ending, task: task.abort_handle() })
    }

    /// Returns the row of a sink, and whether the database has it. The row of a new sink is stored
    /// if the disk has room.
    fn row(
        &self,
        name: &SinkName,
        known: Option<CursorRow>,
        start: Start,
    ) -> Result<(CursorRow, bool), StorageError> {
        let row = known.unwrap_or_else(|| CursorRow::at(first_cursor(&self.log, start)));
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

    /// Lets connected sinks get the rest of the log, and stores their cursors. Close the log first.
    pub async fn drain(&self, within: Duration) {
        let deadline = Instant::now() + within;
        let (sinks, endings): (Vec<_>, Vec<_>) = {
            let mut state = self.state.lock();
            state.is_draining = true;
            let running = state.running.iter();
            running.map(|running| (Arc::clone(&running.sink), running.ending.clone())).unzip()
        };
        for ending in &endings {
            ending.send_modify(|ending| {
                let is_retired = ending.is_some_and(|ending| ending.is_retired);
                *ending = Some(Ending { by: deadline, is_retired });
            });
        }
        let all_ended = async {
            for ending in &endings {
                ending.closed().await;
            }
        };
        // Waits twice as long: once for the close, and once for storing the cursor.
        if timeout_at(deadline + 2 * SINK_CLOSE_MAX, all_ended).await.is_err() {
            let sinks = endings.iter().filter(|ending| !ending.is_closed()).count();
            tracing::warn!(name: "sinks_undrained", sinks, "some sinks did not end in time");
        }
        sinks.iter().for_each(|sink| log_stopped(sink));
        self.abort();
    }

    /// Ends the workers at once. Their cursors are not stored.
    pub fn abort(&self) {
        self.state.lock().running.iter().for_each(|running| running.task.abort());
    }

    /// Deletes the data of sinks that have been missing from the configuration for the time `keep`.
    fn forget_unused(&self, keep: Duration) -> Result<(), StorageError> {
        let sinks = self.list();
        let used: HashSet<&str> = sinks.iter().map(|sink| &*sink.name).collect();
        let keep_ms = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
        let is_used = |name: &str| used.contains(name);
        for sink in self.log.forget_unused(Cursors::Sinks, is_used, keep_ms)? {
            tracing::info!(
                name: "sink_forgotten",
                sink,
                "deleted the cursor and the dead letters of a sink that is no longer configured"
            );
        }
        Ok(())
    }
}

fn log_stopped(sink: &Sink) {
    let (name, cursor) = (&*sink.name, sink.cursor());
    tracing::info!(name: "sink_stopped", sink = name, cursor = cursor.get(), "sink stopped");
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
