//! Subscriptions that a relay takes and ends, and proofs of a key that it does not take although
//! they are right.

/// Where a relay ends a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndingPlace {
    /// CLOSED instead of EOSE, behind the stored events.
    InsteadOfEose,
    /// CLOSED before EOSE, in one write.
    BeforeEose,
    /// CLOSED behind EOSE, in one write.
    BehindEose,
    /// CLOSED instead of the first live event, which the client must ask for again.
    AtFirstEvent,
}

/// Subscriptions that a relay takes and then ends with CLOSED.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// Where.
    pub place: EndingPlace,
    /// What is said, such as `error: shutting down idle subscription`.
    pub reason: String,
    /// How many of the REQs that the relay takes end so.
    pub times: usize,
}

impl Ending {
    /// Ends so many subscriptions.
    pub fn times(times: usize, place: EndingPlace, reason: impl Into<String>) -> Self {
        Self { place, reason: reason.into(), times }
    }

    pub(crate) fn end(&mut self) -> Option<(EndingPlace, String)> {
        self.times = self.times.checked_sub(1)?;
        Some((self.place, self.reason.clone()))
    }
}

/// Right answers to NIP-42 challenges that a relay does not accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubt {
    /// What is said in `["OK",id,false,reason]`.
    pub reason: String,
    /// How many of the relay's clients' answers it does not accept.
    pub times: usize,
}

impl Doubt {
    /// Does not accept so many answers.
    pub fn times(times: usize, reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), times }
    }

    pub(crate) fn doubt(&mut self) -> Option<String> {
        self.times = self.times.checked_sub(1)?;
        Some(self.reason.clone())
    }
}
