//! The durable, ordered log of verified events.
//!
//! [`sequencer`] is the only writer: it assigns sequence numbers and commits batches to the
//! [`store`], with the layout of [`keys`] and the values of `record`. A committed batch then
//! appears in the [`tail`] and moves the head. [`reader`] follows the log from a cursor, [`query`]
//! answers single questions, [`retention`] trims the old end, [`log_id`] identifies the log. The
//! database also holds what is proven about relays ([`mark`]), the [`cursors`] of receivers, the
//! [`dead_letters`] of sinks, and the embedded [`registry`]. [`backup`] copies the whole database.
//! A [full disk](free_space) pauses the writer. Any other error of RocksDB stops the process,
//! because an error must never be read as "absent".

pub(crate) mod backup;
pub(crate) mod cursors;
pub(crate) mod dead_letters;
mod entry;
pub mod free_space;
pub mod keys;
pub(crate) mod log_id;
pub(crate) mod mark;
pub mod metrics;
pub(crate) mod query;
pub mod reader;
mod record;
pub(crate) mod registry;
pub mod retention;
pub mod sequencer;
pub(crate) mod store;
pub(crate) mod tail;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;
use wire::ClaimedId;

pub use cursors::{CursorRow, Cursors};
pub use dead_letters::DeadLetter;
pub use entry::{Cursor, Entry, Seq, Submission, Verified};
pub use log_id::LogId;
pub use mark::{Checkpoint, Mark, RelayTable};
pub use metrics::Metrics;
pub use store::{EventCompression, OpenError, StorageError, StoreOptions};

use crate::clock::Clock;
use free_space::Reserve;
use store::Store;
use tail::Tail;

/// The log, shared by the writer and all readers.
#[derive(Debug)]
pub struct EventLog {
    store: Store,
    clock: Clock,
    tail: Tail,
    /// The last committed sequence. Readers wait for changes of this value.
    head: watch::Sender<Cursor>,
    /// The oldest kept sequence, or the next sequence if no event is kept.
    floor: AtomicU64,
    /// The first failure of RocksDB that a reader saw.
    broken: watch::Sender<Option<StorageError>>,
    /// Held while a backup is made.
    backing_up: Mutex<()>,
}

impl EventLog {
    /// Opens the log at `path`, or creates it.
    ///
    /// # Errors
    /// When the path cannot be used, another process has the log open, or the log is damaged or has
    /// a format that this version does not open.
    pub fn open(path: &Path, options: StoreOptions, tail_bytes_max: usize) -> Result<Arc<Self>, OpenError> {
        Self::open_with(path, options, tail_bytes_max, Clock::system(), Reserve::none())
    }

    /// Like [`open`](Self::open), with a clock, which is checked against the newest event, and a
    /// minimum of free disk space.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(
        path: &Path,
        options: StoreOptions,
        tail_bytes_max: usize,
        clock: Clock,
        room: Reserve,
    ) -> Result<Arc<Self>, OpenError> {
        let store = Store::open(path, options, room)?;
        let (head, floor) = store.bounds()?;
        clock.compare_with_log(store.newest_received_ms()?, head != Cursor::START);
        Ok(Arc::new(Self {
            clock,
            tail: Tail::new(head, tail_bytes_max),
            head: watch::Sender::new(head),
            floor: AtomicU64::new(floor.get()),
            broken: watch::Sender::new(None),
            backing_up: Mutex::new(()),
            store,
        }))
    }

    /// Gives the log at `path` a new identity. Returns the old and the new identity.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(crate) fn renew_id(path: &Path, options: StoreOptions) -> Result<(LogId, LogId), OpenError> {
        let mut store = Store::open(path, options, Reserve::none())?;
        let (old, new) = (store.log_id(), LogId::random());
        store.set_log_id(new)?;
        Ok((old, new))
    }

    /// The identity of the log. It changes when sequence numbers may mean other events than before.
    pub const fn id(&self) -> LogId {
        self.store.log_id()
    }

    /// The last committed sequence; 0 for an empty log.
    pub fn head(&self) -> Cursor {
        *self.head.borrow()
    }

    /// The oldest sequence that is kept; one more than the head if the log is empty.
    pub fn floor(&self) -> Seq {
        Seq::new(self.floor.load(Ordering::Acquire))
    }

    /// Whether the log holds or once held the event with this id. Ids are not kept forever.
    ///
    /// # Errors
    /// When RocksDB fails. The caller must not take an error for "no".
    pub fn contains(&self, id: &ClaimedId) -> Result<bool, StorageError> {
        self.store.contains(id)
    }

    /// Calls `each` with every id in the log, until `each` returns `false`.
    ///
    /// # Errors
    /// When RocksDB fails. `each` may have received some ids already.
    pub(crate) fn for_each_id(&self, each: impl FnMut(&ClaimedId) -> bool) -> Result<(), StorageError> {
        self.store.for_each_id(each)
    }

    /// All rows of a table, with the URLs of their relays.
    ///
    /// # Errors
    /// When RocksDB fails.
    pub fn relay_rows(&self, table: RelayTable) -> Result<Vec<(String, Vec<u8>)>, StorageError> {
        let (prefix, mut rows) = ([table.prefix()], Vec::new());
        let read = self.store.for_each_row(keys::RELAYS, &prefix, |key, row| {
            let Some(relay) = key.strip_prefix(&prefix) else { return Some(false) };
            rows.push((std::str::from_utf8(relay).ok()?.to_owned(), row.to_vec()));
            Some(true)
        });
        self.note(read.map(|()| rows))
    }

    /// A relay's row of a table.
    ///
    /// # Errors
    /// When RocksDB fails.
    pub fn relay_row(&self, table: RelayTable, relay: &str) -> Result<Option<Vec<u8>>, StorageError> {
        self.note(self.store.row(keys::RELAYS, &keys::relay_key(table, relay)))
    }

    /// Sets or deletes a relay's row and waits for the disk. Unlike a [`Mark`], the change is not
    /// ordered among events.
    ///
    /// # Errors
    /// When RocksDB fails.
    pub fn set_relay_row(
        &self,
        table: RelayTable,
        relay: &str,
        row: Option<&[u8]>,
    ) -> Result<(), StorageError> {
        let (mut changes, key) = (self.store.batch(), keys::relay_key(table, relay));
        self.note(match row {
            Some(row) => changes.put(keys::RELAYS, &key, row),
            None => changes.delete(keys::RELAYS, &key),
        })?;
        self.note(changes.commit_durably())
    }

    /// The clock that gives events their time of receipt.
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Checks whether the disk has room for another row.
    ///
    /// # Errors
    /// When the disk is full.
    pub(crate) fn check_room(&self) -> Result<(), StorageError> {
        self.store.room().check(0).map_err(|error| StorageError::no_room("commit", error))
    }

    /// Bytes and events that the tail holds in memory.
    pub(crate) fn tail_figures(&self) -> (usize, usize) {
        self.tail.figures()
    }

    /// The store, whose figures the metrics show.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// A reader that begins after `cursor`.
    pub fn reader(self: &Arc<Self>, cursor: Cursor) -> reader::Reader {
        reader::Reader::new(Arc::clone(self), cursor)
    }

    /// Waits until a reader or a query sees RocksDB fail. The process must then stop: otherwise
    /// unreadable events would be missing without notice.
    pub async fn failure(&self) -> StorageError {
        let mut broken = self.broken.subscribe();
        match broken.wait_for(Option::is_some).await.map(|error| error.clone()) {
            Ok(Some(error)) => error,
            Ok(None) | Err(_) => std::future::pending().await, // Not reached: this log holds the sender.
        }
    }

    /// Passes a failure to [`failure`](Self::failure), and returns the outcome unchanged.
    fn note<T>(&self, outcome: Result<T, StorageError>) -> Result<T, StorageError> {
        if let Err(error) = &outcome
            && !error.is_full()
        {
            self.broken.send_if_modified(|broken| {
                let is_first = broken.is_none();
                broken.get_or_insert_with(|| error.clone());
                is_first
            });
        }
        outcome
    }

    /// Makes a committed batch visible to readers.
    fn publish(&self, entries: Arc<[Entry]>) {
        if let Some(last) = entries.last().map(|entry| Cursor::after(entry.seq)) {
            self.tail.push(entries);
            self.head.send_replace(last);
        }
    }

    /// Closes the log for readers. A reader ends when it has read all entries.
    pub fn close(&self) {
        self.tail.close();
        self.head.send_modify(|_| {});
    }
}
