//! What every transport implements, and what it delivers from.
//!
//! A transport has a folder of its own with the same parts: `client` reaches the sink, `encode`
//! turns events into bytes, `in_flight` knows which events the sink does not have yet, and
//! `delivery` is the loop. It reads the log through a [`Feed`], reports to the [`Sink`] and moves
//! the cursor of the [`CursorWriter`]; it knows nothing of the worker.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::command::PendingCommand;
use super::cursor_writer::CursorWriter;
use super::feed::Feed;
use super::state::Sink;
use crate::event_log::{EventLog, StorageError};
use crate::receiver::Selection;

/// Delivers events to one sink.
pub(super) trait Transport: Send + 'static {
    /// Delivers until something interrupts it, after the cursor of the context.
    fn run(&mut self, context: &mut Context) -> impl Future<Output = Interruption> + Send;
}

/// Why a transport returns.
#[derive(Debug)]
pub(super) enum Interruption {
    /// The gateway is stopping, and the sink has everything or ran out of time.
    Stopping,
    Command(PendingCommand),
    /// Deliver nothing more until an operator resumes the sink; with the reason.
    Parked(String),
    /// The log failed. The process must stop.
    Storage(StorageError),
}

impl From<StorageError> for Interruption {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

/// What a transport delivers from and reports to.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) log: Arc<EventLog>,
    pub(super) sink: Arc<Sink>,
    pub(super) selection: Selection,
    pub(super) cursor_writer: CursorWriter,
    pub(super) interrupts: Interrupts,
}

impl Context {
    /// The log after what the sink has.
    pub(super) fn feed(&self) -> Feed {
        Feed::after(self.sink.cursor(), &self.log, &self.sink)
    }
}

/// Tells a transport when to return.
#[derive(Debug)]
pub(super) struct Interrupts {
    /// Set when the gateway stops: the time by which sinks must be gone.
    pub(super) deadline: watch::Receiver<Option<Instant>>,
    pub(super) commands: mpsc::Receiver<PendingCommand>,
}

impl Interrupts {
    /// Waits for a command, or until the gateway stops.
    pub(super) async fn next(&mut self) -> Interruption {
        self.next_draining(false).await
    }

    /// Like [`next`](Self::next), but with `may_drain` a gateway that stops interrupts only at the
    /// deadline, so that the sink can take the rest of the log.
    pub(super) async fn next_draining(&mut self, may_drain: bool) -> Interruption {
        let Self { deadline, commands } = self;
        tokio::select! {
            command = commands.recv() => command.map_or(Interruption::Stopping, Interruption::Command),
            () = stopping(deadline, may_drain) => Interruption::Stopping,
        }
    }

    /// The time by which the sink must be gone; `None` while the gateway runs.
    pub(super) fn deadline(&self) -> Option<Instant> {
        *self.deadline.borrow()
    }
}

async fn stopping(deadline: &mut watch::Receiver<Option<Instant>>, may_drain: bool) {
    // Without its sender the gateway is gone, too.
    let by = deadline.wait_for(Option::is_some).await.ok().and_then(|deadline| *deadline);
    if let Some(by) = by.filter(|_| may_drain) {
        sleep_until(by).await;
    }
}

/// Waits until a time, or forever.
pub(super) async fn sleep_until_some(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
