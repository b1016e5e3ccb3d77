//! What an operator tells a sink.

use tokio::sync::{mpsc, oneshot};

use crate::event_log::{Cursor, StorageError};

/// What an operator wants of a sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Deliver nothing until [`Resume`](Self::Resume), also after a restart.
    Pause,
    /// Go on, also when parked.
    Resume,
    /// Go on after this cursor, wherever it was.
    Seek(Cursor),
}

/// A command on its way to the sink's worker.
#[derive(Debug)]
pub struct Order {
    /// What is wanted.
    pub command: Command,
    done: oneshot::Sender<Result<(), StorageError>>,
}

/// Why an order was not obeyed.
#[derive(Debug, thiserror::Error)]
pub enum NotObeyed {
    /// Nobody takes orders any more.
    #[error("the gateway is stopping")]
    Stopping,
    /// The disk is full.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Order {
    /// Sends a command, and waits until it is obeyed and written down.
    ///
    /// # Errors
    /// When the gateway stops, or the disk is full; then nothing has changed.
    pub async fn send(orders: &mpsc::Sender<Self>, command: Command) -> Result<(), NotObeyed> {
        let (done, obeyed) = oneshot::channel();
        orders.send(Self { command, done }).await.map_err(|_| NotObeyed::Stopping)?;
        Ok(obeyed.await.map_err(|_| NotObeyed::Stopping)??)
    }

    /// Tells whoever gave the order that it is obeyed, or that the disk is full.
    pub fn done(self, outcome: Result<(), StorageError>) {
        // Whoever gave it may have gone.
        let _ = self.done.send(outcome);
    }
}
