//! What the log occupies, in memory and on disk, for metrics and for whoever wonders where memory goes.

use rocksdb::properties as property;

use super::EventLog;
use super::keys;
use super::store::Store;

/// How a property is read: RocksDB answers each column family for itself, for the caches that families
/// share, or for the whole database.
#[derive(Debug, Clone, Copy)]
enum Scope {
    /// Sum over the column families.
    EachFamily,
    /// Events and ids share one block cache; the small rest has its own each.
    EachCache,
    /// Any column family gives the same answer.
    Database,
    /// 1 if it is so for any column family.
    AnyFamily,
}

const FIGURES: [(&str, &property::PropName, Scope); 9] = [
    ("estimate_num_keys", property::ESTIMATE_NUM_KEYS, Scope::EachFamily),
    ("memtables_bytes", property::CUR_SIZE_ALL_MEM_TABLES, Scope::EachFamily),
    ("block_cache_bytes", property::BLOCK_CACHE_USAGE, Scope::EachCache),
    ("table_readers_bytes", property::ESTIMATE_TABLE_READERS_MEM, Scope::EachFamily),
    ("live_sst_bytes", property::LIVE_SST_FILES_SIZE, Scope::EachFamily),
    ("pending_compaction_bytes", property::ESTIMATE_PENDING_COMPACTION_BYTES, Scope::EachFamily),
    ("running_compactions", property::NUM_RUNNING_COMPACTIONS, Scope::Database),
    ("running_flushes", property::NUM_RUNNING_FLUSHES, Scope::Database),
    ("is_write_stopped", property::IS_WRITE_STOPPED, Scope::AnyFamily),
];

impl EventLog {
    /// Bytes and events that the tail holds in memory.
    pub fn tail_figures(&self) -> (usize, usize) {
        self.tail.figures()
    }
}

impl Store {
    /// RocksDB's own figures, by name; 0 for one that it does not know.
    pub fn figures(&self) -> impl Iterator<Item = (&'static str, u64)> {
        FIGURES.iter().map(|(name, property, scope)| {
            let sum = |families: &[&str]| -> u64 {
                families.iter().filter_map(|family| self.property(family, property)).sum()
            };
            let value = match scope {
                Scope::EachFamily => sum(&keys::FAMILIES),
                Scope::EachCache => sum(&[keys::EVENTS, keys::META, keys::RELAYS, keys::CURSORS]),
                Scope::Database => sum(&[keys::EVENTS]),
                Scope::AnyFamily => sum(&keys::FAMILIES).min(1),
            };
            (*name, value)
        })
    }
}
