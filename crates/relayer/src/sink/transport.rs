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
    /// The gateway is stopping, and the sink has everything or ran out of time.
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
        Feed::after(self.sink.cursor(), &self.log, &self.sink)
    }
}

/// Tells a transport when to return.
#[derive(Debug)]
pub(super) struct Interrupts {
    /// Set when the gateway stops: the time by which sinks must be disconnected.
    pub(super) deadline: watch::Receiver<Option<Instant>>,
    pub(super) commands: mpsc::Receiver<PendingCommand>,
}

impl Interrupts {
    /// Waits for a command, or until the gateway stops.
    pub(super) async fn next(&mut self) -> Interruption {
        self.next_draining(false).await
    }

    /// Like [`next`](Self::next), but if `may_drain` is set, a stopping gateway interrupts only at
    /// the deadline, so that the sink can get the rest of the log.
    pub(super) async fn next_draining(&mut self, may_drain: bool) -> Interruption {
        let Self { deadline, commands } = self;
        tokio::select! {
            command = commands.recv() => command.map_or(Interruption::Stopping, Interruption::Command),
            () = stopping(deadline, may_drain) => Interruption::Stopping,
        }
    }

    /// The time by which the sink must be disconnected; `None` while the gateway runs.
    pub(super) fn deadline(&self) -> Option<Instant> {
        *self.deadline.borrow()
    }
}

async fn stopping(deadline: &mut watch::Receiver<Option<Instant>>, may_drain: bool) {
    // If the sender was dropped, the gateway has ended, too.
    let by = deadline.wait_for(Option::is_some).await.ok().and_then(|deadline| *deadline);
    if let Some(by) = by.filter(|_| may_drain) {
        sleep_until(by).await;
    }
}
