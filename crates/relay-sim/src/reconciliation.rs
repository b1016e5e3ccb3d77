//! NIP-77: a relay and a client determine which events only one side has.

use std::fmt;

use negentropy::{Id, NegentropyStorageVector};
use wire::VerifiedEvent;

/// How a relay does NIP-77.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Negentropy {
    /// Not supported: NEG-OPEN is answered with `["NEG-ERR",id,"closed: this relay has no
    /// NIP-77"]`.
    #[default]
    Absent,
    /// Not supported: a NOTICE calls NEG-OPEN an unknown message.
    Unknown,
    /// Announced (NIP-11), but never answered.
    Mute,
    /// Announced, but every NEG-OPEN is answered with NEG-ERR and this reason.
    Refused(String),
    /// Supported: reconciles the relay's stored events, without a filter's limit or the cap.
    Served(Reconciling),
}

impl Negentropy {
    /// Supported, without bounds except frames of 60,000 bytes.
    pub const fn served() -> Self {
        Self::Served(Reconciling::new())
    }

    /// Whether NIP-11 announces NIP-77.
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
    /// No bounds except frames of 60,000 bytes.
    pub const fn new() -> Self {
        Self { records_max: usize::MAX, frame_bytes: 60_000, rounds_max: usize::MAX }
    }

    /// A filter that matches more than `records` stored events is answered with
    /// `["NEG-ERR",id,"blocked: this query is too big"]`.
    pub const fn records_max(mut self, records: usize) -> Self {
        self.records_max = records;
        self
    }

    /// Sets the size of the relay's messages before hex encoding, at least 4,096; 0 for unlimited.
    /// Default 60,000.
    pub const fn frame_bytes(mut self, bytes: u64) -> Self {
        self.frame_bytes = bytes;
        self
    }

    /// After this many answers a reconciliation ends with `["NEG-ERR",id,"closed: this takes too
    /// long"]`.
    pub const fn rounds_max(mut self, rounds: usize) -> Self {
        self.rounds_max = rounds;
        self
    }
}

/// A reconciliation in progress.
pub(crate) struct Reconciliation {
    negentropy: negentropy::Negentropy<'static, NegentropyStorageVector>,
    rounds_left: usize,
}

impl Reconciliation {
    /// A reconciliation over these events.
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
    /// The reason why the relay ends the reconciliation.
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
