//! The stored forms of an event and of its id.

use std::sync::Arc;

use bytes::Bytes;
use wire::VerifiedEvent;

use super::entry::{Entry, Seq};
use super::keys::{read_event_key, read_number};
use super::log_id::LogId;

/// A value of `events`: version (u8, now 1), `received_at` in Unix milliseconds (u64), total bytes
/// of all earlier records (u64), length (u16) and text of the relay's URL, the event's canonical
/// JSON.
///
/// The running sum of bytes gives retention the size of any span of the log by a subtraction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub(crate) received_at_ms: u64,
    /// The total bytes of all earlier records, trimmed ones included.
    pub(crate) bytes_before: u64,
    pub(crate) relay: &'a str,
    pub(crate) json: &'a [u8],
}

const RECORD_VERSION: u8 = 1;

impl<'a> Record<'a> {
    /// Appends the stored form. A URL whose length exceeds a u16 would be cut, but a
    /// [`RelayUrl`](crate::config::RelayUrl) has at most 1 KiB.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let relay_len = u16::try_from(self.relay.len()).unwrap_or(u16::MAX);
        out.push(RECORD_VERSION);
        out.extend_from_slice(&self.received_at_ms.to_be_bytes());
        out.extend_from_slice(&self.bytes_before.to_be_bytes());
        out.extend_from_slice(&relay_len.to_be_bytes());
        out.extend_from_slice(self.relay.as_bytes().get(..relay_len.into()).unwrap_or_default());
        out.extend_from_slice(self.json);
    }

    /// Reads the stored form; `None` if the record is damaged.
    pub(crate) fn read(value: &'a [u8]) -> Option<Self> {
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

    /// The log entry of this record; `None` if the event is damaged.
    pub(crate) fn into_entry(self, log: LogId, seq: Seq) -> Option<Entry> {
        let event = VerifiedEvent::from_canonical(Bytes::copy_from_slice(self.json))?;
        Some(Entry::new(log, seq, self.received_at_ms, Arc::from(self.relay), event))
    }
}

/// A row of `ids`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IdRow {
    /// The sequence of the event. The event may be trimmed.
    pub(crate) seq: Seq,
    /// The event's `created_at`, which decides how long the row is kept.
    pub(crate) created_at: u64,
}

impl IdRow {
    pub(crate) fn to_bytes(self) -> [u8; 16] {
        (u128::from(self.seq.get()) << 64 | u128::from(self.created_at)).to_be_bytes()
    }

    /// Reads a stored value; `None` if the value is damaged.
    pub(crate) fn from_bytes(value: &[u8]) -> Option<Self> {
        let (seq, created_at) = value.split_first_chunk::<8>()?;
        Some(Self { seq: read_event_key(seq)?, created_at: read_number(created_at)? })
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
}
