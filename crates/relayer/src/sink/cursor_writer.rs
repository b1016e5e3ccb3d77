//! Stores one sink's cursor: every 100 ms while the cursor moves, after 10,000 events at the
//! latest, and never beyond the events that the sink has.

use std::sync::Arc;

use tokio::time::Instant;

use super::state::Sink;
use crate::event_log::{Cursor, CursorRow, Cursors, EventLog, StorageError};
use crate::limits::{CURSOR_EVENTS_MAX, CURSOR_INTERVAL, DISK_RETRY};

#[derive(Debug)]
pub(super) struct CursorWriter {
    log: Arc<EventLog>,
    sink: Arc<Sink>,
    /// The row in the database if `is_written`; otherwise the row to write.
    saved: CursorRow,
    is_written: bool,
    saved_at: Instant,
}

impl CursorWriter {
    /// `is_written` is false if the disk had no room for the row of a new sink.
    pub(super) fn new(log: Arc<EventLog>, sink: Arc<Sink>, saved: CursorRow, is_written: bool) -> Self {
        Self { log, sink, saved, is_written, saved_at: Instant::now() }
    }

    /// Whether an operator has paused the sink.
    pub(super) const fn is_paused(&self) -> bool {
        self.saved.is_paused
    }

    /// Records that the sink has everything up to this cursor.
    pub(super) fn advance(&self, delivered: Cursor) {
        self.sink.set_cursor(delivered);
    }

    /// Returns when the cursor must be stored; `None` if it has not moved.
    pub(super) fn due(&self) -> Option<Instant> {
        let moved = self.sink.cursor().get().saturating_sub(self.saved.cursor.get());
        match moved {
            0 if self.is_written => None,
            CURSOR_EVENTS_MAX.. => Some(self.saved_at),
            _ => Some(self.saved_at + CURSOR_INTERVAL),
        }
    }

    /// Stores the cursor on the blocking pool, because the write waits for the commit in progress.
    /// While the disk is full, the cursor stays in memory and is stored later; a crash in the
    /// meantime repeats more events.
    ///
    /// # Errors
    /// When RocksDB fails.
    pub(super) async fn save(&mut self) -> Result<(), StorageError> {
        let row = CursorRow { cursor: self.sink.cursor(), ..self.saved };
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

    /// Stores whether the sink is paused.
    ///
    /// # Errors
    /// When RocksDB fails.
    pub(super) async fn set_paused(&mut self, is_paused: bool) -> Result<(), StorageError> {
        self.write(CursorRow { cursor: self.sink.cursor(), is_paused, ..self.saved }).await
    }

    /// Moves the cursor in either direction, and stores it.
    ///
    /// # Errors
    /// When RocksDB fails.
    pub(super) async fn seek(&mut self, cursor: Cursor) -> Result<(), StorageError> {
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
