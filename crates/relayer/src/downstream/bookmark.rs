//! A sink's cursor on its way into the database: now and then, and never ahead of what the sink has.

use std::sync::Arc;

use tokio::time::Instant;

use super::sink::Sink;
use crate::event_log::{Cursor, CursorRow, Cursors, EventLog, StorageError};
use crate::limits::{CURSOR_EVENTS_MAX, CURSOR_INTERVAL};

/// The cursor of one sink.
#[derive(Debug)]
pub struct Bookmark {
    log: Arc<EventLog>,
    sink: Arc<Sink>,
    /// As it is in the database.
    saved: CursorRow,
    saved_at: Instant,
}

impl Bookmark {
    /// Of a sink whose present cursor is in the database, in this row.
    pub fn new(log: Arc<EventLog>, sink: Arc<Sink>, saved: CursorRow) -> Self {
        Self { log, sink, saved, saved_at: Instant::now() }
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
            0 => None,
            CURSOR_EVENTS_MAX.. => Some(self.saved_at),
            _ => Some(self.saved_at + CURSOR_INTERVAL),
        }
    }

    /// Writes the cursor down, on a thread that may wait: for the commit that is under way.
    ///
    /// # Errors
    /// When RocksDB fails.
    pub async fn save(&mut self) -> Result<(), StorageError> {
        let row = CursorRow { cursor: self.cursor(), ..self.saved };
        if row == self.saved { Ok(()) } else { self.write(row).await }
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
        (self.saved, self.saved_at) = (row, Instant::now());
        Ok(())
    }
}
