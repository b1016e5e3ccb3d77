//! What the log keeps of receivers: up to where each of them has everything.
//!
//! A row is committed as events are: with fsync it is on the disk, without one a power loss may take it back,
//! and what it stood for is delivered once more, which a receiver must bear in any case.

use super::keys::{self, CursorRow};
use super::{EventLog, StorageError};

/// Whose cursors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cursors {
    /// Of sinks, by their names.
    Sinks,
    /// Of consumers of `/ws`, by the names that they give themselves.
    Consumers,
    /// Of followers on `/fanout`: public key in hex, `/`, and the name that it gives itself.
    Followers,
}

impl Cursors {
    const fn family(self) -> &'static str {
        match self {
            Self::Sinks => keys::CURSORS,
            Self::Consumers => keys::CONSUMERS,
            Self::Followers => keys::FOLLOWERS,
        }
    }
}

impl EventLog {
    /// All cursors that are kept, with whose they are, in the order of the names.
    ///
    /// # Errors
    /// When RocksDB fails.
    pub fn cursors(&self, whose: Cursors) -> Result<Vec<(String, CursorRow)>, StorageError> {
        let mut rows = Vec::new();
        let read = self.store.for_each_row(whose.family(), &[], |name, row| {
            rows.push((std::str::from_utf8(name).ok()?.to_owned(), CursorRow::from_bytes(row)?));
            Some(true)
        });
        self.note(read.map(|()| rows))
    }

    /// Sets a cursor. With fsync it waits for the disk.
    ///
    /// # Errors
    /// When RocksDB fails; the process must not go on then.
    pub fn set_cursor(&self, whose: Cursors, name: &str, row: CursorRow) -> Result<(), StorageError> {
        let mut changes = self.store.batch();
        let written = changes.put(whose.family(), name.as_bytes(), &row.to_bytes());
        self.note(written.and_then(|()| changes.commit()))
    }

    /// Forgets a cursor: who has this name begins anew.
    ///
    /// # Errors
    /// When RocksDB fails.
    pub fn delete_cursor(&self, whose: Cursors, name: &str) -> Result<(), StorageError> {
        let mut changes = self.store.batch();
        let deleted = changes.delete(whose.family(), name.as_bytes());
        self.note(deleted.and_then(|()| changes.commit()))
    }

    /// Forgets the cursors that nobody has used for so long, with the dead letters of the sinks,
    /// and notes of those that nobody uses from now on that it is so. Gives the names that were
    /// forgotten. While the clock is in doubt, nothing is forgotten.
    ///
    /// # Errors
    /// When RocksDB fails.
    pub fn forget_unused(
        &self,
        whose: Cursors,
        is_used: impl Fn(&str) -> bool,
        keep_ms: u64,
    ) -> Result<Vec<String>, StorageError> {
        let (now_ms, may_forget) = (self.clock.unix_ms(), self.clock.deletes_by_age());
        let mut forgotten = Vec::new();
        for (name, row) in self.cursors(whose)? {
            match row.unused_since_ms {
                _ if is_used(&name) => {}
                0 => {
                    let unused_since_ms = self.clock.at_least_the_log_ms();
                    match self.set_cursor(whose, &name, CursorRow { unused_since_ms, ..row }) {
                        Err(error) if error.is_full() => {} // It is noted at another start.
                        written => written?,
                    }
                }
                since if !may_forget || now_ms.saturating_sub(since) < keep_ms => {}
                _ => {
                    if whose == Cursors::Sinks {
                        self.delete_letters(&name)?;
                    }
                    self.delete_cursor(whose, &name)?;
                    forgotten.push(name);
                }
            }
        }
        Ok(forgotten)
    }
}
