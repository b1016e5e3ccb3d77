//! Dead letters: events that a sink rejected. They are kept with the reason until an operator
//! replays or drops them.

use super::entry::{Entry, Seq};
use super::log_id::LogId;
use super::record::Record;
use super::{EventLog, StorageError, keys};

/// An event that a sink refused.
#[derive(Debug)]
pub struct DeadLetter {
    /// The event with its sequence.
    pub entry: Entry,
    /// When the event was refused, in Unix milliseconds.
    pub refused_at_ms: u64,
    /// The number of failed deliveries since the event was last part of a larger batch.
    pub tries: u32,
    /// The sink's answer.
    pub reason: String,
}

impl DeadLetter {
    fn read(log: LogId, seq: Seq, row: &[u8]) -> Option<Self> {
        let Row { refused_at_ms, tries, reason, record } = Row::from_bytes(row)?;
        Some(Self { refused_at_ms, tries, reason: reason.to_owned(), entry: record.into_entry(log, seq)? })
    }

    fn to_row(&self) -> Vec<u8> {
        let Entry { received_at_ms, relay, event, .. } = &self.entry;
        let record = Record { received_at_ms: *received_at_ms, bytes_before: 0, relay, json: event.json() };
        let Self { refused_at_ms, tries, reason, .. } = self;
        Row { refused_at_ms: *refused_at_ms, tries: *tries, reason, record }.to_bytes()
    }
}

/// A value of `dead_letters`: version (u8, now 1), time of the refusal in Unix milliseconds (u64),
/// the number of tries (u32), length (u16) and text of the reason, then the [`Record`]. The row
/// includes the event, because retention may trim the log.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row<'a> {
    refused_at_ms: u64,
    tries: u32,
    reason: &'a str,
    record: Record<'a>,
}

impl<'a> Row<'a> {
    const VERSION: u8 = 1;

    /// The stored form. A reason whose length exceeds a u16 is cut.
    fn to_bytes(&self) -> Vec<u8> {
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

    /// Reads a stored value; `None` if the value is damaged.
    fn from_bytes(value: &'a [u8]) -> Option<Self> {
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

impl EventLog {
    /// Stores some dead letters of a sink and deletes others, in one commit. A dead letter with the
    /// same sequence is replaced.
    ///
    /// # Errors
    /// When RocksDB fails; the process must then stop.
    pub fn change_dead_letters(
        &self,
        sink: &str,
        keep: &[DeadLetter],
        drop: &[Seq],
    ) -> Result<(), StorageError> {
        let mut changes = self.store.batch();
        let written = (|| {
            for letter in keep {
                let key = keys::dead_letter_key(sink, letter.entry.seq);
                changes.put(keys::DEAD_LETTERS, &key, &letter.to_row())?;
            }
            for seq in drop {
                changes.delete(keys::DEAD_LETTERS, &keys::dead_letter_key(sink, *seq))?;
            }
            changes.commit()
        })();
        self.note(written)
    }

    /// Deletes all dead letters of a sink.
    ///
    /// # Errors
    /// When RocksDB fails.
    pub fn delete_dead_letters(&self, sink: &str) -> Result<(), StorageError> {
        let mut seqs = Vec::new();
        self.for_each_dead_letter(sink, Seq::FIRST, |letter, _| {
            seqs.push(letter.entry.seq);
            true
        })?;
        self.change_dead_letters(sink, &[], &seqs)
    }

    /// Calls `each` with each dead letter of a sink from a sequence on, and with the letter's size
    /// in bytes, oldest first, until `each` returns `false`.
    ///
    /// # Errors
    /// When RocksDB fails.
    pub(crate) fn for_each_dead_letter(
        &self,
        sink: &str,
        from: Seq,
        mut each: impl FnMut(DeadLetter, usize) -> bool,
    ) -> Result<(), StorageError> {
        let prefix = keys::dead_letters_prefix(sink);
        let read =
            self.store.for_each_row(keys::DEAD_LETTERS, &keys::dead_letter_key(sink, from), |key, row| {
                let Some(seq) = key.strip_prefix(prefix.as_slice()) else { return Some(false) };
                Some(each(
                    DeadLetter::read(self.id(), keys::read_event_key(seq)?, row)?,
                    key.len() + row.len(),
                ))
            });
        self.note(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_letter_reads_back() {
        let record = Record { received_at_ms: 1, bytes_before: 2, relay: "wss://a", json: b"{}" };
        let row = Row { refused_at_ms: 3, tries: 4, reason: "400: é", record };
        let stored = row.to_bytes();
        assert_eq!(Row::from_bytes(&stored), Some(row.clone()));
        for cut in 0..stored.len() - 2 {
            assert_eq!(Row::from_bytes(&stored[..cut]), None, "{cut}");
        }
        let long = "é".repeat(40_000);
        let stored = Row { reason: &long, ..row }.to_bytes();
        assert_eq!(Row::from_bytes(&stored).unwrap().reason, &long[..65_534]);
    }
}
