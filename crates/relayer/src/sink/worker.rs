//! The life of one sink: deliver by its transport, and between deliveries obey the operator, until the
//! gateway stops.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::bookmark::Bookmark;
use super::order::{Command, Order};
use super::state::{Sink, SinkState};
use super::{http, tcp};
use crate::clock::unix_ms;
use crate::event_log::{Cursor, EventLog, StorageError};
use crate::receiver::Selection;

/// When the gateway is stopping: by when sinks must be gone.
pub type Deadline = watch::Receiver<Option<Instant>>;

/// Why a transport does not go on by itself.
#[derive(Debug)]
pub enum End {
    /// The gateway is stopping, and the sink has everything or its time is over.
    Stopping,
    /// An operator wants something.
    Ordered(Order),
    /// The sink is to be left alone until an operator resumes it.
    Parked(String),
    /// The log failed. The process must not go on.
    Storage(StorageError),
}

impl From<StorageError> for End {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

/// How events come to a sink.
#[derive(Debug)]
pub enum Transport {
    /// By TCP.
    Tcp(tcp::Transport),
    /// By HTTP.
    Http(http::Transport),
}

/// What every transport works with.
#[derive(Debug)]
pub struct Worker {
    /// The log.
    pub log: Arc<EventLog>,
    /// What is known of the sink.
    pub sink: Arc<Sink>,
    /// What it wants.
    pub selection: Selection,
    /// How far it is.
    pub bookmark: Bookmark,
    stop: Deadline,
    orders: mpsc::Receiver<Order>,
    parked: Option<String>,
}

impl Worker {
    /// A worker for a sink whose present cursor is in the database.
    pub fn new(
        log: Arc<EventLog>,
        sink: Arc<Sink>,
        selection: Selection,
        bookmark: Bookmark,
        stop: Deadline,
        orders: mpsc::Receiver<Order>,
    ) -> Self {
        Self { log, sink, selection, bookmark, stop, orders, parked: None }
    }

    /// Keeps the sink supplied until the gateway stops.
    ///
    /// # Errors
    /// When RocksDB fails; the process must not go on then.
    pub async fn run(mut self, mut transport: Transport) -> Result<(), StorageError> {
        while self.stop.borrow().is_none() {
            let end = match (self.standstill(), &mut transport) {
                (Some(state), _) => {
                    self.sink.set_state(state);
                    self.interruption().await
                }
                (None, Transport::Tcp(tcp)) => tcp.run(&mut self).await,
                (None, Transport::Http(http)) => http.run(&mut self).await,
            };
            self.bookmark.save().await?;
            match end {
                End::Stopping => break,
                End::Storage(error) => return Err(error),
                End::Ordered(order) => self.obey(order).await?,
                End::Parked(reason) => {
                    let sink = &*self.sink.name;
                    tracing::error!(sink, reason, "sink parked: it is left alone until somebody resumes it");
                    self.parked = Some(reason);
                }
            }
        }
        self.sink.set_state(SinkState::Stopped);
        Ok(())
    }

    /// Waits until the gateway stops or an operator wants something.
    pub async fn interruption(&mut self) -> End {
        Self::interrupted(&mut self.stop, &mut self.orders, false).await
    }

    /// As [`interruption`](Self::interruption), with the parts that it waits for. With time, the sink may take
    /// what is left while the gateway stops.
    pub async fn interrupted(stop: &mut Deadline, orders: &mut mpsc::Receiver<Order>, has_time: bool) -> End {
        tokio::select! {
            order = orders.recv() => order.map_or(End::Stopping, End::Ordered),
            () = stopping(stop, has_time) => End::Stopping,
        }
    }

    /// The parts that a delivery waits for, apart from each other.
    pub fn parts(&mut self) -> (&mut Bookmark, &mut Deadline, &mut mpsc::Receiver<Order>) {
        (&mut self.bookmark, &mut self.stop, &mut self.orders)
    }

    /// By when the sink must be gone, if the gateway is stopping.
    pub fn deadline(&self) -> Option<Instant> {
        *self.stop.borrow()
    }

    /// Why nothing is to be delivered now.
    fn standstill(&self) -> Option<SinkState> {
        let since_ms = unix_ms();
        if self.bookmark.is_paused() {
            return Some(SinkState::Paused { since_ms });
        }
        self.parked.clone().map(|reason| SinkState::Parked { since_ms, reason })
    }

    async fn obey(&mut self, order: Order) -> Result<(), StorageError> {
        let outcome = match self.apply(order.command).await {
            Err(error) if !error.is_full() => return Err(error),
            outcome => outcome,
        };
        // Shown before it is answered: whoever asks next sees what was obeyed.
        if let Some(state) = self.standstill() {
            self.sink.set_state(state);
        }
        order.done(outcome);
        Ok(())
    }

    async fn apply(&mut self, command: Command) -> Result<(), StorageError> {
        let sink = &*self.sink.name;
        match command {
            Command::Pause => {
                self.bookmark.set_paused(true).await?;
                tracing::info!(sink, cursor = %self.sink.cursor(), "sink paused");
            }
            Command::Resume => {
                self.bookmark.set_paused(false).await?;
                self.parked = None;
                tracing::info!(sink, cursor = %self.sink.cursor(), "sink resumed");
            }
            Command::Seek(cursor) => {
                let from = self.sink.cursor();
                // Nothing beyond the head: it would not be sent what will be under these numbers. And who wants
                // the oldest loses nothing by what is no longer kept.
                let oldest = if cursor == Cursor::START { Cursor::before(self.log.floor()) } else { cursor };
                self.bookmark.seek(oldest.min(self.log.head())).await?;
                tracing::info!(sink, %from, to = %cursor, "sink moved to another cursor");
            }
        }
        Ok(())
    }
}

/// Comes back when the gateway is stopping, or with time, when it is over. A sender that is gone means the same.
async fn stopping(stop: &mut Deadline, has_time: bool) {
    let deadline = stop.wait_for(Option::is_some).await.ok().and_then(|deadline| *deadline);
    if let Some(deadline) = deadline.filter(|_| has_time) {
        sleep_until(deadline).await;
    }
}

/// Comes back at a time, or never.
pub async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
