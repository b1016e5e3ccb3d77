//! The options of RocksDB for the database and for each column family.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, CompactionDecision, DBCompressionType, DBRecoveryMode,
    LogLevel, Options,
};

use strum::{Display, EnumString, VariantNames};

use crate::event_log::keys;
use crate::event_log::record::IdRow;
use crate::limits::DATABASE_OPEN_FILES_MAX;

/// Write buffers of a column family: one active buffer, and one that is being flushed.
const BUFFERS_MAX: usize = 2;
/// Disk space for what RocksDB writes besides buffers: its manifest, its own log, the indexes of
/// SST files.
const BESIDE_BUFFERS_BYTES: usize = 8 << 20;

/// Bytes of the write-ahead log at which the oldest write buffers are flushed.
const WAL_BYTES: u64 = 256 << 20;

/// How the records of events are compressed on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, Display, VariantNames)]
#[strum(serialize_all = "lowercase")]
pub enum EventCompression {
    None,
    Lz4,
    Zstd,
}

/// The settings of the log on disk.
#[derive(Debug, Clone, Copy)]
pub struct StoreOptions {
    /// Whether a commit waits until it is on the disk.
    pub fsync: bool,
    /// Memory for blocks of sorted files, shared by all column families.
    pub block_cache_bytes: usize,
    /// Memory for one write buffer of events; those of ids have half of it.
    pub write_buffer_bytes: usize,
    /// Threads that flush and compact.
    pub background_jobs: u16,
    pub compression: EventCompression,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            fsync: true,
            block_cache_bytes: 64 << 20,
            write_buffer_bytes: 64 << 20,
            background_jobs: 2,
            compression: EventCompression::Lz4,
        }
    }
}

impl StoreOptions {
    /// The bytes of disk that RocksDB may need at any time to flush its memory.
    pub fn free_bytes_needed(&self) -> u64 {
        let buffers: usize = families().map(|family| buffer_bytes(family, self.write_buffer_bytes)).sum();
        (BUFFERS_MAX * buffers + BESIDE_BUFFERS_BYTES) as u64
    }
}

fn families() -> impl Iterator<Item = &'static str> {
    keys::FAMILIES.into_iter().chain([rocksdb::DEFAULT_COLUMN_FAMILY_NAME])
}

/// Memory for rows of a column family that are committed to the write-ahead log but not yet in an
/// SST file.
fn buffer_bytes(family: &str, of_events: usize) -> usize {
    match family {
        keys::EVENTS => of_events,
        keys::IDS => of_events / 2,
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

pub(super) fn database_options(settings: &StoreOptions) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_max_background_jobs(settings.background_jobs.into());
    options.set_max_open_files(DATABASE_OPEN_FILES_MAX);
    options.set_bytes_per_sync(1 << 20);
    options.set_max_total_wal_size(WAL_BYTES.max(settings.free_bytes_needed()));
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(4 << 20);
    options.set_log_level(LogLevel::Warn);
    // With fsync, only the last record of the write-ahead log can be torn, and that record was
    // never confirmed; any other gap is damage. Without fsync, a power loss may leave gaps.
    options.set_wal_recovery_mode(if settings.fsync {
        DBRecoveryMode::TolerateCorruptedTailRecords
    } else {
        DBRecoveryMode::PointInTime
    });
    options
}

pub(super) fn column_families(
    settings: &StoreOptions,
    forgettable: &Arc<Forgettable>,
) -> Vec<ColumnFamilyDescriptor> {
    // A column family without a cache would get one of its own, of 32 MiB.
    let cache = Cache::new_lru_cache(settings.block_cache_bytes);
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(&cache);
    let mut small = Options::default();
    small.set_block_based_table_factory(&blocks);
    blocks.set_format_version(6);

    let mut events = Options::default();
    events.set_block_based_table_factory(&blocks);
    events.set_compression_type(match settings.compression {
        EventCompression::None => DBCompressionType::None,
        EventCompression::Lz4 => DBCompressionType::Lz4,
        EventCompression::Zstd => DBCompressionType::Zstd,
    });

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

    let described = families().map(|name| {
        let mut options = match name {
            keys::EVENTS => events.clone(),
            keys::IDS => ids.clone(),
            _ => small.clone(),
        };
        options.set_write_buffer_size(buffer_bytes(name, settings.write_buffer_bytes));
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
    use crate::event_log::EventLog;

    #[test]
    fn the_default_minimum_of_free_bytes_is_what_the_buffers_need() {
        let needed = StoreOptions::default().free_bytes_needed();
        assert_eq!(needed, 2 * (64 + 32 + 8 + 8 + 4 + 5) * (1 << 20) + (8 << 20));
        assert!(Config::default().storage.min_free_bytes >= needed, "{needed}");
    }

    /// Opens a log and returns it with the options that RocksDB wrote to a file.
    fn opened(options: StoreOptions) -> (TempDir, Arc<EventLog>, String) {
        let folder = TempDir::new().unwrap();
        let log = EventLog::open(folder.path(), options, 1 << 20).unwrap();
        let files = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path());
        let is_options = |file: &PathBuf| file.to_string_lossy().contains("OPTIONS-");
        let written = std::fs::read_to_string(files.filter(is_options).max().unwrap()).unwrap();
        (folder, log, written)
    }

    /// The section of a column family.
    fn section<'a>(options: &'a str, family: &str) -> &'a str {
        let (_, section) = options.split_once(&format!("[CFOptions \"{family}\"]")).unwrap();
        section.split("\n[").next().unwrap()
    }

    #[test]
    fn the_settings_reach_rocksdb() {
        for (compression, shown) in [
            (EventCompression::None, "kNoCompression"),
            (EventCompression::Lz4, "kLZ4Compression"),
            (EventCompression::Zstd, "kZSTD"),
        ] {
            let (_folder, log, written) = opened(StoreOptions {
                fsync: false,
                block_cache_bytes: 3 << 20,
                write_buffer_bytes: 200 << 20,
                background_jobs: 5,
                compression,
            });
            assert!(written.contains("\n  max_background_jobs=5\n"), "{written}");
            let wal = 2 * (200 + 100 + 25) + 8;
            assert!(written.contains(&format!("\n  max_total_wal_size={}\n", wal << 20)), "{written}");
            let events = section(&written, keys::EVENTS);
            assert!(events.contains(&format!("\n  compression={shown}\n")), "{events}");
            assert!(events.contains(&format!("\n  write_buffer_size={}\n", 200 << 20)), "{events}");
            let ids = section(&written, keys::IDS);
            assert!(ids.contains("\n  compression=kNoCompression\n"), "{ids}");
            assert!(ids.contains(&format!("\n  write_buffer_size={}\n", 100 << 20)), "{ids}");
            for family in keys::FAMILIES {
                let capacity = log.store().property(family, rocksdb::properties::BLOCK_CACHE_CAPACITY);
                assert_eq!(capacity, Some(3 << 20), "{family}");
            }
        }
    }

    #[test]
    fn rocksdb_opens_no_more_files_than_descriptors_are_left_to_it() {
        let (_folder, _log, options) = opened(StoreOptions { fsync: false, ..StoreOptions::default() });
        assert!(options.contains(&format!("\n  max_open_files={DATABASE_OPEN_FILES_MAX}\n")), "{options}");
    }
}
