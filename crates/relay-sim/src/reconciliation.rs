//! NIP-77: how a relay finds out with a client which events only one of them has.

use std::fmt;

use negentropy::{Id, NegentropyStorageVector};
use wire::VerifiedEvent;

/// How a relay does NIP-77.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Negentropy {
    /// Not at all: NEG-OPEN is answered `["NEG-ERR",id,"closed: this relay has no NIP-77"]`.
    #[default]
    Absent,
    /// Not at all: a NOTICE calls NEG-OPEN an unknown message.
    Unknown,
    /// It tells that it does (NIP-11), and never answers.
    Mute,
    /// It tells that it does, and answers every NEG-OPEN with NEG-ERR and this reason.
    Refused(String),
    /// It does, from its stored events; neither a filter's limit nor the cap counts.
    Served(Reconciling),
}

impl Negentropy {
    /// It does, without bounds but for frames of 60,000 bytes.
    pub const fn served() -> Self {
        Self::Served(Reconciling::new())
    }

    /// Whether NIP-11 tells of it.
    pub(crate) const fn is_told(&self) -> bool {
        !matches!(self, Self::Absent | Self::Unknown)
    }
}

/// The bounds of a relay's reconciliations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reconciling {
    pub(crate) records_max: usize,
    pub(crate) frame_bytes: u64,
    pub(crate) rounds_max: usize,
}

impl Default for Reconciling {
    fn default() -> Self {
        Self::new()
    }
}

impl Reconciling {
    /// No bounds but for frames of 60,000 bytes.
    pub const fn new() -> Self {
        Self { records_max: usize::MAX, frame_bytes: 60_000, rounds_max: usize::MAX }
    }

    /// A filter that more stored events match is answered
    /// `["NEG-ERR",id,"blocked: this query is too big"]`.
    pub const fn records_max(mut self, records: usize) -> Self {
        self.records_max = records;
        self
    }

    /// The size of the relay's messages before they are hex, at least 4,096; 0 for any. Default 60,000.
    pub const fn frame_bytes(mut self, bytes: u64) -> Self {
        self.frame_bytes = bytes;
        self
    }

    /// After so many answers a reconciliation ends with `["NEG-ERR",id,"closed: this takes too long"]`.
    pub const fn rounds_max(mut self, rounds: usize) -> Self {
        self.rounds_max = rounds;
        self
    }
}

/// A reconciliation under way.
pub(crate) struct Reconciliation {
    negentropy: negentropy::Negentropy<'static, NegentropyStorageVector>,
    rounds_left: usize,
}

impl Reconciliation {
    /// One over these events.
    pub fn new<'a>(
        settings: &Reconciling,
        events: impl Iterator<Item = &'a VerifiedEvent>,
    ) -> Result<Self, negentropy::Error> {
        let mut storage = NegentropyStorageVector::new();
        for event in events {
            storage.insert(event.created_at(), Id::from_byte_array(*event.id().as_bytes()))?;
        }
        storage.seal()?;
        let negentropy = negentropy::Negentropy::owned(storage, settings.frame_bytes)?;
        Ok(Self { negentropy, rounds_left: settings.rounds_max })
    }

    /// Answers a message in hex.
    ///
    /// # Errors
    /// The reason for which the relay ends the reconciliation.
    pub fn answer(&mut self, message: &str) -> Result<String, String> {
        let left = self.rounds_left.checked_sub(1);
        self.rounds_left = left.ok_or_else(|| "closed: this takes too long".to_owned())?;
        let mut query = vec![0; message.len() / 2];
        faster_hex::hex_decode(message.as_bytes(), &mut query)
            .map_err(|_| "invalid: the message is not hex".to_owned())?;
        let answer = self.negentropy.reconcile(&query).map_err(|error| format!("invalid: {error}"))?;
        Ok(faster_hex::hex_string(&answer))
    }
}

impl fmt::Debug for Reconciliation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reconciliation").field("rounds_left", &self.rounds_left).finish_non_exhaustive()
    }
}
