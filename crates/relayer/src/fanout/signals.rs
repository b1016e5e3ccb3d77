//! Reads the signals from the log, once for all followers.
//!
//! One reader follows the log, keeps the newest signals in memory and wakes the followers of the
//! signals' bots. Other events cost a follower nothing. There is no queue per follower: each
//! follower reads the signals in memory from its own cursor on. A follower that is further behind
//! reads the log.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Semaphore;
use wire::VerifiedEvent;

use super::registry::directory::{Directory, LastSignal};
use crate::event_log::reader::{Chunk, ReadError};
use crate::event_log::tail::{Tail, TailPosition};
use crate::event_log::{Cursor, Entry, EventLog, StorageError};
use crate::limits::FOLLOWERS_BEHIND_MAX;

/// The newest signals of the log.
#[derive(Debug)]
pub struct Signals {
    log: Arc<EventLog>,
    kinds: BTreeSet<u16>,
    directory: Arc<Directory>,
    bytes_max: usize,
    tail: Tail,
    /// The log was read up to this sequence, and the signals up to here were added to the tail.
    scanned: AtomicU64,
    /// Limits the number of followers that are behind the tail and read the log at the same time.
    read_permits: Semaphore,
}

/// The result of looking for a follower's signals after its cursor.
#[derive(Debug)]
pub(super) enum SignalLookup {
    /// Signals, not necessarily from bots that the follower follows.
    Signals(Chunk),
    /// There are no signals up to this cursor, where reading has ended so far.
    NoneUpTo(Cursor),
    /// There are no more signals, and the log is closed.
    Closed,
    /// The tail begins after the follower's next signal, so the follower must read the log.
    Behind,
}

impl Signals {
    /// Starts after a cursor. Events of `kinds` are signals. Up to `bytes_max` bytes of signals
    /// stay in memory.
    pub fn new(
        log: &Arc<EventLog>,
        kinds: BTreeSet<u16>,
        directory: Arc<Directory>,
        after: Cursor,
        bytes_max: usize,
    ) -> Self {
        Self {
            log: Arc::clone(log),
            kinds,
            directory,
            bytes_max,
            tail: Tail::new(after, bytes_max),
            scanned: AtomicU64::new(after.get()),
            read_permits: Semaphore::new(FOLLOWERS_BEHIND_MAX),
        }
    }

    /// Follows the log until it is closed.
    ///
    /// # Errors
    /// When RocksDB fails.
    pub async fn run(&self) -> Result<(), StorageError> {
        let mut reader = self.log.reader(Cursor::from_number(self.scanned.load(Ordering::Acquire)));
        // The bytes of signals since all followers were last woken. Signals of other bots do not
        // wake a follower, so after many of them the follower would fall behind the tail. In the
        // tail, an entry takes up to three times the size of its JSON.
        let mut unswept = 0;
        loop {
            match reader.next().await {
                Ok(Some(chunk)) => unswept += self.publish(&chunk),
                Ok(None) => break,
                Err(ReadError::Storage(error)) => return Err(error),
                Err(ReadError::Trimmed { oldest }) => {
                    tracing::error!(
                        name: "signals_trimmed",
                        oldest = oldest.get(), "signals were trimmed before they were delivered: retention is too short"
                    );
                    reader = self.log.reader(Cursor::before(oldest));
                }
            }
            if unswept > self.bytes_max / 4 {
                self.directory.wake_all();
                unswept = 0;
            }
        }
        self.tail.close();
        self.directory.wake_all();
        Ok(())
    }

    /// Adds the signals of a chunk to the tail and wakes the followers of their bots. Returns the
    /// size of the signals.
    fn publish(&self, chunk: &Chunk) -> usize {
        let signals: Arc<[Entry]> =
            chunk.entries().iter().filter(|entry| self.is_signal(&entry.event)).map(Entry::copied).collect();
        let mut newest = HashMap::new();
        for Entry { seq, received_at_ms, event, .. } in &*signals {
            let signal = LastSignal { seq: *seq, id: event.id(), received_at_ms: *received_at_ms };
            newest.insert(*event.pubkey(), signal);
        }
        let bytes = signals.iter().map(|entry| entry.event.json().len()).sum();
        self.tail.push(signals);
        if let Some(last) = chunk.last() {
            // `scanned` is stored after the push: a follower that first reads `scanned` and then
            // finds no signals has missed no signal.
            self.scanned.store(last.get(), Ordering::Release);
        }
        self.directory.signalled(newest);
        bytes
    }

    /// Whether an event has a signal kind. The author need not be a registered bot.
    pub(super) fn is_signal(&self, event: &VerifiedEvent) -> bool {
        self.kinds.contains(&event.kind())
    }

    /// Looks for signals after a cursor.
    pub(super) fn after(&self, cursor: Cursor) -> SignalLookup {
        let scanned = Cursor::from_number(self.scanned.load(Ordering::Acquire));
        match self.tail.find(cursor) {
            TailPosition::Here(entries) => SignalLookup::Signals(Chunk::after(cursor, entries)),
            TailPosition::AtHead => SignalLookup::NoneUpTo(scanned.max(cursor)),
            TailPosition::Closed => SignalLookup::Closed,
            TailPosition::Behind => SignalLookup::Behind,
        }
    }

    /// The bytes of the signals in memory.
    pub(super) fn bytes(&self) -> usize {
        self.tail.figures().0
    }

    pub(super) const fn log(&self) -> &Arc<EventLog> {
        &self.log
    }

    pub(super) const fn read_permits(&self) -> &Semaphore {
        &self.read_permits
    }
}
