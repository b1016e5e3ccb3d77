//! Subscriptions that a relay accepts and then ends, and valid proofs of a key that a relay
//! rejects.

/// Where a relay ends a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndingPlace {
    /// CLOSED instead of EOSE, after the stored events.
    InsteadOfEose,
    /// CLOSED before EOSE, in one write.
    BeforeEose,
    /// CLOSED after EOSE, in one write.
    BehindEose,
    /// CLOSED instead of the first live event, which the client must request again.
    AtFirstEvent,
}

/// Subscriptions that a relay accepts and then ends with CLOSED.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// The point at which CLOSED is sent.
    pub place: EndingPlace,
    /// The reason, such as `error: shutting down idle subscription`.
    pub reason: String,
    /// The number of accepted REQs that end in this way.
    pub times: usize,
}

impl Ending {
    /// Ends this many subscriptions.
    pub fn times(times: usize, place: EndingPlace, reason: impl Into<String>) -> Self {
        Self { place, reason: reason.into(), times }
    }

    pub(crate) fn end(&mut self) -> Option<(EndingPlace, String)> {
        self.times = self.times.checked_sub(1)?;
        Some((self.place, self.reason.clone()))
    }
}

/// Valid answers to NIP-42 challenges that a relay rejects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubt {
    /// The reason in `["OK",id,false,reason]`.
    pub reason: String,
    /// The number of rejected answers.
    pub times: usize,
}

impl Doubt {
    /// Rejects this many answers.
    pub fn times(times: usize, reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), times }
    }

    pub(crate) fn doubt(&mut self) -> Option<String> {
        self.times = self.times.checked_sub(1)?;
        Some(self.reason.clone())
    }
}
