//! What the log keeps of sinks: up to where each of them has everything.
//!
//! A row is written without waiting for the disk. What a power loss takes back is delivered once more, which
//! a sink must bear in any case; a crash of the process takes nothing back.

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

    /// Sets a sink's cursor. May wait for a commit that is under way, but not for the disk itself.
    ///
    /// # Errors
    /// When RocksDB fails; the process must not go on then.
    pub fn set_cursor(&self, sink: &str, cursor: Cursor) -> Result<(), StorageError> {
        let mut changes = self.store.batch();
        let written = changes.put_cursor(sink, cursor).and_then(|()| changes.commit_lazily());
        self.note(written)
    }

    /// Forgets a sink: under its name another begins anew.
    ///
    /// # Errors
    /// When RocksDB fails.
    pub fn delete_cursor(&self, sink: &str) -> Result<(), StorageError> {
        let mut changes = self.store.batch();
        changes.delete_cursor(sink)?;
        changes.commit_lazily()
    }
}
