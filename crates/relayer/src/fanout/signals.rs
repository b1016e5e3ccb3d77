//! The signals among the events, picked out once for all followers.
//!
//! One reader follows the log. The newest signals are kept in memory, and whose bot has made one is woken, so that
//! what is no signal, or of another bot, costs a follower nothing. There is no queue for a follower: it looks at what
//! is kept here behind its own cursor, and reads the log itself when it is further behind.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Semaphore;
use wire::{PublicKey, VerifiedEvent};

use super::registry::directory::Directory;
use crate::event_log::reader::{Chunk, ReadError};
use crate::event_log::tail::{Look, Tail};
use crate::event_log::{Cursor, Entry, EventLog, StorageError};
use crate::limits::FOLLOWERS_BEHIND_MAX;

/// The newest signals.
#[derive(Debug)]
pub struct Signals {
    log: Arc<EventLog>,
    kinds: BTreeSet<u16>,
    directory: Arc<Directory>,
    bytes_max: usize,
    tail: Tail,
    /// Up to here the log was looked through, and what it has of signals is in the tail.
    scanned: AtomicU64,
    /// Turns to read the log for who is behind the tail.
    read_permits: Semaphore,
}

/// What there is for a follower after its cursor.
#[derive(Debug)]
pub(super) enum SignalLookup {
    /// Signals; not all of them may be of its bots.
    Signals(Chunk),
    /// None up to here, which is as far as anybody knows.
    NoneUpTo(Cursor),
    /// None, and there will be none.
    Closed,
    /// That must be looked for in the log.
    Behind,
}

impl Signals {
    /// Those of a log after a cursor, which are events of these kinds. So many bytes of them are kept in memory.
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

    /// Follows the log from where this began until it is closed.
    ///
    /// # Errors
    /// When RocksDB fails.
    pub async fn run(&self) -> Result<(), StorageError> {
        let mut reader = self.log.reader(Cursor::from_number(self.scanned.load(Ordering::Acquire)));
        // Who slept through the signals of others for long would find that its place is no longer in memory. An entry
        // takes up to three times its JSON there.
        let mut unswept = 0;
        loop {
            match reader.next().await {
                Ok(Some(chunk)) => unswept += self.publish(&chunk),
                Ok(None) => break,
                Err(ReadError::Storage(error)) => return Err(error),
                Err(ReadError::Trimmed { oldest }) => {
                    tracing::error!(%oldest, "signals were trimmed before they were delivered: retention is too short");
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

    /// Keeps the signals of a chunk and wakes whom they are for. Returns their bytes.
    fn publish(&self, chunk: &Chunk) -> usize {
        let signals: Arc<[Entry]> =
            chunk.entries().iter().filter(|entry| self.is_signal(&entry.event)).map(Entry::copied).collect();
        let bots: HashSet<PublicKey> = signals.iter().map(|entry| *entry.event.pubkey()).collect();
        let bytes = signals.iter().map(|entry| entry.event.json().len()).sum();
        self.tail.push(signals);
        if let Some(last) = chunk.last() {
            // After the push: who reads this first and then finds nothing has missed nothing up to here.
            self.scanned.store(last.get(), Ordering::Release);
        }
        self.directory.wake_followers(bots.iter());
        bytes
    }

    /// Whether an event is a signal, if its author is a bot.
    pub(super) fn is_signal(&self, event: &VerifiedEvent) -> bool {
        self.kinds.contains(&event.kind())
    }

    /// What there is after a cursor.
    pub(super) fn after(&self, cursor: Cursor) -> SignalLookup {
        let scanned = Cursor::from_number(self.scanned.load(Ordering::Acquire));
        match self.tail.look(cursor) {
            Look::Here(entries) => SignalLookup::Signals(Chunk::after(cursor, entries)),
            Look::AtHead => SignalLookup::NoneUpTo(scanned.max(cursor)),
            Look::Closed => SignalLookup::Closed,
            Look::Behind => SignalLookup::Behind,
        }
    }

    /// The log that they are of.
    pub(super) const fn log(&self) -> &Arc<EventLog> {
        &self.log
    }

    /// Turns to read it.
    pub(super) const fn read_permits(&self) -> &Semaphore {
        &self.read_permits
    }
}
