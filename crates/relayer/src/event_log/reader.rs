//! A reader follows the log from its own cursor. Close to the head, it reads the tail; when
//! lagging, it reads RocksDB. A reader holds one chunk at a time, so a slow consumer does not
//! affect other consumers.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::entry::{Cursor, Entry, Seq};
use super::tail::TailPosition;
use super::{EventLog, StorageError};
use crate::limits::{READ_BYTES_MAX, READ_EVENTS_MAX};

/// Why a reader cannot continue.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// Retention has trimmed the next events.
    #[error("the events after the cursor are no longer kept; the oldest is {oldest}")]
    Trimmed {
        /// The oldest sequence that is kept.
        oldest: Seq,
    },
    /// RocksDB failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Entries in the order of the log.
#[derive(Debug, Clone)]
pub struct Chunk {
    entries: Arc<[Entry]>,
    from: usize,
}

impl Chunk {
    /// The entries in order, at least one.
    pub fn entries(&self) -> &[Entry] {
        self.entries.get(self.from..).unwrap_or_default()
    }

    /// The entries after a cursor. At least one entry must be after the cursor.
    pub(crate) fn after(cursor: Cursor, entries: Arc<[Entry]>) -> Self {
        let from = entries.partition_point(|entry| Cursor::after(entry.seq) <= cursor);
        Self { entries, from }
    }

    /// The cursor after the last entry.
    pub(crate) fn last(&self) -> Option<Cursor> {
        self.entries.last().map(|entry| Cursor::after(entry.seq))
    }
}

/// A position in the log that moves as entries are read.
#[derive(Debug)]
pub struct Reader {
    log: Arc<EventLog>,
    head: watch::Receiver<Cursor>,
    cursor: Cursor,
    /// A pending read of RocksDB. The read stays here when the future that waits for it is dropped,
    /// so that a reader never has two pending reads.
    stored: Option<JoinHandle<Result<Stored, ReadError>>>,
}

/// Entries from RocksDB, and the cursor up to which the log was searched.
type Stored = (Arc<[Entry]>, Cursor);

impl Reader {
    pub(super) fn new(log: Arc<EventLog>, cursor: Cursor) -> Self {
        let head = log.head.subscribe();
        Self { log, head, cursor, stored: None }
    }

    /// The last sequence that this reader has returned.
    pub const fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// The last sequence that was committed.
    pub fn head(&self) -> Cursor {
        *self.head.borrow()
    }

    /// The next entries if they are in memory. Otherwise `None`, although RocksDB may have further
    /// entries.
    pub fn next_in_memory(&mut self) -> Option<Chunk> {
        match self.log.tail.find(self.cursor) {
            TailPosition::Here(entries) => Some(self.advance(entries)),
            TailPosition::AtHead | TailPosition::Closed | TailPosition::Behind => None,
        }
    }

    /// Waits for the next entries; `None` when the log is closed and read to its end. Dropping the
    /// future skips no entries.
    ///
    /// # Errors
    /// When the next entries are trimmed, or RocksDB fails.
    pub async fn next(&mut self) -> Result<Option<Chunk>, ReadError> {
        loop {
            self.head.borrow_and_update();
            match self.log.tail.find(self.cursor) {
                TailPosition::Here(entries) => return Ok(Some(self.advance(entries))),
                TailPosition::Closed => return Ok(None),
                TailPosition::AtHead => {
                    if self.head.changed().await.is_err() {
                        return Ok(None);
                    }
                }
                TailPosition::Behind => {
                    let entries = self.read_stored().await?;
                    if !entries.is_empty() {
                        return Ok(Some(self.advance(entries)));
                    }
                }
            }
        }
    }

    fn advance(&mut self, entries: Arc<[Entry]>) -> Chunk {
        let chunk = Chunk::after(self.cursor, entries);
        self.cursor = chunk.last().unwrap_or(self.cursor);
        chunk
    }

    /// Reads RocksDB on the blocking pool. If the cursor was in a gap, moves the cursor over the
    /// gap and returns no entries.
    async fn read_stored(&mut self) -> Result<Arc<[Entry]>, ReadError> {
        let (log, cursor) = (&self.log, self.cursor);
        let reading = self.stored.get_or_insert_with(|| {
            let log = Arc::clone(log);
            tokio::task::spawn_blocking(move || log.read_stored(cursor))
        });
        let read = reading.await;
        self.stored = None;
        let (entries, up_to) = read.map_err(|error| StorageError::new("read events", error))??;
        if entries.is_empty() {
            self.cursor = up_to.max(self.cursor);
        }
        Ok(entries)
    }
}

impl EventLog {
    fn read_stored(&self, cursor: Cursor) -> Result<Stored, ReadError> {
        loop {
            let first = if cursor == Cursor::START { self.floor() } else { cursor.next() };
            // The head is read after the floor, so that the floor exceeds the head by at most one.
            // An earlier head could be far below the floor; a reader from 0 would stop there and
            // report trimmed events.
            let up_to = self.head();
            let entries = self.note(self.store.read(first, up_to, READ_EVENTS_MAX, READ_BYTES_MAX))?;
            // The floor moves before events are deleted, so no event is missing if the floor is not
            // above `first`.
            let oldest = self.floor();
            if first >= oldest {
                return Ok((entries.into(), up_to));
            }
            if cursor != Cursor::START {
                return Err(ReadError::Trimmed { oldest });
            }
        }
    }
}
