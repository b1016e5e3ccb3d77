//! A sink's cursor on its way into the database: now and then, and never ahead of what the sink has.

use std::sync::Arc;

use tokio::time::Instant;

use super::sink::Sink;
use crate::event_log::{Cursor, EventLog, StorageError};
use crate::limits::{CURSOR_EVENTS_MAX, CURSOR_INTERVAL};

/// The cursor of one sink.
#[derive(Debug)]
pub struct Bookmark {
    log: Arc<EventLog>,
    sink: Arc<Sink>,
    /// As it is in the database.
    saved: Cursor,
    saved_at: Instant,
}

impl Bookmark {
    /// Of a sink whose present cursor is in the database.
    pub fn new(log: Arc<EventLog>, sink: Arc<Sink>) -> Self {
        let saved = sink.cursor();
        Self { log, sink, saved, saved_at: Instant::now() }
    }

    /// Up to where the sink has everything.
    pub fn cursor(&self) -> Cursor {
        self.sink.cursor()
    }

    /// The sink has everything up to here.
    pub fn advance(&self, delivered: Cursor) {
        self.sink.set_cursor(delivered);
    }

    /// When the cursor is to be written down, if it has moved since it was.
    pub fn due(&self) -> Option<Instant> {
        let moved = self.cursor().get().saturating_sub(self.saved.get());
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
        let cursor = self.cursor();
        if cursor == self.saved {
            return Ok(());
        }
        let (log, name) = (Arc::clone(&self.log), Arc::clone(&self.sink.name));
        let written = tokio::task::spawn_blocking(move || log.set_cursor(&name, cursor)).await;
        written.map_err(|error| StorageError::new("write a sink's cursor", error))??;
        (self.saved, self.saved_at) = (cursor, Instant::now());
        Ok(())
    }
}
