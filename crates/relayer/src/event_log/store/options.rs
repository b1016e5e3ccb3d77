//! The options of RocksDB for the database and for each column family.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, CompactionDecision, DBCompressionType, DBRecoveryMode,
    LogLevel, Options,
};

use crate::event_log::keys;
use crate::event_log::record::IdRow;
use crate::limits::DATABASE_OPEN_FILES_MAX;

/// Memory for blocks of `events` and `ids`.
const BLOCK_CACHE_BYTES: usize = 64 << 20;
/// Write buffers of a column family: one active buffer, and one that is being flushed.
const BUFFERS_MAX: usize = 2;
/// Disk space for what RocksDB writes besides buffers: its manifest, its own log, the indexes of
/// SST files.
const BESIDE_BUFFERS_BYTES: usize = 8 << 20;

/// Memory for rows of a column family that are committed to the write-ahead log but not yet in an
/// SST file.
fn buffer_bytes(family: &str) -> usize {
    match family {
        keys::EVENTS => 64 << 20,
        keys::IDS => 32 << 20,
        // The same few thousand rows are overwritten again and again, so flushing merges them
        // quickly.
        keys::RELAYS => 8 << 20,
        // Rows are rarely written, but sometimes 100,000 rows of 150 bytes at once.
        keys::REGISTRY => 8 << 20,
        // Rows are rarely written.
        keys::DEAD_LETTERS => 4 << 20,
        // A few rows that are rewritten ten times a second.
        _ => 1 << 20,
    }
}

/// The bytes of disk that RocksDB may need at any time to flush its memory.
pub fn free_bytes_needed() -> u64 {
    let families = keys::FAMILIES.iter().copied().chain([rocksdb::DEFAULT_COLUMN_FAMILY_NAME]);
    let buffers: usize = families.map(buffer_bytes).sum();
    (BUFFERS_MAX * buffers + BESIDE_BUFFERS_BYTES) as u64
}

/// Decides which ids may be deleted: the ids of trimmed events that are too old to be admitted
/// again. RocksDB's compaction shares this struct and deletes such ids.
#[derive(Debug, Default)]
pub(super) struct Forgettable {
    /// Events below this sequence are trimmed.
    pub floor: AtomicU64,
    /// Events created before this Unix time (seconds) are not admitted; 0 if events of any age are.
    pub(crate) created_before: AtomicU64,
}

impl Forgettable {
    fn contains(&self, row: &[u8]) -> bool {
        IdRow::from_bytes(row).is_some_and(|row| {
            row.seq.get() < self.floor.load(Ordering::Acquire)
                && row.created_at < self.created_before.load(Ordering::Acquire)
        })
    }
}

pub(super) fn database_options(fsync: bool) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_max_background_jobs(2);
    options.set_max_open_files(DATABASE_OPEN_FILES_MAX);
    options.set_bytes_per_sync(1 << 20);
    options.set_max_total_wal_size(256 << 20);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(4 << 20);
    options.set_log_level(LogLevel::Warn);
    // With fsync, only the last record of the write-ahead log can be torn, and that record was
    // never confirmed; any other gap is damage. Without fsync, a power loss may leave gaps.
    options.set_wal_recovery_mode(if fsync {
        DBRecoveryMode::TolerateCorruptedTailRecords
    } else {
        DBRecoveryMode::PointInTime
    });
    options
}

pub(super) fn column_families(forgettable: &Arc<Forgettable>) -> Vec<ColumnFamilyDescriptor> {
    let cache = Cache::new_lru_cache(BLOCK_CACHE_BYTES);
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(&cache);
    blocks.set_format_version(6);

    let mut events = Options::default();
    events.set_block_based_table_factory(&blocks);
    events.set_compression_type(DBCompressionType::Lz4);

    // Compression gains nothing, because ids are random. A Bloom filter helps, because nearly every
    // look-up misses.
    blocks.set_bloom_filter(10.0, false);
    let mut ids = Options::default();
    ids.set_block_based_table_factory(&blocks);
    ids.set_compression_type(DBCompressionType::None);
    ids.set_memtable_whole_key_filtering(true);
    ids.set_memtable_prefix_bloom_ratio(0.05);
    let forgettable = Arc::clone(forgettable);
    ids.set_compaction_filter(c"forget-ids", move |_, _, row| {
        if forgettable.contains(row) { CompactionDecision::Remove } else { CompactionDecision::Keep }
    });

    let names = keys::FAMILIES.iter().copied().chain([rocksdb::DEFAULT_COLUMN_FAMILY_NAME]);
    let described = names.map(|name| {
        let mut options = match name {
            keys::EVENTS => events.clone(),
            keys::IDS => ids.clone(),
            _ => Options::default(),
        };
        options.set_write_buffer_size(buffer_bytes(name));
        options.set_max_write_buffer_number(BUFFERS_MAX as i32);
        ColumnFamilyDescriptor::new(name, options)
    });
    described.collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use tempfile::TempDir;

    use super::*;
    use crate::config::Config;
    use crate::event_log::{EventLog, StoreOptions};

    #[test]
    fn the_default_minimum_of_free_bytes_is_what_the_buffers_need() {
        let needed = free_bytes_needed();
        assert_eq!(needed, 2 * (64 + 32 + 8 + 8 + 4 + 5) * (1 << 20) + (8 << 20));
        assert!(Config::default().storage.min_free_bytes >= needed, "{needed}");
    }

    #[test]
    fn rocksdb_opens_no_more_files_than_descriptors_are_left_to_it() {
        let folder = TempDir::new().unwrap();
        let _log = EventLog::open(folder.path(), StoreOptions { fsync: false }, 1 << 20).unwrap();
        // RocksDB writes its options to a file.
        let files = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path());
        let is_options = |file: &PathBuf| file.to_string_lossy().contains("OPTIONS-");
        let options = std::fs::read_to_string(files.filter(is_options).max().unwrap()).unwrap();
        assert!(options.contains(&format!("\n  max_open_files={DATABASE_OPEN_FILES_MAX}\n")), "{options}");
    }
}
