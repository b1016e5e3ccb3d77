//! What an operator tells a sink.

use tokio::sync::{mpsc, oneshot};

use crate::event_log::Cursor;

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
    done: oneshot::Sender<()>,
}

/// The gateway stops, and nobody takes orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NobodyObeys;

impl Order {
    /// Sends a command, and waits until it is obeyed and written down.
    ///
    /// # Errors
    /// When the gateway stops.
    pub async fn send(orders: &mpsc::Sender<Self>, command: Command) -> Result<(), NobodyObeys> {
        let (done, obeyed) = oneshot::channel();
        orders.send(Self { command, done }).await.map_err(|_| NobodyObeys)?;
        obeyed.await.map_err(|_| NobodyObeys)
    }

    /// Tells whoever gave the order that it is obeyed.
    pub fn done(self) {
        // Whoever gave it may have gone.
        let _ = self.done.send(());
    }
}
