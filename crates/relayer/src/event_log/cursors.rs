//! What the log keeps of sinks: up to where each of them has everything.
//!
//! A row is committed as events are: with fsync it is on the disk, without one a power loss may take it back,
//! and what it stood for is delivered once more, which a sink must bear in any case.

use super::entry::Cursor;
use super::{EventLog, StorageError};

impl EventLog {
    /// The cursor of every sink that ever had one, by its name.
    ///
    /// # Errors
    /// When RocksDB fails.
    pub fn cursors(&self) -> Result<Vec<(String, Cursor)>, StorageError> {
        self.store.cursors()
    }

    /// Sets a sink's cursor. With fsync it waits for the disk.
    ///
    /// # Errors
    /// When RocksDB fails; the process must not go on then.
    pub fn set_cursor(&self, sink: &str, cursor: Cursor) -> Result<(), StorageError> {
        let mut changes = self.store.batch();
        let written = changes.put_cursor(sink, cursor).and_then(|()| changes.commit());
        self.note(written)
    }

    /// Forgets a sink: under its name another begins anew.
    ///
    /// # Errors
    /// When RocksDB fails.
    pub fn delete_cursor(&self, sink: &str) -> Result<(), StorageError> {
        let mut changes = self.store.batch();
        changes.delete_cursor(sink)?;
        changes.commit()
    }
}
