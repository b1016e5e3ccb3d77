//! Accepted subscriptions that a relay ends, and valid proofs of a key that a relay rejects.

/// The point at which a relay ends a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndingPlace {
    /// CLOSED instead of EOSE, after the stored events.
    InsteadOfEose,
    /// CLOSED just before EOSE, in one write.
    BeforeEose,
    /// CLOSED just after EOSE, in one write.
    BehindEose,
    /// CLOSED instead of the first live event; the client must request that event again.
    AtFirstEvent,
}

/// Ends accepted subscriptions with CLOSED.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    pub place: EndingPlace,
    /// The reason, such as `error: shutting down idle subscription`.
    pub reason: String,
    /// The number of accepted REQs to end.
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

/// Rejects valid answers to NIP-42 challenges.
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
