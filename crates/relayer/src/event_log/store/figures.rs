//! What the store occupies in memory and on disk, for the metrics.

use rocksdb::properties as property;

use super::Store;
use crate::event_log::keys;

/// The part of RocksDB that a property describes.
#[derive(Debug, Clone, Copy)]
enum Scope {
    /// One column family. The reported figure is the sum over all of them.
    EachFamily,
    /// The database, or the block cache that all column families share: each gives the same answer.
    Database,
    /// A flag; the figure is 1 if the flag is set for any column family.
    AnyFamily,
}

const FIGURES: [(&str, &property::PropName, Scope); 10] = [
    ("estimate_num_keys", property::ESTIMATE_NUM_KEYS, Scope::EachFamily),
    ("memtables_bytes", property::CUR_SIZE_ALL_MEM_TABLES, Scope::EachFamily),
    ("block_cache_bytes", property::BLOCK_CACHE_USAGE, Scope::Database),
    ("block_cache_pinned_bytes", property::BLOCK_CACHE_PINNED_USAGE, Scope::Database),
    ("table_readers_bytes", property::ESTIMATE_TABLE_READERS_MEM, Scope::EachFamily),
    ("live_sst_bytes", property::LIVE_SST_FILES_SIZE, Scope::EachFamily),
    ("pending_compaction_bytes", property::ESTIMATE_PENDING_COMPACTION_BYTES, Scope::EachFamily),
    ("running_compactions", property::NUM_RUNNING_COMPACTIONS, Scope::Database),
    ("running_flushes", property::NUM_RUNNING_FLUSHES, Scope::Database),
    ("is_write_stopped", property::IS_WRITE_STOPPED, Scope::AnyFamily),
];

impl Store {
    /// The figures with their names; 0 for a property that RocksDB does not know.
    pub fn figures(&self) -> impl Iterator<Item = (&'static str, u64)> {
        FIGURES.iter().map(|(name, property, scope)| {
            let sum = |families: &[&str]| -> u64 {
                families.iter().filter_map(|family| self.property(family, property)).sum()
            };
            let value = match scope {
                Scope::EachFamily => sum(&keys::FAMILIES),
                Scope::Database => sum(&[keys::EVENTS]),
                Scope::AnyFamily => sum(&keys::FAMILIES).min(1),
            };
            (*name, value)
        })
    }
}
