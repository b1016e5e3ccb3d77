//! The dead letters of one sink: a bounded number of refused events, and which of them are
//! replayed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::Notify;

use super::metrics::{SinkLabel, SinkMetrics};
use crate::event_log::DeadLetter;
use crate::event_log::{EventLog, Seq, StorageError};
use crate::limits::{DEAD_LETTERS_BYTES_MAX, DEAD_LETTERS_MAX};

/// The dead letters of one sink. Their sequences are in memory, their events in RocksDB.
#[derive(Debug)]
pub struct DeadLetters {
    sink: Arc<str>,
    log: Arc<EventLog>,
    kept: Mutex<Kept>,
    /// Held during disk writes, so that memory and disk change in the same order. Locked before
    /// `kept`, and only where blocking on the disk is allowed.
    writing: Mutex<()>,
    replay_requested: Notify,
    refused: Counter,
    dropped: Counter,
    gauge: Gauge,
}

#[derive(Debug, Default)]
struct Kept {
    /// The size in bytes of each letter.
    sizes: BTreeMap<Seq, usize>,
    bytes: usize,
    /// Letters to send again.
    replays: BTreeSet<Seq>,
}

/// Selects one letter or all letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LetterSelector {
    /// The letter with this sequence.
    One(Seq),
    /// Every letter of the sink.
    All,
}

impl DeadLetters {
    /// Reads from the database which letters exist.
    pub(super) fn open(
        sink: &Arc<str>,
        log: &Arc<EventLog>,
        metrics: &SinkMetrics,
    ) -> Result<Self, StorageError> {
        let kept = Kept::read(sink, log)?;
        let label = SinkLabel::new(sink);
        let letters = Self {
            sink: Arc::clone(sink),
            log: Arc::clone(log),
            kept: Mutex::new(kept),
            writing: Mutex::default(),
            replay_requested: Notify::new(),
            refused: metrics.refused.get_or_create_owned(&label),
            dropped: metrics.dead_letters_dropped.get_or_create_owned(&label),
            gauge: metrics.dead_letters.get_or_create_owned(&label),
        };
        letters.update_gauge();
        Ok(letters)
    }

    /// Fails if the disk is full.
    pub(super) fn check_room(&self) -> Result<(), StorageError> {
        self.log.check_room()
    }

    pub fn len(&self) -> usize {
        self.kept.lock().sizes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of letters that wait to be sent again.
    pub fn replaying(&self) -> usize {
        self.kept.lock().replays.len()
    }

    /// Whether the letter with this sequence waits to be sent again.
    pub fn is_replaying(&self, seq: Seq) -> bool {
        self.kept.lock().replays.contains(&seq)
    }

    /// Events refused since the start.
    pub fn refused(&self) -> u64 {
        self.refused.get()
    }

    /// Letters dropped since the start to make room for newer ones.
    pub fn dropped(&self) -> u64 {
        self.dropped.get()
    }

    /// Returns up to `limit` letters from a sequence on, oldest first. Blocks on the disk.
    ///
    /// # Errors
    /// When RocksDB fails.
    pub fn page(&self, from: Seq, limit: usize, bytes_max: usize) -> Result<Vec<DeadLetter>, StorageError> {
        let (mut page, mut held) = (Vec::new(), 0);
        self.log.for_each_dead_letter(&self.sink, from, |letter, bytes| {
            if page.len() >= limit || (held > 0 && held + bytes > bytes_max) {
                return false;
            }
            held += bytes;
            page.push(letter);
            true
        })?;
        Ok(page)
    }

    /// Returns the letter with this sequence. Blocks on the disk.
    ///
    /// # Errors
    /// When RocksDB fails.
    pub fn get(&self, seq: Seq) -> Result<Option<DeadLetter>, StorageError> {
        Ok(self.page(seq, 1, usize::MAX)?.into_iter().find(|letter| letter.entry.seq == seq))
    }

    /// Stores refused events, as durably as commits, and drops the oldest letters above the limits.
    /// Blocks on the disk.
    pub(super) fn keep(&self, letters: &[DeadLetter]) -> Result<(), StorageError> {
        let _writing = self.writing.lock();
        self.write(letters)?;
        self.refused.inc_by(letters.len() as u64);
        Ok(())
    }

    /// Updates letters that were refused again after a replay, except those dropped in the
    /// meantime. Blocks on the disk.
    pub(super) fn keep_again(&self, mut letters: Vec<DeadLetter>) -> Result<(), StorageError> {
        let _writing = self.writing.lock();
        letters.retain(|letter| self.kept.lock().sizes.contains_key(&letter.entry.seq));
        self.write(&letters)
    }

    fn write(&self, letters: &[DeadLetter]) -> Result<(), StorageError> {
        self.log.check_room()?;
        let mut kept = self.kept.lock();
        for letter in letters {
            // An approximation of the row's size. The next start measures the actual rows.
            let bytes = letter.entry.event.json().len() + letter.reason.len() + letter.entry.relay.len() + 64;
            kept.insert(letter.entry.seq, bytes);
            kept.replays.remove(&letter.entry.seq);
        }
        let dropped = kept.drop_surplus();
        drop(kept);
        if let Err(error) = self.log.change_dead_letters(&self.sink, letters, &dropped) {
            // The disk became full in the meantime and still has the old rows.
            if error.is_full() {
                let read = Kept::read(&self.sink, &self.log)?;
                let mut kept = self.kept.lock();
                let replays = std::mem::take(&mut kept.replays);
                *kept = Kept { replays, ..read };
            }
            return Err(error);
        }
        if let (Some(first), Some(last)) = (dropped.first(), dropped.last()) {
            self.dropped.inc_by(dropped.len() as u64);
            tracing::error!(
                name: "dead_letters_dropped",
                sink = &*self.sink,
                first = first.get(),
                last = last.get(),
                count = dropped.len(),
                "too many dead letters: the oldest were dropped, and the sink will not get them"
            );
        }
        self.update_gauge();
        Ok(())
    }

    /// Drops letters, and returns how many. Blocks on the disk.
    ///
    /// # Errors
    /// When RocksDB fails.
    pub fn delete(&self, which: LetterSelector) -> Result<usize, StorageError> {
        let _writing = self.writing.lock();
        let mut kept = self.kept.lock();
        let found = kept.find(which);
        for seq in &found {
            kept.remove(*seq);
        }
        std::mem::drop(kept);
        self.log.change_dead_letters(&self.sink, &[], &found)?;
        self.update_gauge();
        Ok(found.len())
    }

    /// Marks letters to be sent again, and returns how many.
    pub fn replay(&self, which: LetterSelector) -> usize {
        let mut kept = self.kept.lock();
        let found = kept.find(which);
        kept.replays.extend(&found);
        std::mem::drop(kept);
        self.replay_requested.notify_one();
        found.len()
    }

    /// Returns the oldest letter to send again. The letter stays marked until it is delivered or
    /// refused again.
    pub(super) fn next_replay(&self) -> Option<Seq> {
        self.kept.lock().replays.first().copied()
    }

    /// Removes the mark for sending a letter again.
    pub(super) fn forget_replay(&self, seq: Seq) {
        self.kept.lock().replays.remove(&seq);
    }

    /// Waits until letters are marked to be sent again.
    pub(super) async fn replay_requested(&self) {
        self.replay_requested.notified().await;
    }

    fn update_gauge(&self) {
        self.gauge.set(i64::try_from(self.len()).unwrap_or(i64::MAX));
    }
}

impl Kept {
    fn read(sink: &str, log: &EventLog) -> Result<Self, StorageError> {
        let mut kept = Self::default();
        log.for_each_dead_letter(sink, Seq::FIRST, |letter, bytes| {
            kept.insert(letter.entry.seq, bytes);
            true
        })?;
        Ok(kept)
    }

    fn insert(&mut self, seq: Seq, bytes: usize) {
        self.bytes += bytes;
        self.bytes -= self.sizes.insert(seq, bytes).unwrap_or(0);
    }

    fn remove(&mut self, seq: Seq) {
        self.bytes -= self.sizes.remove(&seq).unwrap_or(0);
        self.replays.remove(&seq);
    }

    fn find(&self, which: LetterSelector) -> Vec<Seq> {
        match which {
            LetterSelector::One(seq) => self.sizes.contains_key(&seq).then_some(seq).into_iter().collect(),
            LetterSelector::All => self.sizes.keys().copied().collect(),
        }
    }

    /// Removes the oldest letters above the limits.
    fn drop_surplus(&mut self) -> Vec<Seq> {
        let mut dropped = Vec::new();
        while (self.sizes.len() > DEAD_LETTERS_MAX || self.bytes > DEAD_LETTERS_BYTES_MAX)
            && self.sizes.len() > 1
        {
            let Some(oldest) = self.sizes.keys().next().copied() else { break };
            self.remove(oldest);
            dropped.push(oldest);
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event_log::Cursor;

    fn seq(number: u64) -> Seq {
        Cursor::from_number(number - 1).next()
    }

    #[test]
    fn the_oldest_are_dropped_by_number_and_by_bytes() {
        let mut kept = Kept::default();
        for number in 1..=DEAD_LETTERS_MAX as u64 + 2 {
            kept.insert(seq(number), 10);
        }
        kept.replays.extend([seq(1), seq(9)]);
        assert_eq!(kept.drop_surplus(), [seq(1), seq(2)]);
        assert_eq!(kept.replays, [seq(9)].into());
        assert_eq!(kept.bytes, 10 * DEAD_LETTERS_MAX);
        kept.insert(seq(3), DEAD_LETTERS_BYTES_MAX);
        assert_eq!(kept.drop_surplus(), [seq(3)]);
        kept.insert(seq(1_000_000), DEAD_LETTERS_BYTES_MAX + 1);
        assert_eq!(kept.drop_surplus().len(), DEAD_LETTERS_MAX - 1, "the newest is kept, whatever its size");
        assert_eq!(kept.bytes, DEAD_LETTERS_BYTES_MAX + 1);
    }
}
