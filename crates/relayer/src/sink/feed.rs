//! What comes next of the log for one sink: entry after entry, and what retention took before the sink had it.

use std::sync::Arc;

use super::state::Sink;
use crate::event_log::reader::{Chunk, ReadError, Reader};
use crate::event_log::{Cursor, Entry, EventLog, StorageError};

/// The log as one sink reads it. It holds one chunk at most.
#[derive(Debug)]
pub struct Feed {
    log: Arc<EventLog>,
    sink: Arc<Sink>,
    reader: Reader,
    /// What was read, and how much of it was given.
    chunk: Option<(Chunk, usize)>,
    /// The last that was given or is lost.
    at: Cursor,
    is_over: bool,
}

/// What a refill brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Refilled {
    /// More entries.
    More,
    /// Everything up to here is lost to the sink.
    Lost(Cursor),
    /// The log is closed, and everything was given.
    Over,
}

impl Feed {
    /// Goes on after what the sink has.
    pub fn after(cursor: Cursor, log: &Arc<EventLog>, sink: &Arc<Sink>) -> Self {
        Self {
            reader: log.reader(cursor),
            log: Arc::clone(log),
            sink: Arc::clone(sink),
            chunk: None,
            at: cursor,
            is_over: false,
        }
    }

    /// The next entry, if it is at hand. Now and then there is none although there are more in memory, so that
    /// whoever wants next to nothing of the log does not keep the thread from others.
    pub fn next_at_hand(&mut self) -> Option<&Entry> {
        if self.chunk.is_none() {
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

    /// Whether there is certainly nothing at hand, so that [`refill`](Self::refill) is what helps.
    pub const fn is_empty(&self) -> bool {
        self.chunk.is_none()
    }

    /// Whether the log is closed, and everything was given.
    pub const fn is_over(&self) -> bool {
        self.is_over && self.chunk.is_none()
    }

    /// Events from the last that was given to the head.
    pub fn lag(&self) -> u64 {
        self.log.head().get().saturating_sub(self.at.get())
    }

    /// Waits for more. When the future is dropped, nothing is skipped.
    ///
    /// # Errors
    /// When RocksDB fails.
    pub async fn refill(&mut self) -> Result<Refilled, StorageError> {
        match self.reader.next().await {
            Ok(Some(chunk)) => {
                let first = chunk.entries().first().map(|entry| entry.seq);
                self.chunk = Some((chunk, 0));
                // A reader at the very beginning starts at the oldest event, whichever that is.
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

    /// Everything up to here that was not given is lost.
    fn lose_before(&mut self, up_to: Cursor) -> Refilled {
        if up_to <= self.at {
            return Refilled::More;
        }
        self.sink.lose(self.at.next(), up_to);
        self.at = up_to;
        Refilled::Lost(up_to)
    }
}
