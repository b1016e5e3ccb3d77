//! The cursors of receivers: the position up to which a receiver has all its events.
//!
//! A cursor is committed like events. Without fsync, a power loss may bring back an earlier cursor;
//! some events are then delivered again, which a receiver must accept in any case.

use super::entry::Cursor;
use super::{EventLog, StorageError, keys};

/// The receivers that cursors belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cursors {
    /// Sinks, by their names.
    Sinks,
    /// Consumers of `/ws`, by the names that they chose.
    Consumers,
    /// Followers on `/fanout`, by public key in hex, `/`, and the name that the follower chose.
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

/// A value of `cursors`, `consumers` and `followers`: how far a receiver is.
///
/// Stored as version (u8, now 3), cursor (u64), `unused_since_ms` (u64), `is_paused` (u8),
/// `has_acked` (u8). Version 2 lacks `has_acked`, and version 1 has only the cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CursorRow {
    /// The receiver has handled all events up to this cursor.
    pub cursor: Cursor,
    /// When the cursor went out of use, in Unix milliseconds: its sink is not configured, or its
    /// consumer is not connected. 0 while the cursor is in use.
    pub unused_since_ms: u64,
    /// Whether an operator has paused the sink.
    pub is_paused: bool,
    /// Whether the consumer has acknowledged an event. A consumer without any acknowledgement may
    /// be evicted for a new consumer. True for rows of older versions.
    pub has_acked: bool,
}

impl CursorRow {
    const VERSION: u8 = 3;
    const VERSION_WITHOUT_ACKED: u8 = 2;
    /// The version of rows with only a cursor. The upgrade of the format does not rewrite these
    /// rows, so newer logs may still have some.
    const VERSION_OF_CURSOR_ALONE: u8 = 1;

    /// The row of a cursor in use: of a sink, or of a consumer that has acknowledged an event.
    pub const fn at(cursor: Cursor) -> Self {
        Self { cursor, unused_since_ms: 0, is_paused: false, has_acked: true }
    }

    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let numbers = [self.cursor.get().to_be_bytes(), self.unused_since_ms.to_be_bytes()];
        [&[Self::VERSION], numbers.as_flattened(), &[self.is_paused.into(), self.has_acked.into()]].concat()
    }

    /// Reads a stored value; `None` if the value is damaged.
    pub(crate) fn from_bytes(value: &[u8]) -> Option<Self> {
        let (version, rest) = value.split_first()?;
        let (cursor, rest) = rest.split_first_chunk::<8>()?;
        if *version == Self::VERSION_OF_CURSOR_ALONE && rest.is_empty() {
            return Some(Self::at(Cursor::from_number(u64::from_be_bytes(*cursor))));
        }
        let (since, rest) = rest.split_first_chunk::<8>()?;
        let (is_paused, has_acked) = match (*version, rest) {
            (Self::VERSION_WITHOUT_ACKED, &[is_paused @ 0..=1]) => (is_paused, 1),
            (Self::VERSION, &[is_paused @ 0..=1, has_acked @ 0..=1]) => (is_paused, has_acked),
            _ => return None,
        };
        Some(Self {
            cursor: Cursor::from_number(u64::from_be_bytes(*cursor)),
            unused_since_ms: u64::from_be_bytes(*since),
            is_paused: is_paused == 1,
            has_acked: has_acked == 1,
        })
    }
}

impl EventLog {
    /// All stored cursors by name, in the order of the names.
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

    /// Sets a cursor. With fsync, waits for the disk.
    ///
    /// # Errors
    /// When RocksDB fails; the process must then stop.
    pub fn set_cursor(&self, whose: Cursors, name: &str, row: CursorRow) -> Result<(), StorageError> {
        let mut changes = self.store.batch();
        let written = changes.put(whose.family(), name.as_bytes(), &row.to_bytes());
        self.note(written.and_then(|()| changes.commit()))
    }

    /// Deletes a cursor.
    ///
    /// # Errors
    /// When RocksDB fails.
    pub fn delete_cursor(&self, whose: Cursors, name: &str) -> Result<(), StorageError> {
        let mut changes = self.store.batch();
        let deleted = changes.delete(whose.family(), name.as_bytes());
        self.note(deleted.and_then(|()| changes.commit()))
    }

    /// Deletes cursors that have been out of use for `keep_ms`, and the dead letters of their
    /// sinks. Returns the deleted names. Records when other cursors went out of use. While the
    /// clock is in doubt, deletes nothing.
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
                        Err(error) if error.is_full() => {} // The next start stores it.
                        written => written?,
                    }
                }
                since if !may_forget || now_ms.saturating_sub(since) < keep_ms => {}
                _ => {
                    if whose == Cursors::Sinks {
                        self.delete_dead_letters(&name)?;
                    }
                    self.delete_cursor(whose, &name)?;
                    forgotten.push(name);
                }
            }
        }
        Ok(forgotten)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_row_reads_back() {
        for row in [
            CursorRow::at(Cursor::from_number(7)),
            CursorRow { cursor: Cursor::START, unused_since_ms: 8, is_paused: true, has_acked: false },
        ] {
            let stored = row.to_bytes();
            assert_eq!((stored.len(), stored[0]), (19, 3), "the layout is a promise");
            assert_eq!(CursorRow::from_bytes(&stored), Some(row));
            for cut in 0..stored.len() {
                assert_eq!(CursorRow::from_bytes(&stored[..cut]), None, "{cut}");
            }
        }
        let first = [&[1][..], &7_u64.to_be_bytes()].concat();
        assert_eq!(CursorRow::from_bytes(&first), Some(CursorRow::at(Cursor::from_number(7))));
        let second = [&[2][..], &7_u64.to_be_bytes(), &8_u64.to_be_bytes(), &[0]].concat();
        let read = CursorRow { unused_since_ms: 8, ..CursorRow::at(Cursor::from_number(7)) };
        assert_eq!(CursorRow::from_bytes(&second), Some(read), "what it does not say counts as acknowledged");
        assert_eq!(CursorRow::from_bytes(&[4; 19]), None, "another version");
    }
}
