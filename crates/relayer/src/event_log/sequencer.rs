//! The single writer. Sorts verified events, assigns sequence numbers, commits them in one RocksDB
//! batch, then publishes them to readers.
//!
//! Marks of relays are committed in the same batch as the events before them, or in a later batch.
//!
//! Within a batch, events are sorted by `created_at`. Events of the same second keep the order in
//! which they left their shard, which is the order of arrival for each author: swapping a bot's
//! "open" and "close" would cost its followers money.
//!
//! The writer never waits to fill a batch. While one batch is being committed, the events of the
//! next batch gather in the inbox, so batches grow with the load. A batch is one RocksDB write: its
//! records, its ids and the new head are on the disk together or not at all.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Instant;

use super::entry::{Cursor, Entry, Submission, Verified};
use super::free_space::NoRoom;
use super::keys;
use super::mark::Mark;
use super::record::{IdRow, Record};
use super::{EventLog, StorageError};
use crate::crash_point;
use crate::limits::{DISK_RETRY, MARKS_GATHER};
use crate::pulse::Pulse;

/// Without fsync, sequences are reserved on the disk in steps of this size, so that no sequence is
/// assigned twice after a power loss. An unclean stop skips at most this many sequences.
const RESERVATION: u64 = 100_000;

/// The settings of a [`Sequencer`].
#[derive(Debug, Clone)]
pub struct SequencerOptions {
    /// The maximum number of events in one commit.
    pub batch_size: usize,
}

/// The state of a writer that may wait for room on the disk. `/ready` shows this state.
#[derive(Debug, Default)]
pub struct DiskFull {
    paused: AtomicBool,
    give_up: AtomicBool,
}

impl DiskFull {
    /// Whether ingest is paused because the disk is full.
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    /// Makes the writer end instead of waiting for room, because the process is stopping.
    pub fn give_up(&self) {
        self.give_up.store(true, Ordering::Relaxed);
    }
}

/// The writer of a log. A log must have only one writer.
#[derive(Debug)]
pub struct Sequencer {
    log: Arc<EventLog>,
    options: SequencerOptions,
    disk_full: Arc<DiskFull>,
    /// The last sequence that was assigned.
    last: Cursor,
    /// Sequences up to here are reserved on the disk. Used only without fsync.
    reserved: Cursor,
    bytes_written: u64,
    record: Vec<u8>,
    pulse: Arc<Pulse>,
}

impl Sequencer {
    /// A writer that continues at the end of the log.
    ///
    /// # Errors
    /// When RocksDB fails.
    pub fn new(
        log: Arc<EventLog>,
        options: SequencerOptions,
        disk_full: Arc<DiskFull>,
    ) -> Result<Self, StorageError> {
        let last = log.head();
        let bytes_written = log.store.bytes_written()?;
        let (record, pulse) = (Vec::new(), Arc::default());
        Ok(Self { log, options, disk_full, last, reserved: last, bytes_written, record, pulse })
    }

    pub(crate) fn with_pulse(self, pulse: Arc<Pulse>) -> Self {
        Self { pulse, ..self }
    }

    /// Writes the events of the inbox until all senders are dropped or, on a full disk, until
    /// [`give_up`](DiskFull::give_up). Calls `committed` for each batch after its commit and before
    /// its publication.
    ///
    /// # Errors
    /// When RocksDB fails. Relays still have the uncommitted events.
    pub fn run(
        mut self,
        inbox: &Receiver<Vec<Submission>>,
        mut committed: impl FnMut(&[Entry]),
    ) -> Result<(), StorageError> {
        let mut waiting: VecDeque<Submission> = VecDeque::new();
        let mut marks = Vec::new();
        // If no events arrive, marks wait for further marks, because thousands of relays answer
        // pings at different times.
        let mut marks_due: Option<Instant> = None;
        loop {
            if waiting.is_empty() {
                match next_burst(inbox, marks_due) {
                    // An empty burst is a probe.
                    Ok(burst) if burst.is_empty() => crash_point::reached("sequencer_probe"),
                    Ok(burst) => waiting.extend(burst),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            }
            self.pulse.beat();
            while waiting.len() < self.options.batch_size
                && let Ok(burst) = inbox.try_recv()
            {
                waiting.extend(burst);
            }
            if !self.wait_for_room() {
                tracing::warn!(
                    name: "events_uncommitted",
                    events = waiting.len(),
                    "stopping with a full disk: the relays will send the uncommitted events again"
                );
                break;
            }
            let batch = self.take_batch(&mut waiting, &mut marks);
            if !batch.is_empty() || marks_due.is_some_and(|due| Instant::now() >= due) {
                self.append(batch, std::mem::take(&mut marks), &mut committed)?;
                marks_due = None;
            } else if !marks.is_empty() {
                marks_due.get_or_insert_with(|| Instant::now() + MARKS_GATHER);
            }
        }
        if !marks.is_empty() && self.wait_for_room() {
            self.append(Vec::new(), marks, &mut committed)?;
        }
        self.release_reservation()
    }

    /// Takes the next events, up to the size of a batch. Adds the marks between these events to
    /// `marks`.
    fn take_batch(&self, waiting: &mut VecDeque<Submission>, marks: &mut Vec<Mark>) -> Vec<Verified> {
        let mut batch = Vec::with_capacity(waiting.len().min(self.options.batch_size));
        while batch.len() < self.options.batch_size
            && let Some(submission) = waiting.pop_front()
        {
            match submission {
                Submission::Event(verified) => batch.push(verified),
                Submission::Checkpoint(checkpoint) => marks.extend(checkpoint.arrive()),
            }
        }
        batch
    }

    /// Commits and publishes events together with marks, or marks alone.
    fn append(
        &mut self,
        mut batch: Vec<Verified>,
        marks: Vec<Mark>,
        committed: &mut impl FnMut(&[Entry]),
    ) -> Result<(), StorageError> {
        if batch.is_empty() && marks.is_empty() {
            return Ok(());
        }
        batch.sort_by_key(|verified| verified.event.created_at()); // Stable: ties keep the order of arrival.
        self.reserve(batch.len() as u64)?;
        let entries = self.commit(batch, &marks)?;
        crash_point::reached("after_commit");
        if !entries.is_empty() {
            committed(&entries);
            self.log.publish(entries);
        }
        for mark in marks {
            mark.confirm();
        }
        Ok(())
    }

    fn commit(&mut self, batch: Vec<Verified>, marks: &[Mark]) -> Result<Arc<[Entry]>, StorageError> {
        let log = Arc::clone(&self.log);
        let mut changes = log.store.batch_with_room();
        let mut budgets = Vec::with_capacity(batch.len());
        let mut entries = Vec::with_capacity(batch.len());
        for Verified { event, relay, received_at_ms, received, budget } in batch {
            let seq = self.last.next();
            self.record.clear();
            let record = Record {
                received_at_ms,
                bytes_before: self.bytes_written,
                relay: &relay,
                json: event.json(),
            };
            record.write(&mut self.record);
            let row = IdRow { seq, created_at: event.created_at() };
            changes.put_event(seq, &self.record, &event.id().into(), row)?;
            self.bytes_written += self.record.len() as u64;
            self.last = Cursor::after(seq);
            let mut entry = Entry::new(log.id(), seq, received_at_ms, relay, event);
            entry.received = Some(received);
            entries.push(entry);
            budgets.push(budget);
        }
        for mark in marks {
            changes.put(keys::RELAYS, &keys::relay_key(mark.table, &mark.relay), &mark.row)?;
        }
        if entries.is_empty() {
            changes.commit()?;
            return Ok(entries.into());
        }
        changes.set_number(keys::META_HEAD, self.last.get());
        crash_point::reached("before_commit");
        changes.commit()?;
        Ok(entries.into())
    }

    /// Waits until the disk has room. Meanwhile, the inboxes fill and the sockets are not read.
    /// Returns `false` if the process stops first.
    fn wait_for_room(&self) -> bool {
        let mut waited = false;
        while let Err(NoRoom { free, min_free_bytes, .. }) = self.log.store.room().check(0) {
            if self.disk_full.give_up.load(Ordering::Relaxed) {
                return false;
            }
            if !waited {
                waited = true;
                self.disk_full.paused.store(true, Ordering::Relaxed);
                tracing::error!(
                    name: "disk_full",
                    free_bytes = free,
                    needed_bytes = min_free_bytes,
                    "disk full: ingest is paused until there is room ([storage] min_free_bytes)"
                );
            }
            self.pulse.while_waiting(|| std::thread::sleep(DISK_RETRY));
        }
        if waited {
            self.disk_full.paused.store(false, Ordering::Relaxed);
            tracing::info!(name: "disk_has_room", "the disk has room again: ingest continues");
        }
        true
    }

    /// Without fsync, reserves the next sequences on the disk before they are assigned.
    fn reserve(&mut self, count: u64) -> Result<(), StorageError> {
        if self.log.store.fsync() || self.last.get() + count <= self.reserved.get() {
            return Ok(());
        }
        self.set_reserved(self.last.get() + count + RESERVATION)
    }

    /// Releases unused sequences, so that a clean stop skips no sequence.
    fn release_reservation(&mut self) -> Result<(), StorageError> {
        if self.reserved > self.last { self.set_reserved(self.last.get()) } else { Ok(()) }
    }

    fn set_reserved(&mut self, up_to: u64) -> Result<(), StorageError> {
        let mut changes = self.log.store.batch();
        changes.set_number(keys::META_RESERVED, up_to);
        changes.commit_durably()?;
        self.reserved = Cursor::from_number(up_to);
        Ok(())
    }
}

/// Waits for the next burst. Fails with `Timeout` if no burst arrives before `due`.
fn next_burst(
    inbox: &Receiver<Vec<Submission>>,
    due: Option<Instant>,
) -> Result<Vec<Submission>, RecvTimeoutError> {
    match due {
        Some(due) => inbox.recv_timeout(due.saturating_duration_since(Instant::now())),
        None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
    }
}
