//! The end of the log in memory: the last batches, up to a number of bytes. All readers that are
//! close to the head share the tail.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::RwLock;

use super::entry::{Cursor, Entry, Seq};

#[derive(Debug)]
pub(crate) struct Tail {
    bytes_max: usize,
    state: RwLock<State>,
}

#[derive(Debug)]
struct State {
    batches: VecDeque<Batch>,
    bytes: usize,
    /// The tail has all entries after this cursor.
    covered_after: Cursor,
    closed: bool,
}

#[derive(Debug)]
struct Batch {
    first: Seq,
    last: Seq,
    bytes: usize,
    entries: Arc<[Entry]>,
}

/// Where the entry after a cursor is.
#[derive(Debug)]
pub(crate) enum TailPosition {
    /// The batch that holds the next entry.
    Here(Arc<[Entry]>),
    /// No entry after the cursor has been committed yet.
    AtHead,
    /// No entry after the cursor will be committed: the log is closed.
    Closed,
    /// The next entry is older than the tail and must be read from RocksDB.
    Behind,
}

impl Tail {
    pub fn new(head: Cursor, bytes_max: usize) -> Self {
        let state = State { batches: VecDeque::new(), bytes: 0, covered_after: head, closed: false };
        Self { bytes_max, state: RwLock::new(state) }
    }

    /// Adds the next batch, and drops the oldest batches beyond the maximum of bytes, but never the
    /// newest batch.
    pub fn push(&self, entries: Arc<[Entry]>) {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return;
        };
        let (first, last) = (first.seq, last.seq);
        let bytes = entries.iter().map(Entry::footprint).sum();
        let mut dropped = Vec::new();
        let mut state = self.state.write();
        state.bytes += bytes;
        state.batches.push_back(Batch { first, last, bytes, entries });
        while state.bytes > self.bytes_max && state.batches.len() > 1 {
            dropped.extend(state.drop_oldest());
        }
        drop(state); // The dropped batches are freed after the lock.
    }

    pub fn close(&self) {
        self.state.write().closed = true;
    }

    /// Drops the batches below the floor of the log.
    pub fn trim(&self, floor: Seq) {
        let mut state = self.state.write();
        while state.batches.front().is_some_and(|batch| batch.last < floor) {
            state.drop_oldest();
        }
    }

    pub fn find(&self, cursor: Cursor) -> TailPosition {
        let state = self.state.read();
        if cursor < state.covered_after {
            return TailPosition::Behind;
        }
        let index = state.batches.partition_point(|batch| Cursor::after(batch.last) <= cursor);
        match state.batches.get(index) {
            Some(batch) => TailPosition::Here(Arc::clone(&batch.entries)),
            None if state.closed => TailPosition::Closed,
            None => TailPosition::AtHead,
        }
    }

    /// The bytes and the number of events in the tail.
    pub fn figures(&self) -> (usize, usize) {
        let state = self.state.read();
        (state.bytes, state.batches.iter().map(|batch| batch.entries.len()).sum())
    }
}

impl State {
    fn drop_oldest(&mut self) -> Option<Batch> {
        let batch = self.batches.pop_front()?;
        self.bytes -= batch.bytes;
        self.covered_after = match self.batches.front() {
            Some(next) => Cursor::before(next.first),
            None => Cursor::after(batch.last),
        };
        Some(batch)
    }
}
