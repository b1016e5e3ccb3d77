//! How the log lies in RocksDB: column families, keys and values.
//!
//! | column family | key | value |
//! |---|---|---|
//! | `events` | sequence (u64) | [`Record`] |
//! | `ids` | event id (32 bytes) | sequence (u64), `created_at` (u64) |
//! | `meta` | a name below | a number (u64) |
//! | `relays` | a letter for the [table](RelayTable), the relay's URL | what [`crate::relay`] writes |
//! | `cursors` | a sink's name | version (u8, now 1), cursor (u64) |
//!
//! Numbers are big-endian, so that keys sort as numbers do. One write batch holds a record, its id and the
//! new head, so they exist together or not at all. Trimming deletes a range of `events`; rows of `ids` stay
//! until an event of their age would no longer be admitted.
//!
//! The format's version is in `meta`. A version that this program does not know stops the start: reading a
//! layout that one does not know is how logs get lost.

use std::sync::Arc;

use bytes::Bytes;
use wire::VerifiedEvent;

use super::entry::{Cursor, Entry, Seq};
use super::mark::RelayTable;

/// The version of everything described here.
pub const FORMAT_VERSION: u64 = 3;

/// The version before there was `cursors`. It becomes the present one by opening it.
pub const FORMAT_WITHOUT_CURSORS: u64 = 2;

/// The version before there was `relays`. It becomes the present one by opening it.
pub const FORMAT_WITHOUT_RELAYS: u64 = 1;

/// Column family of records by sequence.
pub const EVENTS: &str = "events";
/// Column family of sequences by id.
pub const IDS: &str = "ids";
/// Column family of single numbers.
pub const META: &str = "meta";
/// Column family of what is kept of relays.
pub const RELAYS: &str = "relays";
/// Column family of the cursors of sinks.
pub const CURSORS: &str = "cursors";
/// All of them.
pub const FAMILIES: [&str; 5] = [EVENTS, IDS, META, RELAYS, CURSORS];

/// `meta`: [`FORMAT_VERSION`].
pub const META_FORMAT: &[u8] = b"format";
/// `meta`: the last sequence that was given.
pub const META_HEAD: &[u8] = b"head";
/// `meta`: the oldest sequence that is kept.
pub const META_FLOOR: &[u8] = b"floor";
/// `meta`: without fsync, sequences up to here may have been given, whatever `head` says after a power loss.
pub const META_RESERVED: &[u8] = b"reserved";

/// The key of a record.
pub const fn event_key(seq: Seq) -> [u8; 8] {
    seq.get().to_be_bytes()
}

/// The key of a relay's row.
pub fn relay_key(table: RelayTable, relay: &str) -> Vec<u8> {
    [&[table.prefix()], relay.as_bytes()].concat()
}

/// A number of `meta`.
pub fn read_number(value: &[u8]) -> Option<u64> {
    value.try_into().ok().map(u64::from_be_bytes)
}

/// A key of `events`.
pub fn read_event_key(key: &[u8]) -> Option<Seq> {
    read_number(key).map(Seq::new)
}

/// A row of `ids`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRow {
    /// Where the event is, or was.
    pub seq: Seq,
    /// The event's own time, which decides how long the row is kept.
    pub created_at: u64,
}

impl IdRow {
    /// The value as it is stored.
    pub fn to_bytes(self) -> [u8; 16] {
        (u128::from(self.seq.get()) << 64 | u128::from(self.created_at)).to_be_bytes()
    }

    /// Reads a stored value.
    pub fn from_bytes(value: &[u8]) -> Option<Self> {
        let (seq, created_at) = value.split_first_chunk::<8>()?;
        Some(Self { seq: read_event_key(seq)?, created_at: read_number(created_at)? })
    }
}

const CURSOR_VERSION: u8 = 1;

/// A value of `cursors`.
pub fn cursor_row(cursor: Cursor) -> Vec<u8> {
    [&[CURSOR_VERSION][..], &cursor.get().to_be_bytes()].concat()
}

/// Reads a value of `cursors`.
pub fn read_cursor_row(value: &[u8]) -> Option<Cursor> {
    read_number(value.strip_prefix(&[CURSOR_VERSION])?).map(Cursor::from_number)
}

/// A value of `events`: version (u8, now 1), `received_at` in Unix milliseconds (u64), the bytes of all
/// records before this one (u64), length (u16) and text of the relay's URL, the event's canonical JSON.
///
/// The running sum of bytes makes the size of any span of the log a subtraction, which retention uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<'a> {
    /// Unix milliseconds.
    pub received_at_ms: u64,
    /// Bytes of all records that were ever written before this one.
    pub bytes_before: u64,
    /// The relay's URL.
    pub relay: &'a str,
    /// The event's canonical JSON.
    pub json: &'a [u8],
}

const RECORD_VERSION: u8 = 1;

impl<'a> Record<'a> {
    /// Appends the stored form. URLs longer than a u16 can say do not occur
    /// (a [`RelayUrl`](crate::config::RelayUrl) has 1 KiB at most); one would be cut.
    pub fn write(&self, out: &mut Vec<u8>) {
        let relay_len = u16::try_from(self.relay.len()).unwrap_or(u16::MAX);
        out.push(RECORD_VERSION);
        out.extend_from_slice(&self.received_at_ms.to_be_bytes());
        out.extend_from_slice(&self.bytes_before.to_be_bytes());
        out.extend_from_slice(&relay_len.to_be_bytes());
        out.extend_from_slice(self.relay.as_bytes().get(..relay_len.into()).unwrap_or_default());
        out.extend_from_slice(self.json);
    }

    /// Reads the stored form; `None` if it is not one.
    pub fn read(value: &'a [u8]) -> Option<Self> {
        let rest = value.strip_prefix(&[RECORD_VERSION])?;
        let (received_at_ms, rest) = rest.split_first_chunk::<8>()?;
        let (bytes_before, rest) = rest.split_first_chunk::<8>()?;
        let (relay_len, rest) = rest.split_first_chunk::<2>()?;
        let (relay, json) = rest.split_at_checked(u16::from_be_bytes(*relay_len).into())?;
        Some(Self {
            received_at_ms: u64::from_be_bytes(*received_at_ms),
            bytes_before: u64::from_be_bytes(*bytes_before),
            relay: std::str::from_utf8(relay).ok()?,
            json,
        })
    }

    /// The entry that this record is, under its number.
    pub fn into_entry(self, seq: Seq) -> Option<Entry> {
        let event = VerifiedEvent::from_canonical(Bytes::copy_from_slice(self.json))?;
        Some(Entry::new(seq, self.received_at_ms, Arc::from(self.relay), event))
    }
}

/// The cursor that stands before `seq`.
pub const fn before(seq: Seq) -> Cursor {
    Cursor::from_number(seq.get().saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back() {
        let record = Record { received_at_ms: 1, bytes_before: 2, relay: "wss://a", json: b"{}" };
        let mut stored = Vec::new();
        record.write(&mut stored);
        assert_eq!(Record::read(&stored), Some(record));
        assert_eq!(stored.len(), 1 + 8 + 8 + 2 + 7 + 2, "the layout is a promise");
        for cut in 0..stored.len() - 2 {
            assert_eq!(Record::read(&stored[..cut]), None, "{cut}");
        }
    }

    #[test]
    fn an_id_row_reads_back() {
        let row = IdRow { seq: Seq::new(7), created_at: u64::MAX };
        assert_eq!(row.to_bytes()[..8], 7_u64.to_be_bytes());
        assert_eq!(IdRow::from_bytes(&row.to_bytes()), Some(row));
        assert_eq!(IdRow::from_bytes(&[0; 15]), None);
    }

    #[test]
    fn a_cursor_row_reads_back() {
        let row = cursor_row(Cursor::from_number(7));
        assert_eq!(row, [1, 0, 0, 0, 0, 0, 0, 0, 7], "the layout is a promise");
        assert_eq!(read_cursor_row(&row), Some(Cursor::from_number(7)));
        assert_eq!(read_cursor_row(&row[..8]), None);
        assert_eq!(read_cursor_row(&[2; 9]), None, "another version");
    }

    #[test]
    fn keys_sort_as_numbers_do() {
        assert!(event_key(Seq::new(255)) < event_key(Seq::new(256)));
    }
}
