//! Retention: trims the old end of the log by age and by size. Trimming by age waits for the
//! slowest sink; trimming by size does not.
//!
//! Times of receipt may decrease along the log, because the clock may have been wrong. Trimming by
//! age therefore reads one event after the other and stops at the first event that must be kept.
//!
//! The floor moves first, so that no reader starts below the floor; then RocksDB deletes the range.
//! An id stays until an event of its age would be refused anyway; then compaction deletes the id.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::entry::{Cursor, Seq};
use super::record::Record;
use super::{EventLog, StorageError};
use crate::limits::RETENTION_INTERVAL;

/// The bounds of the log. 0 means no bound.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Events received longer ago than this many milliseconds are trimmed.
    pub age_ms_max: u64,
    /// Events after this cursor are not trimmed by age, because a sink still needs them.
    pub needed_after: Cursor,
    /// The maximum size of all records in bytes, uncompressed and without ids.
    pub bytes_max: u64,
    /// Events created longer ago than this many seconds are not admitted, so the ids of such events
    /// may be deleted.
    pub admitted_age_secs_max: u64,
}

impl Default for Retention {
    /// No bounds. No sink needs events.
    fn default() -> Self {
        Self { age_ms_max: 0, needed_after: Cursor::END, bytes_max: 0, admitted_age_secs_max: 0 }
    }
}

impl EventLog {
    /// Trims at once and then every [`RETENTION_INTERVAL`], until `stop` is set. Each time,
    /// `retention` returns the bounds.
    ///
    /// # Errors
    /// When RocksDB fails.
    pub(crate) fn keep_trimmed(
        &self,
        retention: impl Fn() -> Retention,
        stop: &AtomicBool,
    ) -> Result<(), StorageError> {
        let mut last: Option<Instant> = None;
        while !stop.load(Ordering::Relaxed) {
            if last.is_none_or(|last| last.elapsed() >= RETENTION_INTERVAL) {
                let trimmed = self.retain(retention())?;
                if trimmed > 0 {
                    tracing::info!(
                        name: "log_trimmed",
                        events = trimmed, oldest = self.floor().get(), "trimmed the log by retention"
                    );
                }
                // If trimming stopped at the limit, more events may be due.
                last = (trimmed < AGED_AT_ONCE_MAX).then(Instant::now);
            }
            std::thread::sleep(STOP_CHECK_INTERVAL);
        }
        Ok(())
    }

    /// [Trims](Self::trim) by the log's clock. While the clock is in doubt, nothing is trimmed by
    /// age.
    ///
    /// # Errors
    /// When RocksDB fails.
    pub fn retain(&self, retention: Retention) -> Result<u64, StorageError> {
        let believed = match self.clock.deletes_by_age() {
            true => retention,
            false => Retention { age_ms_max: 0, admitted_age_secs_max: 0, ..retention },
        };
        self.trim(believed, self.clock.unix_ms())
    }

    /// Trims the events beyond the bounds, by age at most [`AGED_AT_ONCE_MAX`]. Returns the number
    /// of trimmed events. Reads and writes the disk.
    ///
    /// # Errors
    /// When RocksDB fails.
    pub fn trim(&self, retention: Retention, now_ms: u64) -> Result<u64, StorageError> {
        let forgotten_before = match retention.admitted_age_secs_max {
            0 => 0,
            age => (now_ms / 1000).saturating_sub(age).saturating_sub(CLOCK_STEP_SECS),
        };
        self.store.forget_ids_created_before(forgotten_before);
        let floor = self.floor();
        let mut kept_from = floor;
        if retention.age_ms_max > 0 {
            let oldest_ms = now_ms.saturating_sub(retention.age_ms_max);
            kept_from = self.first_young(kept_from, oldest_ms, retention.needed_after)?;
        }
        if retention.bytes_max > 0 {
            let surplus = self.store.bytes_written()?.saturating_sub(retention.bytes_max);
            kept_from = self.first_where(kept_from, |record| record.bytes_before >= surplus)?;
        }
        self.trim_below(kept_from)?;
        Ok(kept_from.get() - floor.get())
    }

    /// The first sequence from `from` on that trimming by age must keep: received at `oldest_ms` or
    /// later, or after `needed_after`.
    fn first_young(&self, from: Seq, oldest_ms: u64, needed_after: Cursor) -> Result<Seq, StorageError> {
        let last = needed_after.min(self.head());
        let (mut kept_from, mut looked_at) = (from, 0);
        self.store.for_each_record(from, |seq, record| {
            if Cursor::after(seq) > last || record.received_at_ms >= oldest_ms {
                return Some(false);
            }
            kept_from = Cursor::after(seq).next();
            looked_at += 1;
            Some(looked_at < AGED_AT_ONCE_MAX)
        })?;
        Ok(kept_from)
    }

    /// Moves the floor up to `kept_from`.
    fn trim_below(&self, kept_from: Seq) -> Result<(), StorageError> {
        if kept_from <= self.floor() {
            return Ok(());
        }
        self.floor.store(kept_from.get(), Ordering::Release);
        self.tail.trim(kept_from);
        self.store.trim(kept_from)
    }

    /// The first sequence from `from` on whose record meets a condition; the sequence after the
    /// head if no record does. This is a binary search: all later records must meet the condition,
    /// too.
    pub(super) fn first_where(
        &self,
        from: Seq,
        met: impl Fn(&Record<'_>) -> bool,
    ) -> Result<Seq, StorageError> {
        let (mut low, mut high) = (from.get(), self.head().next().get().max(from.get()));
        while low < high {
            let middle = low + (high - low) / 2;
            match self.probe(Seq::new(middle), &met)? {
                // Sequences may be missing, so the record may lie beyond the middle.
                ControlFlow::Continue(found) => low = found.get() + 1,
                ControlFlow::Break(()) => high = middle,
            }
        }
        Ok(Seq::new(low))
    }

    /// Looks at the first record from `seq` on. `Break` if that record meets the condition or does
    /// not exist; otherwise the record's sequence.
    fn probe(
        &self,
        seq: Seq,
        met: &impl Fn(&Record<'_>) -> bool,
    ) -> Result<ControlFlow<(), Seq>, StorageError> {
        let head = self.head();
        let mut answer = ControlFlow::Break(());
        self.store.for_each_record(seq, |found, record| {
            if Cursor::after(found) <= head && !met(&record) {
                answer = ControlFlow::Continue(found);
            }
            Some(false)
        })?;
        Ok(answer)
    }
}

const STOP_CHECK_INTERVAL: Duration = Duration::from_millis(200);

/// The maximum number of events that are trimmed by age at once: reading them takes a fraction of a
/// second.
pub(crate) const AGED_AT_ONCE_MAX: u64 = 100_000;

/// The clock may be set back this far without readmitting an event whose id is deleted.
const CLOCK_STEP_SECS: u64 = 3_600;
