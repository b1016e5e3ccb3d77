//! Rows about relays, and changes of these rows that are committed after certain events.
//!
//! A [`Mark`] states something about a relay that is true only when certain events are in the log:
//! "all of its events up to this time are here". A mark takes the same path as events: a
//! [`Checkpoint`] carries the mark through the inbox of every shard to the sequencer. So the mark
//! arrives after all events that its connection read earlier, and is committed in the batch of the
//! last of these events or in a later batch.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// A table of rows about relays, one row for each relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelayTable {
    /// Whether the relay was added or removed over the API.
    Wanted,
    /// The time spans over which the relay's events are proven complete.
    Coverage,
    /// The relay's NIP-11 document, and the time of fetching it.
    Information,
}

impl RelayTable {
    pub const ALL: [Self; 3] = [Self::Wanted, Self::Coverage, Self::Information];

    /// The first byte of the keys of the table's rows.
    pub(super) const fn prefix(self) -> u8 {
        match self {
            Self::Wanted => b'w',
            Self::Coverage => b'c',
            Self::Information => b'i',
        }
    }
}

/// A new value of a relay's row.
#[derive(Debug)]
pub struct Mark {
    pub table: RelayTable,
    /// The relay's URL.
    pub relay: Arc<str>,
    pub row: Vec<u8>,
    committed: oneshot::Sender<()>,
}

impl Mark {
    /// A mark, and a receiver that is notified when the mark and the events before it are committed
    /// and published. Dropping the mark closes the receiver.
    pub fn new(table: RelayTable, relay: Arc<str>, row: Vec<u8>) -> (Self, oneshot::Receiver<()>) {
        let (committed, receipt) = oneshot::channel();
        (Self { table, relay, row, committed }, receipt)
    }

    /// Reports that the mark is committed.
    pub fn confirm(self) {
        // Sending fails if the receiver is dropped.
        let _ = self.committed.send(());
    }
}

/// A mark that is passing through all shards.
#[derive(Debug)]
pub struct Checkpoint {
    /// The number of shards that the mark still has to pass.
    left: AtomicUsize,
    mark: Mutex<Option<Mark>>,
}

impl Checkpoint {
    /// A checkpoint that must pass `shards` shards, at least one.
    pub fn new(mark: Mark, shards: usize) -> Arc<Self> {
        Arc::new(Self { left: AtomicUsize::new(shards), mark: Mutex::new(Some(mark)) })
    }

    /// Counts one shard as passed. Returns the mark after the last shard.
    pub(super) fn arrive(&self) -> Option<Mark> {
        let was_last = self.left.fetch_sub(1, Ordering::AcqRel) == 1;
        if was_last { self.mark.lock().take() } else { None }
    }
}
