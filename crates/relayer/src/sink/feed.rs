//! Reads the log for one sink: returns entries, and reports ranges that retention trimmed before
//! the sink had them.

use std::sync::Arc;

use tokio::sync::watch;

use super::state::Sink;
use super::transport::{Ending, retired};
use crate::event_log::reader::{Chunk, ReadError, Reader};
use crate::event_log::{Cursor, Entry, EventLog, StorageError};

/// The reader of one sink. Holds at most one chunk of the log.
#[derive(Debug)]
pub(super) struct Feed {
    log: Arc<EventLog>,
    sink: Arc<Sink>,
    reader: Reader,
    /// The chunk, and how many of its entries were returned.
    chunk: Option<(Chunk, usize)>,
    /// The last sequence that was returned or lost.
    at: Cursor,
    ending: watch::Receiver<Option<Ending>>,
    is_over: bool,
}

/// The result of a refill.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refilled {
    More,
    /// Retention trimmed everything up to this cursor before the sink had it.
    Lost(Cursor),
    /// Every entry was returned, and the log is closed or a reload ends the sink.
    Over,
}

impl Feed {
    pub(super) fn after(
        cursor: Cursor,
        log: &Arc<EventLog>,
        sink: &Arc<Sink>,
        ending: watch::Receiver<Option<Ending>>,
    ) -> Self {
        Self {
            reader: log.reader(cursor),
            log: Arc::clone(log),
            sink: Arc::clone(sink),
            chunk: None,
            at: cursor,
            ending,
            is_over: false,
        }
    }

    /// Returns the next entry in memory. Returns `None` once at the end of each chunk, so that a
    /// sink that wants few events does not occupy the thread.
    pub(super) fn next_in_memory(&mut self) -> Option<&Entry> {
        if self.chunk.is_none() {
            self.is_over |= self.ending.borrow().is_some_and(|ending| ending.is_retired);
            if self.is_over {
                return None;
            }
            self.chunk = Some((self.reader.next_in_memory()?, 0));
        }
        if self.chunk.as_ref().is_some_and(|(chunk, given)| *given >= chunk.entries().len()) {
            self.chunk = None;
        }
        let (chunk, given) = self.chunk.as_mut()?;
        let entry = chunk.entries().get(*given)?;
        *given += 1;
        self.at = Cursor::after(entry.seq);
        Some(entry)
    }

    /// Whether no entry is in memory, so that [`refill`](Self::refill) is needed.
    pub(super) const fn is_empty(&self) -> bool {
        self.chunk.is_none()
    }

    /// Whether there are no more entries, because the log is closed or a reload ends the sink.
    pub(super) const fn is_over(&self) -> bool {
        self.is_over && self.chunk.is_none()
    }

    /// The number of sequences between the position and the head.
    pub(super) fn lag(&self) -> u64 {
        self.log.head().get().saturating_sub(self.at.get())
    }

    /// Waits for more entries. Cancel-safe.
    pub(super) async fn refill(&mut self) -> Result<Refilled, StorageError> {
        let read = tokio::select! {
            biased; // A sink that ends takes no more entries, even if there are some.
            () = retired(&mut self.ending) => Ok(None),
            read = self.reader.next() => read,
        };
        match read {
            Ok(Some(chunk)) => {
                let first = chunk.entries().first().map(|entry| entry.seq);
                self.chunk = Some((chunk, 0));
                // From the very beginning, the reader starts at the oldest kept event without an
                // error. The trimmed events count as lost.
                let oldest = first.filter(|_| self.at == Cursor::START).map(|seq| seq.min(self.log.floor()));
                Ok(oldest.map_or(Refilled::More, |oldest| self.lose_before(Cursor::before(oldest))))
            }
            Ok(None) => {
                self.is_over = true;
                Ok(Refilled::Over)
            }
            Err(ReadError::Trimmed { oldest }) => {
                let before = Cursor::before(oldest);
                self.reader = self.log.reader(before);
                Ok(self.lose_before(before))
            }
            Err(ReadError::Storage(error)) => Err(error),
        }
    }

    fn lose_before(&mut self, up_to: Cursor) -> Refilled {
        if up_to <= self.at {
            return Refilled::More;
        }
        self.sink.lose(self.at.next(), up_to);
        self.at = up_to;
        Refilled::Lost(up_to)
    }
}
