//! The source of a client's messages: the log after the client's cursor, filtered and formatted.

use std::future::Future;

use axum::extract::ws::Utf8Bytes;

use crate::event_log::reader::{Chunk, ReadError, Reader};
use crate::event_log::{Cursor, Entry};
use crate::receiver::{Format, Selection};

/// Yields the entries and messages for one client.
///
/// A source may skip entries that the client does not want; the source's cursor moves past these
/// entries.
pub trait Source: Send {
    /// Waits for the next entries; `None` when the log is closed and all entries were returned.
    /// Cancel-safe.
    ///
    /// # Errors
    /// When the next entries are trimmed, or RocksDB fails.
    fn next(&mut self) -> impl Future<Output = Result<Option<Chunk>, ReadError>> + Send;

    /// Returns the next entries if they are in memory.
    fn next_in_memory(&mut self) -> Option<Chunk>;

    /// Returns the next notice, which the client must get before any further entry.
    /// [`next`](Self::next) returns an empty chunk when there is a notice.
    fn notice(&mut self) -> Option<Utf8Bytes> {
        None
    }

    /// The cursor up to which everything was returned or skipped.
    fn cursor(&self) -> Cursor;

    /// The newest committed sequence.
    fn head(&self) -> Cursor;

    /// Returns the message for an entry; `None` if the client does not want the entry. Called right
    /// before the message is written to the socket, and again if the socket had no room, so the
    /// result may depend on the time of the call.
    ///
    /// # Errors
    /// When the entry is damaged.
    fn message(&mut self, entry: &Entry) -> Result<Option<Utf8Bytes>, Damaged>;
}

/// An event in the log is not UTF-8, so it is not the event that was verified.
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

    /// The message's bytes are shared by all clients.
    fn message(&mut self, entry: &Entry) -> Result<Option<Utf8Bytes>, Damaged> {
        if !self.selection.wants(&entry.event) {
            return Ok(None);
        }
        Utf8Bytes::try_from(self.format.of(entry).clone()).map(Some).map_err(|_| Damaged)
    }
}
