//! Single questions to the log: one event by its id, one page after a cursor, which ids it has of a span.

use wire::{ClaimedId, Filter};

use super::entry::{Cursor, Entry, Seq};
use super::{EventLog, StorageError};
use crate::limits::{KNOWN_SCAN_MAX, PAGE_BYTES_MAX, PAGE_EVENTS_MAX, PAGE_SCAN_MAX};

/// A part of the log that was looked through.
#[derive(Debug)]
pub struct Page {
    /// What matches, in order.
    pub entries: Vec<Entry>,
    /// Where the next page goes on. Everything up to here was looked at, whether it matched or not.
    pub next_cursor: Cursor,
}

/// Why delivery cannot go on after a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CursorError {
    /// What comes next is trimmed.
    #[error("the events after cursor {cursor} are no longer kept; the oldest is {oldest}")]
    TooOld {
        /// What was asked for.
        cursor: Cursor,
        /// The oldest sequence that is kept.
        oldest: Seq,
        /// The newest sequence.
        newest: Cursor,
    },
    /// It names a sequence that was not given yet.
    #[error("cursor {cursor} is beyond the newest sequence, which is {newest}")]
    Ahead {
        /// What was asked for.
        cursor: Cursor,
        /// The newest sequence.
        newest: Cursor,
    },
}

/// What the log has of a span.
#[derive(Debug)]
pub enum Known {
    /// All of it: `created_at` and id of each event.
    All(Vec<(u64, ClaimedId)>),
    /// More than was asked for.
    TooMany,
    /// More of the log lies behind its beginning than is looked through.
    TooFarBack,
}

impl EventLog {
    /// Whether delivery can go on after a cursor that somebody asks for: 0 always means from the oldest kept.
    ///
    /// # Errors
    /// When what comes next is trimmed, or the cursor is beyond the newest sequence.
    pub fn check_cursor(&self, cursor: Cursor) -> Result<(), CursorError> {
        // The floor is read first: it never passes the head that is read after it.
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

    /// The event of this id, if it is in the log. Reads the disk.
    ///
    /// # Errors
    /// When RocksDB fails.
    pub fn get(&self, id: &ClaimedId) -> Result<Option<Entry>, StorageError> {
        let Some(row) = self.note(self.store.id_row(id))? else {
            return Ok(None);
        };
        if row.seq < self.floor() {
            return Ok(None); // Its id outlives its body.
        }
        let entries = self.note(self.store.read(row.seq, Cursor::after(row.seq), 1, usize::MAX))?;
        Ok(entries.into_iter().next())
    }

    /// When the first event after a cursor was received, in Unix milliseconds; `None` if there is none. Reads
    /// the disk.
    ///
    /// # Errors
    /// When RocksDB fails.
    pub fn received_after(&self, cursor: Cursor) -> Result<Option<u64>, StorageError> {
        let mut received_ms = None;
        let looked = self.store.for_each_record(cursor.next().max(self.floor()), |_, record| {
            received_ms = Some(record.received_at_ms);
            Some(false)
        });
        self.note(looked.map(|()| received_ms))
    }

    /// `created_at` and id of the events that match a filter, for NIP-77, if they are at most `max`. Events that were received long before the filter's `since`, because
    /// they are dated in the future, may be left out: they are only asked for again. Reads the disk.
    ///
    /// # Errors
    /// When RocksDB fails.
    pub fn known(&self, filter: &Filter, max: usize) -> Result<Known, StorageError> {
        const FUTURE_MS: u64 = 3_600_000;
        let received_ms = filter.since.unwrap_or(0).saturating_mul(1_000).saturating_sub(FUTURE_MS);
        let first =
            self.note(self.first_where(self.floor(), |record| record.received_at_ms >= received_ms))?;
        let (mut known, mut looked_at) = (Vec::new(), 0);
        let looked = self.store.for_each_record(first, |seq, record| {
            looked_at += 1;
            let event = record.into_entry(self.id(), seq)?.event;
            if filter.matches(&event) {
                known.push((event.created_at(), event.id().into()));
            }
            Some(known.len() <= max && looked_at <= KNOWN_SCAN_MAX)
        });
        self.note(looked)?;
        Ok(if known.len() > max {
            Known::TooMany
        } else if looked_at > KNOWN_SCAN_MAX {
            Known::TooFarBack
        } else {
            Known::All(known)
        })
    }

    /// The events after a cursor that match all filters: at most `limit` of them and at most
    /// [`PAGE_EVENTS_MAX`] or about [`PAGE_BYTES_MAX`], out of at most [`PAGE_SCAN_MAX`] looked at. Reads
    /// the disk.
    ///
    /// # Errors
    /// When RocksDB fails.
    pub fn page(&self, cursor: Cursor, limit: usize, filters: &[Filter]) -> Result<Page, StorageError> {
        let limit = limit.min(PAGE_EVENTS_MAX);
        let head = self.head();
        let mut page = Page { entries: Vec::new(), next_cursor: cursor };
        let (mut looked_at, mut bytes) = (0, 0);
        let looked = self.store.for_each_record(cursor.next().max(self.floor()), |seq, record| {
            let full = page.entries.len() >= limit || bytes >= PAGE_BYTES_MAX;
            if Cursor::after(seq) > head || full || looked_at >= PAGE_SCAN_MAX {
                return Some(false);
            }
            looked_at += 1;
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
