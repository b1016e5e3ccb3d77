//! RocksDB as the log uses it: opened with checks, written in batches, read by sequence and by id.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rocksdb::checkpoint::Checkpoint;
use rocksdb::properties::{ESTIMATE_NUM_KEYS, PropName};
use rocksdb::{
    ColumnFamily, DB, DBPinnableSlice, Direction, IteratorMode, ReadOptions, WriteBatch, WriteOptions,
};
use wire::ClaimedId;

use super::backup;
use super::entry::{Cursor, Entry, Seq};
use super::free_space::{FreeSpace, NoRoom, Reserve};
use super::keys::{self, IdRow, Record};
use super::log_id::LogId;
use super::options::{Forgettable, column_families, database_options, free_bytes_needed};

/// Why the log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error(
        "{path} is in use by another process; stop that one, or set another [deduplication] rocksdb_path"
    )]
    Locked {
        /// The log's directory.
        path: PathBuf,
    },
    /// The directory cannot be made or written.
    #[error(
        "{path} cannot be used: {reason}; give it a folder that can be written, or set another [deduplication] rocksdb_path"
    )]
    Unusable {
        /// The log's directory.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// The disk has no room for what RocksDB writes when it opens.
    #[error(
        "make room: the disk under {path} is full ({free_bytes} bytes are free), and the event log cannot be opened \
         without; {needed_bytes} bytes are enough"
    )]
    Full {
        /// The log's directory.
        path: PathBuf,
        /// The bytes that are free.
        free_bytes: u64,
        /// How many are enough in any case.
        needed_bytes: u64,
    },
    /// RocksDB finds it damaged.
    #[error(
        "the log at {path} is damaged: {reason}; restore it from a backup, or move it away to start anew"
    )]
    Damaged {
        /// The log's directory.
        path: PathBuf,
        /// What RocksDB says.
        reason: String,
    },
    /// A restore did not come to its end.
    #[error(
        "a restore into {path} was begun and not finished; run `moltrade-relayer restore` again, with the same backup or \
         another one"
    )]
    RestoreUnfinished {
        /// The log's directory.
        path: PathBuf,
    },
    /// It was written by a version with another layout.
    #[error(
        "the log at {path} has format {found}, this version knows {known}; use the version that wrote it",
        known = keys::FORMAT_VERSION
    )]
    OtherFormat {
        /// The log's directory.
        path: PathBuf,
        /// The format it has.
        found: u64,
    },
    /// It opened, but cannot be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// RocksDB failed, or holds what cannot be there, and the process must not go on as if nothing was
/// found; or the disk has no room, and nothing was written.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the event log failed to {operation}: {reason}")]
pub struct StorageError {
    operation: &'static str,
    reason: String,
    is_full: bool,
}

impl StorageError {
    pub(crate) fn new(operation: &'static str, reason: impl ToString) -> Self {
        Self { operation, reason: reason.to_string(), is_full: false }
    }

    pub(super) fn no_room(operation: &'static str, error: NoRoom) -> Self {
        Self { operation, reason: format!("the disk is full: {error}"), is_full: true }
    }

    /// Whether nothing was written because the disk has no room. That passes, and nothing is
    /// damaged.
    pub const fn is_full(&self) -> bool {
        self.is_full
    }

    pub(super) fn damaged(operation: &'static str, what: &str, key: &[u8]) -> Self {
        Self::new(operation, format_args!("{what} {key:02x?} is damaged"))
    }
}

/// How the store is opened.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Whether a commit waits until the disk has it.
    pub fsync: bool,
}

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
    pub(super) fn open(path: &Path, options: StoreOptions, room: Reserve) -> Result<Self, OpenError> {
        let unusable =
            |reason: &dyn ToString| OpenError::Unusable { path: path.to_owned(), reason: reason.to_string() };
        if path.exists() && !path.is_dir() {
            return Err(unusable(&"it is not a folder"));
        }
        std::fs::create_dir_all(path).map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull => full(path),
            _ => unusable(&error),
        })?;
        if path.join(backup::RESTORE_UNFINISHED).try_exists().map_err(|error| unusable(&error))? {
            return Err(OpenError::RestoreUnfinished { path: path.to_owned() });
        }
        let forgettable = Arc::new(Forgettable::default());
        let families = column_families(&forgettable);
        let db = DB::open_cf_descriptors(&database_options(options.fsync), path, families)
            .map_err(|error| open_error(path, &error.kind(), error.to_string()))?;
        let log_id = LogId::random();
        let mut store = Self { db, room, fsync: options.fsync, forgettable, log_id, path: path.to_owned() };
        store.check_format(path)?;
        let is_backup = backup::is_backup_in_place(path).map_err(|error| unusable(&error))?;
        match store.number(keys::META_LOG_ID)? {
            Some(number) if !is_backup => store.log_id = LogId::from_number(number),
            _ => store.set_log_id(log_id)?,
        }
        if is_backup {
            tracing::warn!(id = %log_id, "the data folder is a backup that was put in place: the log has a new identity");
            backup::put_in_place(path).map_err(|error| unusable(&error))?;
        }
        // What a backup or a restore that did not come to its end has left there.
        backup::remove_folder(&path.join(backup::STAGING)).map_err(|error| unusable(&error))?;
        Ok(store)
    }

    /// The log's directory.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a consistent copy of the database in a folder that does not exist. Sorted files are
    /// hard links.
    pub(super) fn checkpoint(&self, folder: &Path) -> Result<(), StorageError> {
        let made = Checkpoint::new(&self.db).and_then(|checkpoint| checkpoint.create_checkpoint(folder));
        made.map_err(|error| StorageError::new("make a checkpoint", error))
    }

    /// The identity of the log.
    pub(super) const fn log_id(&self) -> LogId {
        self.log_id
    }

    /// Replaces the identity of the log, and waits for the disk.
    pub(super) fn set_log_id(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let mut batch = self.batch();
        batch.set_number(keys::META_LOG_ID, log_id.to_number());
        batch.commit_durably()?;
        self.log_id = log_id;
        Ok(())
    }

    fn check_format(&self, path: &Path) -> Result<(), OpenError> {
        match self.number(keys::META_FORMAT)? {
            Some(keys::FORMAT_VERSION) => Ok(()),
            Some(found) if !(keys::FORMAT_OLDEST..keys::FORMAT_VERSION).contains(&found) => {
                Err(OpenError::OtherFormat { path: path.to_owned(), found })
            }
            Some(_) | None => {
                let mut batch = self.batch();
                batch.set_number(keys::META_FORMAT, keys::FORMAT_VERSION);
                batch
                    .commit_durably()
                    .map_err(|error| if error.reason.contains(NO_SPACE) { full(path) } else { error.into() })
            }
        }
    }

    /// The last sequence that may have been given, and the oldest that is kept.
    pub(super) fn bounds(&self) -> Result<(Cursor, Seq), StorageError> {
        let head = self.number(keys::META_HEAD)?.unwrap_or(0);
        let reserved = self.number(keys::META_RESERVED)?.unwrap_or(0);
        let floor = Seq::new(self.number(keys::META_FLOOR)?.unwrap_or(1));
        self.forgettable.floor.store(floor.get(), Ordering::Release);
        Ok((Cursor::from_number(head.max(reserved)), floor))
    }

    /// Whether commits wait for the disk.
    pub(super) const fn fsync(&self) -> bool {
        self.fsync
    }

    /// A batch of changes that are made together or not at all. If it adds a row, there must be
    /// room for it on the disk; what only deletes makes room.
    pub(super) fn batch(&self) -> Batch<'_> {
        Batch { store: self, changes: WriteBatch::default(), needs_room: false, has_waited: false }
    }

    /// A batch of the sequencer, which waits for room by itself.
    pub(super) fn batch_with_room(&self) -> Batch<'_> {
        Batch { has_waited: true, ..self.batch() }
    }

    /// The room on the disk.
    pub(super) const fn room(&self) -> &Reserve {
        &self.room
    }

    pub(super) fn contains(&self, id: &ClaimedId) -> Result<bool, StorageError> {
        self.get(keys::IDS, id.as_bytes(), "look an id up").map(|row| row.is_some())
    }

    /// The row of an id.
    pub(super) fn id_row(&self, id: &ClaimedId) -> Result<Option<IdRow>, StorageError> {
        const OPERATION: &str = "look an id up";
        let Some(row) = self.get(keys::IDS, id.as_bytes(), OPERATION)? else {
            return Ok(None);
        };
        let row = IdRow::from_bytes(&row);
        row.map(Some).ok_or_else(|| StorageError::damaged(OPERATION, "id", id.as_bytes()))
    }

    pub(super) fn for_each_id(&self, mut each: impl FnMut(&ClaimedId) -> bool) -> Result<(), StorageError> {
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

    /// Calls `each` for the records from `first` on, until it says stop.
    pub(super) fn for_each_record(
        &self,
        first: Seq,
        mut each: impl FnMut(Seq, Record<'_>) -> Option<bool>,
    ) -> Result<(), StorageError> {
        self.for_each_row(keys::EVENTS, &keys::event_key(first), |key, value| {
            let (seq, record) = (keys::read_event_key(key)?, Record::read(value)?);
            each(seq, record)
        })
    }

    /// Calls `each` for the rows of a family from a key on, until it says stop. `None` means that a row is
    /// not what it should be.
    pub(super) fn for_each_row(
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

    /// A row of a family.
    pub(super) fn row(&self, family: &'static str, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.get(family, key, reading(family))?.map(|row| row.to_vec()))
    }

    /// The entries from `first` to `last`, at most so many events and about so many bytes.
    pub(super) fn read(
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

    /// How many bytes of records were ever written, as far as kept records tell.
    pub(super) fn bytes_written(&self) -> Result<u64, StorageError> {
        let bytes = self.newest(|record, length| record.bytes_before + length as u64)?;
        Ok(bytes.unwrap_or(0))
    }

    /// When the newest event that is kept was received, in Unix milliseconds.
    pub(super) fn newest_received_ms(&self) -> Result<Option<u64>, StorageError> {
        self.newest(|record, _| record.received_at_ms)
    }

    /// Looks at the newest record and its length.
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

    /// Forgets the events below `floor`, and lets go of the space that they occupy.
    pub(super) fn trim(&self, floor: Seq) -> Result<(), StorageError> {
        const OPERATION: &str = "trim old events";
        let family = self.family(keys::EVENTS, OPERATION)?;
        let (from, to) = (keys::event_key(Seq::new(0)), keys::event_key(floor));
        let mut batch = self.batch();
        batch.changes.delete_range_cf(family, from, to);
        batch.set_number(keys::META_FLOOR, floor.get());
        // Files are gone for good, so the floor must be on the disk before them.
        batch.commit_durably()?;
        self.forgettable.floor.store(floor.get(), Ordering::Release);
        // A range of keys ends before `to`, but a range of files takes its last key with it.
        let last = keys::event_key(Seq::new(floor.get().saturating_sub(1)));
        self.db
            .delete_file_in_range_cf(family, from, last)
            .map_err(|error| StorageError::new(OPERATION, error))
    }

    /// From now on compaction forgets ids of trimmed events that were created before this Unix time.
    pub(super) fn forget_ids_created_before(&self, seconds: u64) {
        self.forgettable.created_before.store(seconds, Ordering::Release);
    }

    /// A figure that RocksDB has of a column family, if it knows it.
    pub(super) fn property(&self, family: &str, property: &PropName) -> Option<u64> {
        self.db.property_int_value_cf(self.db.cf_handle(family)?, property).ok().flatten()
    }

    /// About how many ids there are.
    pub fn ids_estimate(&self) -> u64 {
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

/// Changes that are made together or not at all.
pub(super) struct Batch<'s> {
    store: &'s Store,
    changes: WriteBatch,
    /// Whether a row is added.
    needs_room: bool,
    /// Whether somebody has waited for room before.
    has_waited: bool,
}

impl Batch<'_> {
    /// Adds an event and its id.
    pub fn put_event(
        &mut self,
        seq: Seq,
        record: &[u8],
        id: &ClaimedId,
        row: IdRow,
    ) -> Result<(), StorageError> {
        self.put(keys::EVENTS, &keys::event_key(seq), record)?;
        self.put(keys::IDS, id.as_bytes(), &row.to_bytes())
    }

    /// Sets a row of a family.
    pub fn put(&mut self, family: &'static str, key: &[u8], value: &[u8]) -> Result<(), StorageError> {
        self.changes.put_cf(self.store.family(family, writing(family))?, key, value);
        self.needs_room = true;
        Ok(())
    }

    /// Deletes a row of a family.
    pub fn delete(&mut self, family: &'static str, key: &[u8]) -> Result<(), StorageError> {
        self.changes.delete_cf(self.store.family(family, writing(family))?, key);
        Ok(())
    }

    /// Sets a number of `meta`.
    pub fn set_number(&mut self, key: &[u8], number: u64) {
        // Without the column family the store would not have opened.
        if let Some(family) = self.store.db.cf_handle(keys::META) {
            self.changes.put_cf(family, key, number.to_be_bytes());
        }
    }

    /// Makes the changes, and waits for the disk if the store is configured so.
    pub fn commit(self) -> Result<(), StorageError> {
        let durably = self.store.fsync;
        self.write(durably)
    }

    /// Makes the changes and waits for the disk.
    pub fn commit_durably(self) -> Result<(), StorageError> {
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

/// What reading a family is called in an error.
pub(super) fn reading(family: &str) -> &'static str {
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

/// What writing a family is called in an error.
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

const fn mode_from(key: &[u8]) -> IteratorMode<'_> {
    IteratorMode::From(key, Direction::Forward)
}

/// What the system says of a disk without room.
const NO_SPACE: &str = "No space left on device";

/// A log that cannot be opened for lack of room.
fn full(path: &Path) -> OpenError {
    // What does not exist yet is on the file system of what it is to be in.
    let existing = path.ancestors().find(|folder| folder.exists()).unwrap_or(path);
    let free_bytes = FreeSpace::of(existing.to_owned()).bytes().unwrap_or(0);
    OpenError::Full { path: path.to_owned(), free_bytes, needed_bytes: free_bytes_needed() }
}

/// RocksDB says by text alone which kind of input or output error it met.
fn open_error(path: &Path, kind: &rocksdb::ErrorKind, reason: String) -> OpenError {
    let path = path.to_owned();
    if reason.contains(NO_SPACE) {
        return full(&path);
    }
    let is_lock = reason.contains("lock hold by current process") || reason.contains("While lock file");
    match kind {
        rocksdb::ErrorKind::IOError if is_lock && !reason.contains("ermission") => OpenError::Locked { path },
        rocksdb::ErrorKind::IOError if !reason.contains("No such file") => {
            OpenError::Unusable { path, reason }
        }
        _ => OpenError::Damaged { path, reason },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As RocksDB 10 says it on a full tmpfs.
    #[test]
    fn a_full_disk_at_the_start_says_make_room() {
        let reason = "IO error: No space left on device: While appending to file: /data/log/000012.sst: No space \
                      left on device";
        let error = open_error(Path::new("/"), &rocksdb::ErrorKind::IOError, reason.to_owned());
        let told = error.to_string();
        assert!(told.starts_with("make room: the disk under / is full"), "{told}");
        assert!(told.contains(&free_bytes_needed().to_string()), "{told}");
        assert!(!told.contains("IO error"), "{told}");
    }
}
