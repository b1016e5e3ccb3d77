//! Which events a receiver wants, and in which form.

use bytes::Bytes;
use wire::{Filter, VerifiedEvent};

use crate::event_log::Entry;

/// Which events a receiver wants: those that match all of its filters.
#[derive(Debug, Clone, Default)]
pub struct Selection(Box<[Filter]>);

impl Selection {
    /// The events that match all of these filters; every event if there are none.
    pub fn new(filters: Vec<Filter>) -> Self {
        Self(filters.into())
    }

    /// Whether an event is wanted.
    pub fn wants(&self, event: &VerifiedEvent) -> bool {
        self.0.iter().all(|filter| filter.matches(event))
    }

    /// The filters that must all match.
    pub fn filters(&self) -> &[Filter] {
        &self.0
    }
}

/// The form in which a receiver gets an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The event's JSON and nothing else.
    Event,
    /// The event in its envelope, with sequence, time and relay.
    Envelope,
}

impl Format {
    /// The entry in this form: valid UTF-8, made once for all receivers.
    pub fn of(self, entry: &Entry) -> &Bytes {
        match self {
            Self::Event => entry.event.json(),
            Self::Envelope => entry.envelope(),
        }
    }
}
