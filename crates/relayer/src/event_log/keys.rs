//! The layout of the log in RocksDB: column families and keys.
//!
//! | column family | key | value |
//! |---|---|---|
//! | `events` | sequence (u64) | a `Record` |
//! | `ids` | event id (32 bytes) | an `IdRow`: sequence (u64), `created_at` (u64) |
//! | `meta` | a name below | a number (u64), or the public key that owns the registry |
//! | `relays` | a letter for the [table](RelayTable), the relay's URL | what [`crate::relay`] writes |
//! | `cursors` | a sink's name | a [`CursorRow`](super::CursorRow) |
//! | `consumers` | the name of a consumer of `/ws` | a [`CursorRow`](super::CursorRow) |
//! | `dead_letters` | a sink's name, 0, sequence (u64) | a row of `dead_letters` |
//! | `registry` | `b` and a bot, or `f`, a bot, and a follower | what [`crate::fanout::registry::embedded`] writes |
//! | `followers` | a follower in hex, `/`, a name | a [`CursorRow`](super::CursorRow) |
//!
//! Numbers are big-endian, so that keys sort as numbers do. One write batch holds a record, its id
//! and the new head, so these exist together or not at all. Trimming deletes a range of `events`; a
//! row of `ids` stays until an event of its age would no longer be admitted.
//!
//! The version of the format is in `meta`. A log with an unknown version is not opened: a program
//! that misreads the layout could destroy the log.

use super::entry::Seq;
use super::mark::RelayTable;

/// The version of the layout above. Before version 6, cursors had no
/// [`has_acked`](super::CursorRow::has_acked).
pub const FORMAT_VERSION: u64 = 6;

/// The oldest version that can be opened. Opening converts the log to the current version.
pub(crate) const FORMAT_OLDEST: u64 = 5;

/// Column family of records, by sequence.
pub const EVENTS: &str = "events";
/// Column family of sequences, by event id.
pub const IDS: &str = "ids";
/// Column family of single values, by name.
pub const META: &str = "meta";
/// Column family of rows about relays.
pub const RELAYS: &str = "relays";
/// Column family of the cursors of sinks.
pub const CURSORS: &str = "cursors";
/// Column family of the cursors of consumers of `/ws`.
pub const CONSUMERS: &str = "consumers";
/// Column family of dead letters.
pub(crate) const DEAD_LETTERS: &str = "dead_letters";
/// Column family of the embedded registry: bots and follows.
pub(crate) const REGISTRY: &str = "registry";
/// Column family of the cursors of followers on `/fanout`.
pub const FOLLOWERS: &str = "followers";
/// All column families.
pub const FAMILIES: [&str; 9] =
    [EVENTS, IDS, META, RELAYS, CURSORS, CONSUMERS, DEAD_LETTERS, REGISTRY, FOLLOWERS];

/// `meta`: [`FORMAT_VERSION`].
pub const META_FORMAT: &[u8] = b"format";
/// `meta`: the last sequence that was assigned.
pub const META_HEAD: &[u8] = b"head";
/// `meta`: the oldest sequence that is kept.
pub const META_FLOOR: &[u8] = b"floor";
/// `meta`: the last reserved sequence, without fsync. After a power loss, sequences up to here may
/// have been assigned although `head` is lower.
pub const META_RESERVED: &[u8] = b"reserved";

/// `meta`: the number of the [`LogId`](super::LogId). Opening a log without this key adds it.
pub const META_LOG_ID: &[u8] = b"log_id";

/// `meta`: the public key (32 bytes) whose secrets the registry holds. Absent before the first
/// start with the fan-out.
pub(crate) const META_REGISTRY_OWNER: &[u8] = b"registry_owner";

pub(crate) const fn event_key(seq: Seq) -> [u8; 8] {
    seq.get().to_be_bytes()
}

pub(crate) fn relay_key(table: RelayTable, relay: &str) -> Vec<u8> {
    [&[table.prefix()], relay.as_bytes()].concat()
}

pub(crate) fn read_number(value: &[u8]) -> Option<u64> {
    value.try_into().ok().map(u64::from_be_bytes)
}

pub(crate) fn read_event_key(key: &[u8]) -> Option<Seq> {
    read_number(key).map(Seq::new)
}

/// The prefix of the keys of a sink's dead letters. Names contain no 0 byte.
pub(crate) fn dead_letters_prefix(sink: &str) -> Vec<u8> {
    [sink.as_bytes(), &[0]].concat()
}

pub(crate) fn dead_letter_key(sink: &str, seq: Seq) -> Vec<u8> {
    [dead_letters_prefix(sink).as_slice(), &event_key(seq)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_as_numbers_do() {
        assert!(event_key(Seq::new(255)) < event_key(Seq::new(256)));
    }

    #[test]
    fn the_dead_letters_of_a_sink_are_its_own() {
        assert!(dead_letter_key("a", Seq::new(9)).starts_with(&dead_letters_prefix("a")));
        assert!(!dead_letter_key("ab", Seq::new(9)).starts_with(&dead_letters_prefix("a")));
    }
}
