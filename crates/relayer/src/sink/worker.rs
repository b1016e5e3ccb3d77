//! The task of one sink: runs its transport, and applies the operator's commands in between, until
//! the sink or the gateway stops.

use super::command::{Command, PendingCommand};
use super::state::SinkState;
use super::transport::{Context, Interruption, Transport};
use crate::clock::unix_ms;
use crate::event_log::{Cursor, StorageError};

#[derive(Debug)]
pub(super) struct Worker {
    context: Context,
    /// The reason, if the sink is parked.
    parked: Option<String>,
}

impl Worker {
    pub(super) const fn new(context: Context) -> Self {
        Self { context, parked: None }
    }

    /// Delivers to the sink until the sink or the gateway stops.
    ///
    /// # Errors
    /// When RocksDB fails; then the process must stop.
    pub(super) async fn run(mut self, mut transport: impl Transport) -> Result<(), StorageError> {
        while self.context.interrupts.deadline().is_none() {
            let interruption = match self.standstill() {
                Some(state) => {
                    self.context.sink.set_state(state);
                    self.context.interrupts.next().await
                }
                None => transport.run(&mut self.context).await,
            };
            self.context.cursor_writer.save().await?;
            match interruption {
                Interruption::Stopping => break,
                Interruption::Storage(error) => return Err(error),
                Interruption::Command(pending) => self.execute(pending).await?,
                Interruption::Parked(reason) => {
                    let sink = &*self.context.sink.name;
                    tracing::error!(
                        name: "sink_parked",
                        sink, reason, "sink parked until an operator resumes it"
                    );
                    self.parked = Some(reason);
                }
            }
        }
        self.context.sink.set_state(SinkState::Stopped);
        Ok(())
    }

    /// Returns the state of a sink that gets nothing at present.
    fn standstill(&self) -> Option<SinkState> {
        let since_ms = unix_ms();
        if self.context.cursor_writer.is_paused() {
            return Some(SinkState::Paused { since_ms });
        }
        self.parked.clone().map(|reason| SinkState::Parked { since_ms, reason })
    }

    async fn execute(&mut self, pending: PendingCommand) -> Result<(), StorageError> {
        let outcome = match self.apply(pending.command).await {
            Err(error) if !error.is_full() => return Err(error),
            outcome => outcome,
        };
        // Updated before the reply, so that a caller who queries the state next sees the new state.
        if let Some(state) = self.standstill() {
            self.context.sink.set_state(state);
        }
        pending.done(outcome);
        Ok(())
    }

    async fn apply(&mut self, command: Command) -> Result<(), StorageError> {
        let Context { log, sink, cursor_writer, .. } = &mut self.context;
        let name = &*sink.name;
        match command {
            Command::Pause => {
                cursor_writer.set_paused(true).await?;
                tracing::info!(name: "sink_paused", sink = name, cursor = sink.cursor().get(), "sink paused");
            }
            Command::Resume => {
                cursor_writer.set_paused(false).await?;
                self.parked = None;
                tracing::info!(name: "sink_resumed", sink = name, cursor = sink.cursor().get(), "sink resumed");
            }
            Command::Seek(cursor) => {
                let from = sink.cursor();
                // A sink that asks for the oldest event loses nothing to retention. A cursor beyond
                // the head would skip future events with these sequences.
                let oldest = if cursor == Cursor::START { Cursor::before(log.floor()) } else { cursor };
                cursor_writer.seek(oldest.min(log.head())).await?;
                tracing::info!(
                    name: "sink_moved",
                    sink = name, from = from.get(), to = cursor.get(), "sink moved to another cursor"
                );
            }
        }
        Ok(())
    }
}
