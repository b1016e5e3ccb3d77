//! RocksDB as the log uses it: opened with checks (`options`, `error`), written in batches
//! (`batch`), read by sequence and by id (`read`), and measured (`figures`).

mod batch;
mod error;
mod figures;
mod options;
mod read;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rocksdb::checkpoint::Checkpoint;
use rocksdb::properties::{ESTIMATE_NUM_KEYS, PropName};
use rocksdb::{ColumnFamily, DB, DBPinnableSlice, WriteBatch};

pub use error::{OpenError, StorageError};
pub use options::{EventCompression, StoreOptions};

use super::backup;
use super::entry::{Cursor, Seq};
use super::free_space::Reserve;
use super::keys;
use super::log_id::LogId;
use batch::Batch;
use error::{full, open_error};
use options::{Forgettable, column_families, database_options};
pub(super) use read::reading;

/// An open log on disk.
#[derive(Debug)]
pub struct Store {
    db: DB,
    room: Reserve,
    fsync: bool,
    forgettable: Arc<Forgettable>,
    log_id: LogId,
    path: PathBuf,
}

impl Store {
    pub(in crate::event_log) fn open(
        path: &Path,
        options: StoreOptions,
        room: Reserve,
    ) -> Result<Self, OpenError> {
        let needed = options.free_bytes_needed();
        let unusable =
            |reason: &dyn ToString| OpenError::Unusable { path: path.to_owned(), reason: reason.to_string() };
        if path.exists() && !path.is_dir() {
            return Err(unusable(&"it is not a folder"));
        }
        std::fs::create_dir_all(path).map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull => full(path, needed),
            _ => unusable(&error),
        })?;
        if path.join(backup::RESTORE_UNFINISHED).try_exists().map_err(|error| unusable(&error))? {
            return Err(OpenError::RestoreUnfinished { path: path.to_owned() });
        }
        let forgettable = Arc::new(Forgettable::default());
        let families = column_families(&options, &forgettable);
        let db = DB::open_cf_descriptors(&database_options(&options), path, families)
            .map_err(|error| open_error(path, needed, &error.kind(), error.to_string()))?;
        let log_id = LogId::random();
        let mut store = Self { db, room, fsync: options.fsync, forgettable, log_id, path: path.to_owned() };
        store.check_format(path, needed)?;
        let is_backup = backup::is_backup_in_place(path).map_err(|error| unusable(&error))?;
        match store.number(keys::META_LOG_ID)? {
            Some(number) if !is_backup => store.log_id = LogId::from_number(number),
            _ => store.set_log_id(log_id)?,
        }
        if is_backup {
            tracing::warn!(
                name: "log_id_renewed",
                id = %log_id, "the data folder is a backup that was put in place: the log has a new identity"
            );
            backup::put_in_place(path).map_err(|error| unusable(&error))?;
        }
        // An interrupted backup or restore may have left files in the staging folder.
        backup::remove_folder(&path.join(backup::STAGING)).map_err(|error| unusable(&error))?;
        Ok(store)
    }

    pub(in crate::event_log) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a consistent copy of the database in a new folder. SST files are hard-linked.
    pub(in crate::event_log) fn checkpoint(&self, folder: &Path) -> Result<(), StorageError> {
        let made = Checkpoint::new(&self.db).and_then(|checkpoint| checkpoint.create_checkpoint(folder));
        made.map_err(|error| StorageError::new("make a checkpoint", error))
    }

    pub(in crate::event_log) const fn log_id(&self) -> LogId {
        self.log_id
    }

    /// Replaces the identity of the log, and waits for the disk.
    pub(in crate::event_log) fn set_log_id(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let mut batch = self.batch();
        batch.set_number(keys::META_LOG_ID, log_id.to_number());
        batch.commit_durably()?;
        self.log_id = log_id;
        Ok(())
    }

    fn check_format(&self, path: &Path, free_bytes_needed: u64) -> Result<(), OpenError> {
        match self.number(keys::META_FORMAT)? {
            Some(keys::FORMAT_VERSION) => Ok(()),
            Some(found) if !(keys::FORMAT_OLDEST..keys::FORMAT_VERSION).contains(&found) => {
                Err(OpenError::OtherFormat { path: path.to_owned(), found })
            }
            Some(_) | None => {
                let mut batch = self.batch();
                batch.set_number(keys::META_FORMAT, keys::FORMAT_VERSION);
                batch.commit_durably().map_err(|error| {
                    if error.reports_full_disk() { full(path, free_bytes_needed) } else { error.into() }
                })
            }
        }
    }

    /// The last sequence that may have been assigned, and the oldest sequence that is kept.
    pub(in crate::event_log) fn bounds(&self) -> Result<(Cursor, Seq), StorageError> {
        let head = self.number(keys::META_HEAD)?.unwrap_or(0);
        let reserved = self.number(keys::META_RESERVED)?.unwrap_or(0);
        let floor = Seq::new(self.number(keys::META_FLOOR)?.unwrap_or(1));
        self.forgettable.floor.store(floor.get(), Ordering::Release);
        Ok((Cursor::from_number(head.max(reserved)), floor))
    }

    pub(in crate::event_log) const fn fsync(&self) -> bool {
        self.fsync
    }

    /// A batch of changes. A batch that adds a row needs room on the disk; a batch that only
    /// deletes makes room.
    pub(in crate::event_log) fn batch(&self) -> Batch<'_> {
        Batch { store: self, changes: WriteBatch::default(), needs_room: false, has_waited: false }
    }

    /// A batch for a caller that has waited for room already.
    pub(in crate::event_log) fn batch_with_room(&self) -> Batch<'_> {
        Batch { has_waited: true, ..self.batch() }
    }

    pub(in crate::event_log) const fn room(&self) -> &Reserve {
        &self.room
    }

    /// Deletes the events below `floor` and frees their space.
    pub(in crate::event_log) fn trim(&self, floor: Seq) -> Result<(), StorageError> {
        const OPERATION: &str = "trim old events";
        let family = self.family(keys::EVENTS, OPERATION)?;
        let (from, to) = (keys::event_key(Seq::new(0)), keys::event_key(floor));
        let mut batch = self.batch();
        batch.changes.delete_range_cf(family, from, to);
        batch.set_number(keys::META_FLOOR, floor.get());
        // Deleted files do not come back after a power loss, so the floor must be on the disk
        // first.
        batch.commit_durably()?;
        self.forgettable.floor.store(floor.get(), Ordering::Release);
        // A range of keys excludes its end, but a range of files includes it.
        let last = keys::event_key(Seq::new(floor.get().saturating_sub(1)));
        self.db
            .delete_file_in_range_cf(family, from, last)
            .map_err(|error| StorageError::new(OPERATION, error))
    }

    /// From now on, compaction deletes the ids of trimmed events that were created before this Unix
    /// time.
    pub(in crate::event_log) fn forget_ids_created_before(&self, seconds: u64) {
        self.forgettable.created_before.store(seconds, Ordering::Release);
    }

    /// A property of a column family; `None` if RocksDB does not know the property.
    pub(in crate::event_log) fn property(&self, family: &str, property: &PropName) -> Option<u64> {
        self.db.property_int_value_cf(self.db.cf_handle(family)?, property).ok().flatten()
    }

    /// An estimate of the number of ids.
    pub(crate) fn ids_estimate(&self) -> u64 {
        self.property(keys::IDS, ESTIMATE_NUM_KEYS).unwrap_or(0)
    }

    fn number(&self, key: &[u8]) -> Result<Option<u64>, StorageError> {
        const OPERATION: &str = "read its own state";
        let Some(value) = self.get(keys::META, key, OPERATION)? else {
            return Ok(None);
        };
        keys::read_number(&value).map(Some).ok_or_else(|| StorageError::damaged(OPERATION, "number", key))
    }

    fn get(
        &self,
        family: &str,
        key: &[u8],
        operation: &'static str,
    ) -> Result<Option<DBPinnableSlice<'_>>, StorageError> {
        let family = self.family(family, operation)?;
        self.db.get_pinned_cf(family, key).map_err(|error| StorageError::new(operation, error))
    }

    fn family(&self, name: &str, operation: &'static str) -> Result<&ColumnFamily, StorageError> {
        self.db
            .cf_handle(name)
            .ok_or_else(|| StorageError::new(operation, format_args!("no column family {name}")))
    }
}
