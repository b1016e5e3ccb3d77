//! The trait that every transport implements, and the context that a transport gets.
//!
//! Each transport has its own folder with the same parts: `client` connects to the sink, `encode`
//! turns events into bytes, `in_flight` tracks the events that the sink does not have yet, and
//! `delivery` is the loop. A transport reads the log through a [`Feed`], reports to the [`Sink`]
//! and moves the cursor of the [`CursorWriter`]; it does not depend on the worker.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::command::PendingCommand;
use super::cursor_writer::CursorWriter;
use super::feed::Feed;
use super::state::Sink;
use crate::event_log::{EventLog, StorageError};

/// Delivers events to one sink.
pub(super) trait Transport: Send + 'static {
    /// Delivers events after the cursor of the context until an interruption.
    fn run(&mut self, context: &mut Context) -> impl Future<Output = Interruption> + Send;
}

/// Why a transport returns.
#[derive(Debug)]
pub(super) enum Interruption {
    /// The sink or the gateway is stopping, and the sink has everything or ran out of time.
    Stopping,
    Command(PendingCommand),
    /// Deliver nothing more until an operator resumes the sink, for this reason.
    Parked(String),
    /// The log failed. The process must stop.
    Storage(StorageError),
}

impl From<StorageError> for Interruption {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

/// The log that a transport delivers from, and the objects that it reports to.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) log: Arc<EventLog>,
    pub(super) sink: Arc<Sink>,
    pub(super) cursor_writer: CursorWriter,
    pub(super) interrupts: Interrupts,
}

impl Context {
    /// Reads the log after the events that the sink has.
    pub(super) fn feed(&self) -> Feed {
        Feed::after(self.sink.cursor(), &self.log, &self.sink, self.interrupts.ending.clone())
    }
}

/// How a sink ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ending {
    /// The time by which the sink must be disconnected.
    pub(super) by: Instant,
    /// Whether a reload ends only this sink. It then finishes only the events in flight; when the
    /// gateway stops, it gets the rest of the log.
    pub(super) is_retired: bool,
}

/// Tells a transport when to return.
#[derive(Debug)]
pub(super) struct Interrupts {
    /// Set when the sink or the gateway stops.
    pub(super) ending: watch::Receiver<Option<Ending>>,
    pub(super) commands: mpsc::Receiver<PendingCommand>,
}

impl Interrupts {
    /// Waits for a command, or until the sink stops.
    pub(super) async fn next(&mut self) -> Interruption {
        self.next_draining(false).await
    }

    /// Like [`next`](Self::next), but if `may_drain` is set, a stop interrupts only at the
    /// deadline, so that the sink can get the rest of its events.
    pub(super) async fn next_draining(&mut self, may_drain: bool) -> Interruption {
        let Self { ending, commands } = self;
        tokio::select! {
            command = commands.recv() => command.map_or(Interruption::Stopping, Interruption::Command),
            () = stopping(ending, may_drain) => Interruption::Stopping,
        }
    }

    /// The time by which the sink must be disconnected; `None` while it is not stopping.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.ending.borrow().map(|ending| ending.by)
    }
}

async fn stopping(ending: &mut watch::Receiver<Option<Ending>>, may_drain: bool) {
    // If the sender was dropped, the gateway has ended, too.
    let ending = ending.wait_for(Option::is_some).await.ok().and_then(|ending| *ending);
    if let Some(ending) = ending.filter(|_| may_drain) {
        sleep_until(ending.by).await;
    }
}

/// Returns when a reload ends the sink.
pub(super) async fn retired(ending: &mut watch::Receiver<Option<Ending>>) {
    drop(ending.wait_for(|ending| ending.is_some_and(|ending| ending.is_retired)).await);
}
