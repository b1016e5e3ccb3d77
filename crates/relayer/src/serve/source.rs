//! Where the messages of a client come from: the log after its cursor, filtered and formatted.

use std::future::Future;

use axum::extract::ws::Utf8Bytes;

use crate::event_log::reader::{Chunk, ReadError, Reader};
use crate::event_log::{Cursor, Entry};
use crate::receiver::{Format, Selection};

/// Yields the entries and messages for one client.
///
/// A source may skip entries that the client does not want; the cursor passes them.
pub trait Source: Send {
    /// Waits for the next entries; `None` when the log is closed and all were returned.
    /// Cancel-safe.
    ///
    /// # Errors
    /// When the next entries are trimmed, or RocksDB fails.
    fn next(&mut self) -> impl Future<Output = Result<Option<Chunk>, ReadError>> + Send;

    /// The next entries that are in memory, if any.
    fn next_in_memory(&mut self) -> Option<Chunk>;

    /// The next text that the client must get before any further entry. [`next`](Self::next)
    /// returns an empty chunk when there is one.
    fn notice(&mut self) -> Option<Utf8Bytes> {
        None
    }

    /// Everything up to here was returned or skipped.
    fn cursor(&self) -> Cursor;

    /// The newest committed sequence.
    fn head(&self) -> Cursor;

    /// The message for an entry; `None` if the client does not want it. It is asked for right
    /// before it is written to the socket, and again if the socket had no room, so it may depend on
    /// the moment.
    ///
    /// # Errors
    /// When the entry is damaged.
    fn message(&mut self, entry: &Entry) -> Result<Option<Utf8Bytes>, Damaged>;
}

/// An event in the log is not UTF-8, so it cannot be what was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damaged;

/// The events of the log that a client selected.
#[derive(Debug)]
pub(crate) struct LogSource {
    reader: Reader,
    selection: Selection,
    format: Format,
}

impl LogSource {
    /// Continues at the position of the reader.
    pub const fn new(reader: Reader, selection: Selection, format: Format) -> Self {
        Self { reader, selection, format }
    }
}

impl Source for LogSource {
    fn next(&mut self) -> impl Future<Output = Result<Option<Chunk>, ReadError>> + Send {
        self.reader.next()
    }

    fn next_in_memory(&mut self) -> Option<Chunk> {
        self.reader.next_in_memory()
    }

    fn cursor(&self) -> Cursor {
        self.reader.cursor()
    }

    fn head(&self) -> Cursor {
        self.reader.head()
    }

    /// The bytes are shared with all other clients.
    fn message(&mut self, entry: &Entry) -> Result<Option<Utf8Bytes>, Damaged> {
        if !self.selection.wants(&entry.event) {
            return Ok(None);
        }
        Utf8Bytes::try_from(self.format.of(entry).clone()).map(Some).map_err(|_| Damaged)
    }
}
