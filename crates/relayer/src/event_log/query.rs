//! Single questions to the log: an event by its id, a page after a cursor, the ids of a time span.

use wire::{ClaimedId, Filter};

use super::entry::{Cursor, Entry, Seq};
use super::{EventLog, StorageError};
use crate::limits::{KNOWN_SCAN_MAX, PAGE_BYTES_MAX, PAGE_EVENTS_MAX, PAGE_SCAN_MAX, UNORDERED_EVENTS_MAX};

/// The matches in a part of the log.
#[derive(Debug)]
pub struct Page {
    /// The matching events, in order.
    pub entries: Vec<Entry>,
    /// The next page begins after this cursor: all events up to it were examined.
    pub next_cursor: Cursor,
}

/// An event that the log has or had.
#[derive(Debug)]
pub enum Found {
    Kept(Entry),
    /// Retention deleted the event; only its sequence is left.
    Trimmed(Seq),
}

/// Why delivery cannot continue after a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CursorError {
    /// The next events are trimmed.
    #[error("the events after cursor {cursor} are no longer kept; the oldest is {oldest}")]
    TooOld {
        /// The requested cursor.
        cursor: Cursor,
        /// The oldest sequence that is kept.
        oldest: Seq,
        /// The newest sequence.
        newest: Cursor,
    },
    /// The cursor is a sequence that is not assigned yet.
    #[error("cursor {cursor} is beyond the newest sequence, which is {newest}")]
    Ahead {
        /// The requested cursor.
        cursor: Cursor,
        /// The newest sequence.
        newest: Cursor,
    },
}

/// The log's events of a time span.
#[derive(Debug)]
pub enum Known {
    /// `created_at` and id of each event.
    All(Vec<(u64, ClaimedId)>),
    /// There are more events than the requested maximum.
    TooMany,
    /// The log has more events since the beginning of the span than a query reads.
    TooFarBack,
}

impl EventLog {
    /// Checks whether delivery can begin after a cursor. Cursor 0 always means the oldest event
    /// that is kept.
    ///
    /// # Errors
    /// When the next events are trimmed, or the cursor is beyond the newest sequence.
    pub(crate) fn check_cursor(&self, cursor: Cursor) -> Result<(), CursorError> {
        // The floor is read first, so that the floor is at most one above the head.
        let oldest = self.floor();
        let newest = self.head();
        if cursor > newest {
            return Err(CursorError::Ahead { cursor, newest });
        }
        if cursor != Cursor::START && cursor.next() < oldest {
            return Err(CursorError::TooOld { cursor, oldest, newest });
        }
        Ok(())
    }

    /// The event with this id, if the log has it. Reads the disk.
    ///
    /// # Errors
    /// When RocksDB fails.
    pub fn get(&self, id: &ClaimedId) -> Result<Option<Entry>, StorageError> {
        Ok(match self.find(id)? {
            Some(Found::Kept(entry)) => Some(entry),
            Some(Found::Trimmed(_)) | None => None,
        })
    }

    /// The event with this id, or its sequence if the event is trimmed. Ids are not kept forever.
    /// Reads the disk.
    ///
    /// # Errors
    /// When RocksDB fails.
    pub(crate) fn find(&self, id: &ClaimedId) -> Result<Option<Found>, StorageError> {
        let Some(row) = self.note(self.store.id_row(id))? else {
            return Ok(None);
        };
        if row.seq < self.floor() {
            return Ok(Some(Found::Trimmed(row.seq)));
        }
        let entries = self.note(self.store.read(row.seq, Cursor::after(row.seq), 1, usize::MAX))?;
        // Retention may have trimmed the event after the floor was read.
        Ok(Some(entries.into_iter().next().map_or(Found::Trimmed(row.seq), Found::Kept)))
    }

    /// When the first event after a cursor was received, in Unix milliseconds. Reads the disk.
    ///
    /// # Errors
    /// When RocksDB fails.
    pub(crate) fn received_after(&self, cursor: Cursor) -> Result<Option<u64>, StorageError> {
        let mut received_ms = None;
        let looked = self.store.for_each_record(cursor.next().max(self.floor()), |_, record| {
            received_ms = Some(record.received_at_ms);
            Some(false)
        });
        self.note(looked.map(|()| received_ms))
    }

    /// The cursor before the first event that was received at a time (Unix milliseconds) or later;
    /// the head if there is none, and 0 if nothing that is kept was received before. Reads the
    /// disk.
    ///
    /// Times of receipt may decrease along the log, because batches are sorted by `created_at` and
    /// clocks are set back. The cursor is at the latest where the log passes the time for good, so
    /// no event after that is missed.
    ///
    /// # Errors
    /// When RocksDB fails.
    pub(crate) fn cursor_before_time(&self, at_ms: u64) -> Result<Cursor, StorageError> {
        let floor = self.floor();
        let found = self.note(self.first_where(floor, |record| record.received_at_ms >= at_ms))?;
        let earliest = Cursor::from_number(found.get().saturating_sub(UNORDERED_EVENTS_MAX)).next();
        let mut first = found;
        let looked = self.store.for_each_record(earliest.max(floor), |seq, record| {
            if seq < found && record.received_at_ms < at_ms {
                return Some(true);
            }
            first = seq.min(found);
            Some(false)
        });
        self.note(looked)?;
        Ok(if first <= floor { Cursor::START } else { Cursor::before(first) })
    }

    /// `created_at` and id of at most `max` events that match a filter, for NIP-77. Events that are
    /// dated long after their receipt may be missing, which only causes more requests. Reads the
    /// disk.
    ///
    /// # Errors
    /// When RocksDB fails.
    pub fn known(&self, filter: &Filter, max: usize) -> Result<Known, StorageError> {
        const FUTURE_MS: u64 = 3_600_000;
        let received_ms = filter.since.unwrap_or(0).saturating_mul(1_000).saturating_sub(FUTURE_MS);
        let first =
            self.note(self.first_where(self.floor(), |record| record.received_at_ms >= received_ms))?;
        let (mut known, mut examined) = (Vec::new(), 0);
        let looked = self.store.for_each_record(first, |seq, record| {
            examined += 1;
            let event = record.into_entry(self.id(), seq)?.event;
            if filter.matches(&event) {
                known.push((event.created_at(), event.id().into()));
            }
            Some(known.len() <= max && examined <= KNOWN_SCAN_MAX)
        });
        self.note(looked)?;
        Ok(if known.len() > max {
            Known::TooMany
        } else if examined > KNOWN_SCAN_MAX {
            Known::TooFarBack
        } else {
            Known::All(known)
        })
    }

    /// The events after a cursor that match all filters: at most `limit` or [`PAGE_EVENTS_MAX`]
    /// events and about [`PAGE_BYTES_MAX`]. Examines at most [`PAGE_SCAN_MAX`] events. Reads the
    /// disk.
    ///
    /// # Errors
    /// When RocksDB fails.
    pub fn page(&self, cursor: Cursor, limit: usize, filters: &[Filter]) -> Result<Page, StorageError> {
        let limit = limit.min(PAGE_EVENTS_MAX);
        let head = self.head();
        let mut page = Page { entries: Vec::new(), next_cursor: cursor };
        let (mut examined, mut bytes) = (0, 0);
        let looked = self.store.for_each_record(cursor.next().max(self.floor()), |seq, record| {
            let full = page.entries.len() >= limit || bytes >= PAGE_BYTES_MAX;
            if Cursor::after(seq) > head || full || examined >= PAGE_SCAN_MAX {
                return Some(false);
            }
            examined += 1;
            let entry = record.into_entry(self.id(), seq)?;
            page.next_cursor = Cursor::after(seq);
            if filters.iter().all(|filter| filter.matches(&entry.event)) {
                bytes += entry.event.json().len();
                page.entries.push(entry);
            }
            Some(true)
        });
        self.note(looked)?;
        Ok(page)
    }
}
