//! A sink's cursor on its way into the database: now and then, and never ahead of what the sink has.

use std::sync::Arc;

use tokio::time::Instant;

use super::state::Sink;
use crate::event_log::{Cursor, CursorRow, Cursors, EventLog, StorageError};
use crate::limits::{CURSOR_EVENTS_MAX, CURSOR_INTERVAL, DISK_RETRY};

/// The cursor of one sink.
#[derive(Debug)]
pub struct Bookmark {
    log: Arc<EventLog>,
    sink: Arc<Sink>,
    /// As it is in the database, if it was written.
    saved: CursorRow,
    is_written: bool,
    saved_at: Instant,
}

impl Bookmark {
    /// Of a sink whose present cursor is in the database, in this row; or for lack of room it is
    /// not.
    pub fn new(log: Arc<EventLog>, sink: Arc<Sink>, saved: CursorRow, is_written: bool) -> Self {
        Self { log, sink, saved, is_written, saved_at: Instant::now() }
    }

    /// Up to where the sink has everything.
    pub fn cursor(&self) -> Cursor {
        self.sink.cursor()
    }

    /// Whether an operator has paused the sink.
    pub const fn is_paused(&self) -> bool {
        self.saved.is_paused
    }

    /// The sink has everything up to here.
    pub fn advance(&self, delivered: Cursor) {
        self.sink.set_cursor(delivered);
    }

    /// When the cursor is to be written down, if it has moved since it was.
    pub fn due(&self) -> Option<Instant> {
        let moved = self.cursor().get().saturating_sub(self.saved.cursor.get());
        match moved {
            0 if self.is_written => None,
            CURSOR_EVENTS_MAX.. => Some(self.saved_at),
            _ => Some(self.saved_at + CURSOR_INTERVAL),
        }
    }

    /// Writes the cursor down, on a thread that may wait: for the commit that is under way. On a
    /// full disk it stays in memory, and is written later: until then, a crash would have the sink
    /// get more again.
    ///
    /// # Errors
    /// When RocksDB fails.
    pub async fn save(&mut self) -> Result<(), StorageError> {
        let row = CursorRow { cursor: self.cursor(), ..self.saved };
        if row == self.saved && self.is_written {
            return Ok(());
        }
        match self.write(row).await {
            Err(error) if error.is_full() => {
                self.saved_at = Instant::now() + DISK_RETRY;
                Ok(())
            }
            written => written,
        }
    }

    /// Writes down whether the sink is paused.
    ///
    /// # Errors
    /// When RocksDB fails.
    pub async fn set_paused(&mut self, is_paused: bool) -> Result<(), StorageError> {
        self.write(CursorRow { cursor: self.cursor(), is_paused, ..self.saved }).await
    }

    /// Moves the cursor, wherever it was.
    ///
    /// # Errors
    /// When RocksDB fails.
    pub async fn seek(&mut self, cursor: Cursor) -> Result<(), StorageError> {
        self.write(CursorRow { cursor, ..self.saved }).await?;
        self.sink.set_cursor(cursor);
        Ok(())
    }

    async fn write(&mut self, row: CursorRow) -> Result<(), StorageError> {
        let (log, name) = (Arc::clone(&self.log), Arc::clone(&self.sink.name));
        let written = tokio::task::spawn_blocking(move || log.set_cursor(Cursors::Sinks, &name, row)).await;
        written.map_err(|error| StorageError::new("write a cursor", error))??;
        self.sink.set_saved_cursor(row.cursor);
        (self.saved, self.is_written, self.saved_at) = (row, true, Instant::now());
        Ok(())
    }
}
