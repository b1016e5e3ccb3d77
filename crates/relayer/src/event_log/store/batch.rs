//! Batches of changes to the store.

use rocksdb::{WriteBatch, WriteOptions};
use wire::ClaimedId;

use super::{StorageError, Store};
use crate::event_log::entry::Seq;
use crate::event_log::keys;
use crate::event_log::record::IdRow;

/// Changes that are committed together or not at all.
pub(crate) struct Batch<'s> {
    pub(super) store: &'s Store,
    pub(super) changes: WriteBatch,
    /// Whether the batch adds a row, so that the disk must have room.
    pub(super) needs_room: bool,
    /// Whether the caller has already waited for room on the disk.
    pub(super) has_waited: bool,
}

impl Batch<'_> {
    pub(crate) fn put_event(
        &mut self,
        seq: Seq,
        record: &[u8],
        id: &ClaimedId,
        row: IdRow,
    ) -> Result<(), StorageError> {
        self.put(keys::EVENTS, &keys::event_key(seq), record)?;
        self.put(keys::IDS, id.as_bytes(), &row.to_bytes())
    }

    pub fn put(&mut self, family: &'static str, key: &[u8], value: &[u8]) -> Result<(), StorageError> {
        self.changes.put_cf(self.store.family(family, writing(family))?, key, value);
        self.needs_room = true;
        Ok(())
    }

    pub(crate) fn delete(&mut self, family: &'static str, key: &[u8]) -> Result<(), StorageError> {
        self.changes.delete_cf(self.store.family(family, writing(family))?, key);
        Ok(())
    }

    pub(crate) fn set_number(&mut self, key: &[u8], number: u64) {
        // The column family exists: the store would not have opened without it.
        if let Some(family) = self.store.db.cf_handle(keys::META) {
            self.changes.put_cf(family, key, number.to_be_bytes());
        }
    }

    /// Commits. Waits for the disk if the store uses fsync.
    pub fn commit(self) -> Result<(), StorageError> {
        let durably = self.store.fsync;
        self.write(durably)
    }

    /// Commits and waits for the disk.
    pub(crate) fn commit_durably(self) -> Result<(), StorageError> {
        self.write(true)
    }

    fn write(self, durably: bool) -> Result<(), StorageError> {
        const OPERATION: &str = "commit";
        if self.needs_room && !self.has_waited {
            self.store.room.check(0).map_err(|error| StorageError::no_room(OPERATION, error))?;
        }
        let mut options = WriteOptions::default();
        options.set_sync(durably);
        let written = self.store.db.write_opt(self.changes, &options);
        written.map_err(|error| StorageError::new(OPERATION, error))
    }
}

/// Names the operation in errors about writing this family.
fn writing(family: &str) -> &'static str {
    match family {
        keys::EVENTS | keys::IDS => "write events",
        keys::RELAYS => "write what is kept of relays",
        keys::CURSORS | keys::CONSUMERS | keys::FOLLOWERS => "write a cursor",
        keys::REGISTRY => "write the registry",
        keys::DEAD_LETTERS => "write dead letters",
        _ => "write its own state",
    }
}
