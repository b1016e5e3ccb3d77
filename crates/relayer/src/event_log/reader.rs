//! A reader follows the log behind its own cursor: from the tail when it is close to the head, from
//! RocksDB when it lags. It holds one chunk at a time, so a slow consumer costs nobody anything.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::entry::{Cursor, Entry, Seq};
use super::tail::Look;
use super::{EventLog, StorageError};
use crate::limits::{READ_BYTES_MAX, READ_EVENTS_MAX};

/// Why a reader cannot go on.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// Retention has trimmed what comes next.
    #[error("the events after the cursor are no longer kept; the oldest is {oldest}")]
    Trimmed {
        /// The oldest sequence that is kept.
        oldest: Seq,
    },
    /// RocksDB failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Entries that follow each other in the log.
#[derive(Debug, Clone)]
pub struct Chunk {
    entries: Arc<[Entry]>,
    from: usize,
}

impl Chunk {
    /// The entries in order. There is at least one.
    pub fn entries(&self) -> &[Entry] {
        self.entries.get(self.from..).unwrap_or_default()
    }

    /// Those of the entries that come after a cursor, of which there must be one.
    pub(crate) fn after(cursor: Cursor, entries: Arc<[Entry]>) -> Self {
        let from = entries.partition_point(|entry| Cursor::after(entry.seq) <= cursor);
        Self { entries, from }
    }

    /// The cursor after all of them.
    pub(crate) fn last(&self) -> Option<Cursor> {
        self.entries.last().map(|entry| Cursor::after(entry.seq))
    }
}

/// A place in the log.
#[derive(Debug)]
pub struct Reader {
    log: Arc<EventLog>,
    head: watch::Receiver<Cursor>,
    cursor: Cursor,
    /// A read of RocksDB that is under way. It is kept when a wait for it is dropped, so that there is
    /// never more than one.
    stored: Option<JoinHandle<Result<Stored, ReadError>>>,
}

/// Entries from RocksDB, and up to where they were looked for.
type Stored = (Arc<[Entry]>, Cursor);

impl Reader {
    pub(super) fn new(log: Arc<EventLog>, cursor: Cursor) -> Self {
        let head = log.head.subscribe();
        Self { log, head, cursor, stored: None }
    }

    /// The last sequence that this reader has given.
    pub const fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// The last sequence that was committed.
    pub fn head(&self) -> Cursor {
        *self.head.borrow()
    }

    /// What is in memory after the cursor; `None` if nothing is, though RocksDB may have it.
    pub fn next_in_memory(&mut self) -> Option<Chunk> {
        match self.log.tail.look(self.cursor) {
            Look::Here(entries) => Some(self.advance(entries)),
            Look::AtHead | Look::Closed | Look::Behind => None,
        }
    }

    /// The next entries, as soon as there are any; `None` when the log is closed and all was given. When
    /// the future is dropped, nothing is skipped.
    ///
    /// # Errors
    /// When the next entries are trimmed, or RocksDB fails.
    pub async fn next(&mut self) -> Result<Option<Chunk>, ReadError> {
        loop {
            self.head.borrow_and_update();
            match self.log.tail.look(self.cursor) {
                Look::Here(entries) => return Ok(Some(self.advance(entries))),
                Look::Closed => return Ok(None),
                Look::AtHead => {
                    if self.head.changed().await.is_err() {
                        return Ok(None);
                    }
                }
                Look::Behind => {
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

    /// Reads RocksDB on a thread that may wait for the disk. An empty answer means that the cursor stood
    /// in a gap, and has been moved over it.
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
    /// The stored entries after a cursor, and up to where they were looked for.
    fn read_stored(&self, cursor: Cursor) -> Result<Stored, ReadError> {
        loop {
            let first = if cursor == Cursor::START { self.floor() } else { cursor.next() };
            // Asked for after the floor, which is then at most one more. A head of before could lie far below
            // it, and a reader that began at 0 would stand there and be told that it is behind.
            let up_to = self.head();
            let entries = self.note(self.store.read(first, up_to, READ_EVENTS_MAX, READ_BYTES_MAX))?;
            // The floor moves before events are deleted, so if it is not above, nothing was missed.
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
