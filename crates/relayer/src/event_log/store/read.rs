//! Reading the store: rows, records, ids.

use rocksdb::{Direction, IteratorMode, ReadOptions};
use wire::ClaimedId;

use super::{StorageError, Store};
use crate::event_log::entry::{Cursor, Entry, Seq};
use crate::event_log::keys;
use crate::event_log::record::{IdRow, Record};

impl Store {
    pub(in crate::event_log) fn contains(&self, id: &ClaimedId) -> Result<bool, StorageError> {
        self.get(keys::IDS, id.as_bytes(), "look an id up").map(|row| row.is_some())
    }

    pub(in crate::event_log) fn id_row(&self, id: &ClaimedId) -> Result<Option<IdRow>, StorageError> {
        const OPERATION: &str = "look an id up";
        let Some(row) = self.get(keys::IDS, id.as_bytes(), OPERATION)? else {
            return Ok(None);
        };
        let row = IdRow::from_bytes(&row);
        row.map(Some).ok_or_else(|| StorageError::damaged(OPERATION, "id", id.as_bytes()))
    }

    pub(in crate::event_log) fn for_each_id(
        &self,
        mut each: impl FnMut(&ClaimedId) -> bool,
    ) -> Result<(), StorageError> {
        const OPERATION: &str = "read the ids";
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        options.set_readahead_size(4 << 20);
        let mut rows = self.db.raw_iterator_cf_opt(self.family(keys::IDS, OPERATION)?, options);
        rows.seek_to_first();
        while let Some(key) = rows.key() {
            let id = key.try_into().map_err(|_| StorageError::damaged(OPERATION, "id", key))?;
            if !each(&ClaimedId::from_bytes(id)) {
                return Ok(());
            }
            rows.next();
        }
        rows.status().map_err(|error| StorageError::new(OPERATION, error))
    }

    /// Calls `each` for the records from `first` on, until `each` returns `Some(false)`.
    pub(in crate::event_log) fn for_each_record(
        &self,
        first: Seq,
        mut each: impl FnMut(Seq, Record<'_>) -> Option<bool>,
    ) -> Result<(), StorageError> {
        self.for_each_row(keys::EVENTS, &keys::event_key(first), |key, value| {
            let (seq, record) = (keys::read_event_key(key)?, Record::read(value)?);
            each(seq, record)
        })
    }

    /// Calls `each` for the rows of a family from a key on, until `each` returns `Some(false)`.
    /// `each` returns `None` for a damaged row.
    pub(in crate::event_log) fn for_each_row(
        &self,
        family: &'static str,
        from: &[u8],
        mut each: impl FnMut(&[u8], &[u8]) -> Option<bool>,
    ) -> Result<(), StorageError> {
        let operation = reading(family);
        for row in self.db.iterator_cf(self.family(family, operation)?, mode_from(from)) {
            let (key, value) = row.map_err(|error| StorageError::new(operation, error))?;
            if !each(&key, &value).ok_or_else(|| StorageError::damaged(operation, family, &key))? {
                break;
            }
        }
        Ok(())
    }

    pub(in crate::event_log) fn row(
        &self,
        family: &'static str,
        key: &[u8],
    ) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.get(family, key, reading(family))?.map(|row| row.to_vec()))
    }

    /// The entries from `first` to `last`, at most `events_max` of them and about `bytes_max`
    /// bytes.
    pub(in crate::event_log) fn read(
        &self,
        first: Seq,
        last: Cursor,
        events_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, StorageError> {
        let (mut entries, mut bytes) = (Vec::new(), 0);
        self.for_each_record(first, |seq, record| {
            if Cursor::after(seq) > last {
                return Some(false);
            }
            bytes += record.json.len();
            entries.push(record.into_entry(self.log_id, seq)?);
            Some(entries.len() < events_max && bytes < bytes_max)
        })?;
        Ok(entries)
    }

    /// The total bytes of all records that were ever written, according to the newest record.
    pub(in crate::event_log) fn bytes_written(&self) -> Result<u64, StorageError> {
        let bytes = self.newest(|record, length| record.bytes_before + length as u64)?;
        Ok(bytes.unwrap_or(0))
    }

    /// When the newest stored event was received, in Unix milliseconds.
    pub(in crate::event_log) fn newest_received_ms(&self) -> Result<Option<u64>, StorageError> {
        self.newest(|record, _| record.received_at_ms)
    }

    /// Calls `look` with the newest record and its length.
    fn newest<T>(&self, look: impl FnOnce(Record<'_>, usize) -> T) -> Result<Option<T>, StorageError> {
        const OPERATION: &str = "read the newest event";
        let mut rows = self.db.raw_iterator_cf(self.family(keys::EVENTS, OPERATION)?);
        rows.seek_to_last();
        let seen = match (rows.key(), rows.value()) {
            (Some(key), Some(value)) => {
                let record = Record::read(value);
                let record = record.ok_or_else(|| StorageError::damaged(OPERATION, "event", key))?;
                Some(look(record, value.len()))
            }
            _ => None,
        };
        rows.status().map_err(|error| StorageError::new(OPERATION, error))?;
        Ok(seen)
    }
}

/// Names the operation in errors about reading this family.
pub(in crate::event_log) fn reading(family: &str) -> &'static str {
    match family {
        keys::EVENTS => "read events",
        keys::IDS => "look an id up",
        keys::RELAYS => "read what is kept of relays",
        keys::CURSORS | keys::CONSUMERS | keys::FOLLOWERS => "read a cursor",
        keys::REGISTRY => "read the registry",
        keys::DEAD_LETTERS => "read dead letters",
        _ => "read its own state",
    }
}

const fn mode_from(key: &[u8]) -> IteratorMode<'_> {
    IteratorMode::From(key, Direction::Forward)
}
