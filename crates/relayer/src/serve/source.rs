//! What a client is served from: the log behind the client's cursor, and the words in which it gets an event.

use std::future::Future;

use axum::extract::ws::Utf8Bytes;

use crate::event_log::reader::{Chunk, ReadError, Reader};
use crate::event_log::{Cursor, Entry};
use crate::receiver::{Format, Selection};

/// What a session serves one client from.
///
/// The cursor may pass entries that it gives nobody: a source that knows that nothing before them is wanted
/// need not hand them out.
pub trait Source: Send {
    /// The next entries, as soon as there are any; `None` when the log is closed and all was given. When the
    /// future is dropped, nothing is skipped.
    ///
    /// # Errors
    /// When the next entries are trimmed, or RocksDB fails.
    fn next(&mut self) -> impl Future<Output = Result<Option<Chunk>, ReadError>> + Send;

    /// What is in memory after the cursor; `None` if nothing is.
    fn next_in_memory(&mut self) -> Option<Chunk>;

    /// The next text that the client must get before any further entry. [`next`](Self::next)
    /// returns when there is one, with an empty chunk.
    fn notice(&mut self) -> Option<Utf8Bytes> {
        None
    }

    /// Up to here everything was given, or is not for this client.
    fn cursor(&self) -> Cursor;

    /// The last sequence that was committed.
    fn head(&self) -> Cursor;

    /// What the client is sent of an entry; `None` if it does not want it. Asked for right before the text is handed to
    /// the socket, and once more if that has no room at first, so it may be made for this client alone.
    ///
    /// # Errors
    /// When the entry cannot be what was verified.
    fn message(&mut self, entry: &Entry) -> Result<Option<Utf8Bytes>, Damaged>;
}

/// An event in the log is not UTF-8, which nobody can have verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damaged;

/// The log itself, of which a client has selected something.
#[derive(Debug)]
pub struct LogSource {
    reader: Reader,
    selection: Selection,
    format: Format,
}

impl LogSource {
    /// Goes on where the reader stands.
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

    /// Shares the bytes with all other clients.
    fn message(&mut self, entry: &Entry) -> Result<Option<Utf8Bytes>, Damaged> {
        if !self.selection.wants(&entry.event) {
            return Ok(None);
        }
        Utf8Bytes::try_from(self.format.of(entry).clone()).map(Some).map_err(|_| Damaged)
    }
}
