//! Single questions to the log: one event by its id, one page after a cursor.

use wire::{ClaimedId, Filter};

use super::entry::{Cursor, Entry};
use super::{EventLog, StorageError};
use crate::limits::{PAGE_BYTES_MAX, PAGE_EVENTS_MAX, PAGE_SCAN_MAX};

/// A part of the log that was looked through.
#[derive(Debug)]
pub struct Page {
    /// What matches, in order.
    pub entries: Vec<Entry>,
    /// Where the next page goes on. Everything up to here was looked at, whether it matched or not.
    pub next_cursor: Cursor,
}

impl EventLog {
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
            let entry = record.into_entry(seq)?;
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
