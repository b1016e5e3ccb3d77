//! Commands from an operator to a sink.

use tokio::sync::{mpsc, oneshot};

use crate::event_log::{Cursor, StorageError};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Deliver nothing until [`Resume`](Self::Resume), even after a restart.
    Pause,
    /// Continue after a pause or after parking.
    Resume,
    /// Continue after this cursor, regardless of the current cursor.
    Seek(Cursor),
}

/// A command on its way to the sink's worker.
#[derive(Debug)]
pub(super) struct PendingCommand {
    pub(super) command: Command,
    done: oneshot::Sender<Result<(), StorageError>>,
}

/// Why a command was not applied.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The sink's worker has ended.
    #[error("the sink or the gateway is stopping")]
    Stopping,
    /// The disk is full. Nothing has changed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl PendingCommand {
    /// Sends a command and waits until it is applied and stored.
    pub(super) async fn send(commands: &mpsc::Sender<Self>, command: Command) -> Result<(), CommandError> {
        let (done, applied) = oneshot::channel();
        commands.send(Self { command, done }).await.map_err(|_| CommandError::Stopping)?;
        Ok(applied.await.map_err(|_| CommandError::Stopping)??)
    }

    /// Reports the outcome to the sender.
    pub(super) fn done(self, outcome: Result<(), StorageError>) {
        // The sender may have stopped waiting.
        let _ = self.done.send(outcome);
    }
}
