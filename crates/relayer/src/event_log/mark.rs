//! What the log keeps of relays beside their events, and how a change of it is ordered behind events.
//!
//! A [`Mark`] says something about a relay that is true only once certain events are in the log: "all of
//! its events up to here are". It goes the events' own way, as a [`Checkpoint`] through every shard's inbox
//! to the sequencer, so it arrives behind every event that its connection read before, and is committed in
//! the batch of the last of them or a later one. It can never be on the disk before them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// What is kept of a relay, a row each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelayTable {
    /// Whether it was added to the wanted relays, or removed from them, while the gateway ran.
    Wish,
    /// Up to when its events are proven complete, and where they are not.
    Coverage,
    /// What it says of itself (NIP-11), and when it was asked.
    Information,
}

impl RelayTable {
    /// All tables.
    pub const ALL: [Self; 3] = [Self::Wish, Self::Coverage, Self::Information];

    /// The first byte of its keys.
    pub(super) const fn prefix(self) -> u8 {
        match self {
            Self::Wish => b'w',
            Self::Coverage => b'c',
            Self::Information => b'i',
        }
    }
}

/// A new value of a relay's row.
#[derive(Debug)]
pub struct Mark {
    /// Which row.
    pub table: RelayTable,
    /// The relay's URL.
    pub relay: Arc<str>,
    /// The value.
    pub row: Vec<u8>,
    committed: oneshot::Sender<()>,
}

impl Mark {
    /// A mark, and what receives a message once the mark and its events are committed and
    /// published. If the mark is given up, the receiver is closed.
    pub fn new(table: RelayTable, relay: Arc<str>, row: Vec<u8>) -> (Self, oneshot::Receiver<()>) {
        let (committed, receipt) = oneshot::channel();
        (Self { table, relay, row, committed }, receipt)
    }

    /// Tells that the mark is committed.
    pub fn confirm(self) {
        // Nobody need wait for it.
        let _ = self.committed.send(());
    }
}

/// A mark on its way through all shards.
#[derive(Debug)]
pub struct Checkpoint {
    /// Through how many shards it still has to come.
    left: AtomicUsize,
    mark: Mutex<Option<Mark>>,
}

impl Checkpoint {
    /// A checkpoint that must come through so many shards, at least one.
    pub fn new(mark: Mark, shards: usize) -> Arc<Self> {
        Arc::new(Self { left: AtomicUsize::new(shards), mark: Mutex::new(Some(mark)) })
    }

    /// Notes that it has come through one more shard, and gives the mark if that was the last.
    pub(super) fn arrive(&self) -> Option<Mark> {
        let was_last = self.left.fetch_sub(1, Ordering::AcqRel) == 1;
        if was_last { self.mark.lock().take() } else { None }
    }
}
