//! How the log lies in RocksDB: column families, keys and values.
//!
//! | column family | key | value |
//! |---|---|---|
//! | `events` | sequence (u64) | [`Record`] |
//! | `ids` | event id (32 bytes) | sequence (u64), `created_at` (u64) |
//! | `meta` | a name below | a number (u64), or the public key that owns the registry |
//! | `relays` | a letter for the [table](RelayTable), the relay's URL | what [`crate::relay`] writes |
//! | `cursors` | a sink's name | [`CursorRow`] |
//! | `consumers` | the name of a consumer of `/ws` | [`CursorRow`] |
//! | `dead_letters` | a sink's name, 0, sequence (u64) | [`LetterRow`] |
//! | `registry` | `b` and a bot, or `f`, a bot, and a follower | what [`crate::fanout::registry::embedded`] writes |
//! | `followers` | a follower in hex, `/`, a name | [`CursorRow`] |
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
use super::log_id::LogId;
use super::mark::RelayTable;

/// The version of everything described here. Before 2 there was no `relays`, before 3 no `cursors`,
/// before 4 neither `consumers` nor `dead_letters`, before 5 neither `registry` nor `followers`,
/// before 6 no [`CursorRow::has_acked`].
pub const FORMAT_VERSION: u64 = 6;

/// The oldest version that becomes the present one by opening it: what was added is empty then.
pub const FORMAT_OLDEST: u64 = 1;

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
/// Column family of the cursors of consumers of `/ws`.
pub const CONSUMERS: &str = "consumers";
/// Column family of what sinks refused.
pub const DEAD_LETTERS: &str = "dead_letters";
/// Column family of the embedded registry: bots, and who follows them.
pub const REGISTRY: &str = "registry";
/// Column family of the cursors of followers on `/fanout`.
pub const FOLLOWERS: &str = "followers";
/// All of them.
pub const FAMILIES: [&str; 9] =
    [EVENTS, IDS, META, RELAYS, CURSORS, CONSUMERS, DEAD_LETTERS, REGISTRY, FOLLOWERS];

/// `meta`: [`FORMAT_VERSION`].
pub const META_FORMAT: &[u8] = b"format";
/// `meta`: the last sequence that was given.
pub const META_HEAD: &[u8] = b"head";
/// `meta`: the oldest sequence that is kept.
pub const META_FLOOR: &[u8] = b"floor";
/// `meta`: without fsync, sequences up to here may have been given, whatever `head` says after a power loss.
pub const META_RESERVED: &[u8] = b"reserved";

/// `meta`: the number of the [`LogId`]. A log of a version that did not know it gets one when it is
/// opened; the format's version stays, because that version ignores the row and keeps it valid.
pub const META_LOG_ID: &[u8] = b"log_id";

/// `meta`: the public key whose secrets the registry holds, 32 bytes; absent before the first start with fan-out.
pub const META_REGISTRY_OWNER: &[u8] = b"registry_owner";

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

/// A value of `cursors`, `consumers` and `followers`: version (u8, now 3), cursor (u64), since when
/// it is not used in Unix milliseconds (u64; 0: it is), whether it is paused (u8), whether it has
/// acknowledged (u8). Version 1 ends after the cursor, version 2 before the last byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CursorRow {
    /// Up to where everything is handled.
    pub cursor: Cursor,
    /// Since when nobody uses it, in Unix milliseconds: a sink that is not configured, a consumer that is
    /// not connected. 0 while somebody does.
    pub unused_since_ms: u64,
    /// Whether an operator has paused it.
    pub is_paused: bool,
    /// Whether the consumer has acknowledged an event. A consumer that never has may give way to a
    /// new one. Rows of older versions do not say it, and count as acknowledged.
    pub has_acked: bool,
}

impl CursorRow {
    const VERSION: u8 = 3;
    const VERSION_WITHOUT_ACKED: u8 = 2;
    const VERSION_OF_CURSOR_ALONE: u8 = 1;

    /// Of a sink, or of a consumer that has acknowledged, which is in use.
    pub const fn at(cursor: Cursor) -> Self {
        Self { cursor, unused_since_ms: 0, is_paused: false, has_acked: true }
    }

    /// The value as it is stored.
    pub fn to_bytes(self) -> Vec<u8> {
        let numbers = [self.cursor.get().to_be_bytes(), self.unused_since_ms.to_be_bytes()];
        [&[Self::VERSION], numbers.as_flattened(), &[self.is_paused.into(), self.has_acked.into()]].concat()
    }

    /// Reads a stored value.
    pub fn from_bytes(value: &[u8]) -> Option<Self> {
        let (version, rest) = value.split_first()?;
        let (cursor, rest) = rest.split_first_chunk::<8>()?;
        let cursor = Cursor::from_number(u64::from_be_bytes(*cursor));
        let row = |since: &[u8; 8], is_paused: u8, has_acked: u8| Self {
            cursor,
            unused_since_ms: u64::from_be_bytes(*since),
            is_paused: is_paused == 1,
            has_acked: has_acked == 1,
        };
        match (*version, rest.split_first_chunk::<8>()) {
            (Self::VERSION_OF_CURSOR_ALONE, None) if rest.is_empty() => Some(Self::at(cursor)),
            (Self::VERSION_WITHOUT_ACKED, Some((since, &[is_paused @ 0..=1]))) => {
                Some(row(since, is_paused, 1))
            }
            (Self::VERSION, Some((since, &[is_paused @ 0..=1, has_acked @ 0..=1]))) => {
                Some(row(since, is_paused, has_acked))
            }
            _ => None,
        }
    }
}

/// The beginning of the keys of a sink's dead letters. A name has no 0.
pub fn letters_prefix(sink: &str) -> Vec<u8> {
    [sink.as_bytes(), &[0]].concat()
}

/// The key of a dead letter.
pub fn letter_key(sink: &str, seq: Seq) -> Vec<u8> {
    [letters_prefix(sink).as_slice(), &event_key(seq)].concat()
}

/// A value of `dead_letters`: version (u8, now 1), when the sink refused it in Unix milliseconds (u64), how
/// often it was tried (u32), length (u16) and text of the reason, then what `events` has of it. It holds the
/// event itself, because retention may take it out of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LetterRow<'a> {
    /// Unix milliseconds.
    pub refused_at_ms: u64,
    /// How often it was sent in vain, since it was last in a larger batch.
    pub tries: u32,
    /// What the sink answered.
    pub reason: &'a str,
    /// The event as it is in the log.
    pub record: Record<'a>,
}

impl<'a> LetterRow<'a> {
    const VERSION: u8 = 1;

    /// The value as it is stored. A reason that is longer than a u16 can say is cut.
    pub fn to_bytes(&self) -> Vec<u8> {
        let most = self.reason.len().min(u16::MAX.into());
        let reason = (0..=most).rev().find_map(|end| self.reason.get(..end)).unwrap_or_default();
        let mut out = vec![Self::VERSION];
        out.extend_from_slice(&self.refused_at_ms.to_be_bytes());
        out.extend_from_slice(&self.tries.to_be_bytes());
        out.extend_from_slice(&u16::try_from(reason.len()).unwrap_or_default().to_be_bytes());
        out.extend_from_slice(reason.as_bytes());
        self.record.write(&mut out);
        out
    }

    /// Reads a stored value.
    pub fn from_bytes(value: &'a [u8]) -> Option<Self> {
        let rest = value.strip_prefix(&[Self::VERSION])?;
        let (refused_at_ms, rest) = rest.split_first_chunk::<8>()?;
        let (tries, rest) = rest.split_first_chunk::<4>()?;
        let (length, rest) = rest.split_first_chunk::<2>()?;
        let (reason, record) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
        Some(Self {
            refused_at_ms: u64::from_be_bytes(*refused_at_ms),
            tries: u32::from_be_bytes(*tries),
            reason: std::str::from_utf8(reason).ok()?,
            record: Record::read(record)?,
        })
    }
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

    /// The entry that this record is, under its number in a log.
    pub fn into_entry(self, log: LogId, seq: Seq) -> Option<Entry> {
        let event = VerifiedEvent::from_canonical(Bytes::copy_from_slice(self.json))?;
        Some(Entry::new(log, seq, self.received_at_ms, Arc::from(self.relay), event))
    }
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
        for row in [
            CursorRow::at(Cursor::from_number(7)),
            CursorRow { cursor: Cursor::START, unused_since_ms: 8, is_paused: true, has_acked: false },
        ] {
            let stored = row.to_bytes();
            assert_eq!((stored.len(), stored[0]), (19, 3), "the layout is a promise");
            assert_eq!(CursorRow::from_bytes(&stored), Some(row));
            for cut in 0..stored.len() {
                assert_eq!(CursorRow::from_bytes(&stored[..cut]), None, "{cut}");
            }
        }
        let old = [1, 0, 0, 0, 0, 0, 0, 0, 7];
        assert_eq!(CursorRow::from_bytes(&old), Some(CursorRow::at(Cursor::from_number(7))));
        assert_eq!(CursorRow::from_bytes(&[old.as_slice(), &[0]].concat()), None);
        let second = [&[2][..], &7_u64.to_be_bytes(), &8_u64.to_be_bytes(), &[0]].concat();
        let read = CursorRow { unused_since_ms: 8, ..CursorRow::at(Cursor::from_number(7)) };
        assert_eq!(CursorRow::from_bytes(&second), Some(read), "what it does not say counts as acknowledged");
        assert_eq!(CursorRow::from_bytes(&[4; 19]), None, "another version");
    }

    #[test]
    fn a_letter_row_reads_back() {
        let record = Record { received_at_ms: 1, bytes_before: 2, relay: "wss://a", json: b"{}" };
        let row = LetterRow { refused_at_ms: 3, tries: 4, reason: "400: é", record };
        let stored = row.to_bytes();
        assert_eq!(LetterRow::from_bytes(&stored), Some(row.clone()));
        for cut in 0..stored.len() - 2 {
            assert_eq!(LetterRow::from_bytes(&stored[..cut]), None, "{cut}");
        }
        let long = "é".repeat(40_000);
        let stored = LetterRow { reason: &long, ..row }.to_bytes();
        assert_eq!(LetterRow::from_bytes(&stored).unwrap().reason, &long[..65_534]);
        assert!(letter_key("a", Seq::new(9)).starts_with(&letters_prefix("a")));
        assert!(!letter_key("ab", Seq::new(9)).starts_with(&letters_prefix("a")));
    }

    #[test]
    fn keys_sort_as_numbers_do() {
        assert!(event_key(Seq::new(255)) < event_key(Seq::new(256)));
    }
}
