//! How RocksDB is set up for the log: what a database and each column family are opened with.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, CompactionDecision, DBCompressionType, DBRecoveryMode,
    LogLevel, Options,
};

use super::keys::{self, IdRow};
use crate::limits::DATABASE_OPEN_FILES_MAX;

/// Memory for blocks of both column families.
const BLOCK_CACHE_BYTES: usize = 64 << 20;
/// Memory for events and for ids that are committed but not yet in a sorted file; the write-ahead log has them.
const EVENTS_BUFFER_BYTES: usize = 64 << 20;
const IDS_BUFFER_BYTES: usize = 32 << 20;
/// The same few thousand rows are written again and again; merging them is quick.
const RELAYS_BUFFER_BYTES: usize = 8 << 20;
/// A few rows that are written ten times a second, of which only the last counts.
const CURSORS_BUFFER_BYTES: usize = 1 << 20;
/// Hardly ever written.
const DEAD_LETTERS_BUFFER_BYTES: usize = 4 << 20;
/// Hardly ever written, and then maybe 100,000 rows of 150 bytes at once.
const REGISTRY_BUFFER_BYTES: usize = 8 << 20;

/// Which ids may be forgotten: those of trimmed events that are too old to be admitted again. Shared
/// with RocksDB's compaction, which does the forgetting.
#[derive(Debug, Default)]
pub(super) struct Forgettable {
    /// Events below this sequence are trimmed.
    pub floor: AtomicU64,
    /// Events created before this Unix time (seconds) are not admitted; 0 if all ages are.
    pub created_before: AtomicU64,
}

impl Forgettable {
    fn contains(&self, row: &[u8]) -> bool {
        IdRow::from_bytes(row).is_some_and(|row| {
            row.seq.get() < self.floor.load(Ordering::Acquire)
                && row.created_at < self.created_before.load(Ordering::Acquire)
        })
    }
}

/// Those of the database.
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
    // With fsync only the last record of the write-ahead log can be torn, and what it held was never
    // confirmed; anything else missing is damage. Without fsync a power loss may leave holes.
    options.set_wal_recovery_mode(if fsync {
        DBRecoveryMode::TolerateCorruptedTailRecords
    } else {
        DBRecoveryMode::PointInTime
    });
    options
}

/// The column families, each with its own.
pub(super) fn column_families(forgettable: &Arc<Forgettable>) -> Vec<ColumnFamilyDescriptor> {
    let cache = Cache::new_lru_cache(BLOCK_CACHE_BYTES);
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(&cache);
    blocks.set_format_version(6);

    let mut events = Options::default();
    events.set_block_based_table_factory(&blocks);
    events.set_compression_type(DBCompressionType::Lz4);
    events.set_write_buffer_size(EVENTS_BUFFER_BYTES);

    // Ids are random: compression gains nothing, and nearly every look-up is for one that is not there.
    blocks.set_bloom_filter(10.0, false);
    let mut ids = Options::default();
    ids.set_block_based_table_factory(&blocks);
    ids.set_compression_type(DBCompressionType::None);
    ids.set_write_buffer_size(IDS_BUFFER_BYTES);
    ids.set_memtable_whole_key_filtering(true);
    ids.set_memtable_prefix_bloom_ratio(0.05);
    let forgettable = Arc::clone(forgettable);
    ids.set_compaction_filter(c"forget-ids", move |_, _, row| {
        if forgettable.contains(row) { CompactionDecision::Remove } else { CompactionDecision::Keep }
    });

    let with_buffer = |bytes| {
        let mut options = Options::default();
        options.set_write_buffer_size(bytes);
        options
    };

    vec![
        ColumnFamilyDescriptor::new(rocksdb::DEFAULT_COLUMN_FAMILY_NAME, Options::default()),
        ColumnFamilyDescriptor::new(keys::EVENTS, events),
        ColumnFamilyDescriptor::new(keys::IDS, ids),
        ColumnFamilyDescriptor::new(keys::META, Options::default()),
        ColumnFamilyDescriptor::new(keys::RELAYS, with_buffer(RELAYS_BUFFER_BYTES)),
        ColumnFamilyDescriptor::new(keys::CURSORS, with_buffer(CURSORS_BUFFER_BYTES)),
        ColumnFamilyDescriptor::new(keys::CONSUMERS, with_buffer(CURSORS_BUFFER_BYTES)),
        ColumnFamilyDescriptor::new(keys::DEAD_LETTERS, with_buffer(DEAD_LETTERS_BUFFER_BYTES)),
        ColumnFamilyDescriptor::new(keys::REGISTRY, with_buffer(REGISTRY_BUFFER_BYTES)),
        ColumnFamilyDescriptor::new(keys::FOLLOWERS, with_buffer(CURSORS_BUFFER_BYTES)),
    ]
}
