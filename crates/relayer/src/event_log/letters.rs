//! Dead letters: events that a sink refused for good, kept with the reason until somebody decides.

use super::entry::{Entry, Seq};
use super::keys::{self, LetterRow, Record};
use super::log_id::LogId;
use super::{EventLog, StorageError};

/// An event that a sink refused.
#[derive(Debug)]
pub struct Letter {
    /// The event, under its sequence.
    pub entry: Entry,
    /// When it was refused, in Unix milliseconds.
    pub refused_at_ms: u64,
    /// How often it was sent in vain, since it was last in a larger batch.
    pub tries: u32,
    /// What the sink answered.
    pub reason: String,
}

impl Letter {
    fn read(log: LogId, seq: Seq, row: &[u8]) -> Option<Self> {
        let LetterRow { refused_at_ms, tries, reason, record } = LetterRow::from_bytes(row)?;
        Some(Self { refused_at_ms, tries, reason: reason.to_owned(), entry: record.into_entry(log, seq)? })
    }

    fn to_row(&self) -> Vec<u8> {
        let Entry { received_at_ms, relay, event, .. } = &self.entry;
        let record = Record { received_at_ms: *received_at_ms, bytes_before: 0, relay, json: event.json() };
        let Self { refused_at_ms, tries, reason, .. } = self;
        LetterRow { refused_at_ms: *refused_at_ms, tries: *tries, reason, record }.to_bytes()
    }
}

impl EventLog {
    /// Keeps letters of a sink, and drops others, in one commit. A letter that is there already is replaced.
    ///
    /// # Errors
    /// When RocksDB fails; the process must not go on then.
    pub fn change_letters(&self, sink: &str, keep: &[Letter], drop: &[Seq]) -> Result<(), StorageError> {
        let mut changes = self.store.batch();
        let written = (|| {
            for letter in keep {
                let key = keys::letter_key(sink, letter.entry.seq);
                changes.put(keys::DEAD_LETTERS, &key, &letter.to_row())?;
            }
            for seq in drop {
                changes.delete(keys::DEAD_LETTERS, &keys::letter_key(sink, *seq))?;
            }
            changes.commit()
        })();
        self.note(written)
    }

    /// Drops all letters of a sink.
    ///
    /// # Errors
    /// When RocksDB fails.
    pub fn delete_letters(&self, sink: &str) -> Result<(), StorageError> {
        let mut seqs = Vec::new();
        self.for_each_letter(sink, Seq::FIRST, |letter, _| {
            seqs.push(letter.entry.seq);
            true
        })?;
        self.change_letters(sink, &[], &seqs)
    }

    /// Calls `each` for a sink's letters from a sequence on, oldest first, with the bytes that each takes,
    /// until it says stop.
    ///
    /// # Errors
    /// When RocksDB fails.
    pub fn for_each_letter(
        &self,
        sink: &str,
        from: Seq,
        mut each: impl FnMut(Letter, usize) -> bool,
    ) -> Result<(), StorageError> {
        let prefix = keys::letters_prefix(sink);
        let read = self.store.for_each_row(keys::DEAD_LETTERS, &keys::letter_key(sink, from), |key, row| {
            let Some(seq) = key.strip_prefix(prefix.as_slice()) else { return Some(false) };
            Some(each(Letter::read(self.id(), keys::read_event_key(seq)?, row)?, key.len() + row.len()))
        });
        self.note(read)
    }
}
