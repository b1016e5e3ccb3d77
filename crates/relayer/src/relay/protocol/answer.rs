//! The window of a request for stored events, and a summary of the answer.

use wire::Hints;

/// A span of `created_at` that is requested, in Unix seconds, both ends inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub since: u64,
    /// `None` for no end: the window includes events that are dated in the future.
    pub until: Option<u64>,
}

impl Window {
    pub(crate) fn end(self) -> u64 {
        self.until.unwrap_or(u64::MAX)
    }

    pub(crate) fn is_one_second(self) -> bool {
        self.until == Some(self.since)
    }

    pub(crate) fn contains(self, second: u64) -> bool {
        (self.since..=self.end()).contains(&second)
    }

    /// The older and the newer half of the window; `None` for a single second. A window without an
    /// end is divided after `newest`.
    pub(crate) fn halves(self, newest: u64) -> Option<[Self; 2]> {
        let Self { since, until } = self;
        match until {
            None => {
                let newest = newest.max(since);
                let after = Self { since: newest.checked_add(1)?, until: None };
                Some([Self { since, until: Some(newest) }, after])
            }
            Some(until) if until > since => {
                let middle = since + (until - since) / 2;
                Some([Self { since, until: Some(middle) }, Self { since: middle + 1, until: Some(until) }])
            }
            Some(_) => None,
        }
    }
}

/// A summary of the stored events before EOSE. Only events within the window count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The number of events, including oversized and malformed ones: the relay's cap counts them
    /// too.
    pub events: u32,
    /// `None` if no event had a readable date.
    pub span: Option<Span>,
    /// Whether the events came newest first.
    pub(crate) descends: bool,
    /// Whether the answer had events outside the window.
    pub(crate) strays: bool,
    /// What the relay says about events that it did not send (NIP-67).
    pub(crate) hints: Hints,
}

/// The dates of an answer's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub oldest: u64,
    pub newest: u64,
    /// The date of the event received last.
    last: u64,
}

impl Default for Answer {
    fn default() -> Self {
        Self { events: 0, span: None, descends: true, strays: false, hints: Hints::default() }
    }
}

impl Answer {
    /// Counts an event.
    pub(crate) fn note(&mut self, created_at: u64) {
        self.events = self.events.saturating_add(1);
        self.span = Some(match self.span {
            None => Span { oldest: created_at, newest: created_at, last: created_at },
            Some(Span { oldest, newest, last }) => {
                self.descends &= created_at <= last;
                Span { oldest: oldest.min(created_at), newest: newest.max(created_at), last: created_at }
            }
        });
    }

    /// Counts an event whose `created_at` is unknown because it was skipped or malformed.
    pub(crate) const fn note_undated(&mut self) {
        self.events = self.events.saturating_add(1);
    }
}
