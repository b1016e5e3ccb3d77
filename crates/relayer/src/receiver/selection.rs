//! The events that a receiver wants, and their format.

use bytes::Bytes;
use wire::{Filter, VerifiedEvent};

use crate::event_log::Entry;

/// The filters of a receiver. An event is sent only if it matches all of them.
#[derive(Debug, Clone, Default)]
pub struct Selection(Box<[Filter]>);

impl Selection {
    /// Creates a selection. Without filters it selects every event.
    pub fn new(filters: Vec<Filter>) -> Self {
        Self(filters.into())
    }

    /// Adds a filter that events must match as well.
    pub(crate) fn and(self, filter: Filter) -> Self {
        Self(self.0.into_iter().chain([filter]).collect())
    }

    pub fn wants(&self, event: &VerifiedEvent) -> bool {
        self.0.iter().all(|filter| filter.matches(event))
    }

    /// The filters that must all match.
    pub fn filters(&self) -> &[Filter] {
        &self.0
    }
}

/// The format of an event for a receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The bare JSON of the event.
    Event,
    /// The event in its envelope, with sequence, time and relay.
    Envelope,
}

impl Format {
    /// Returns the entry in this format: valid UTF-8, encoded once and shared by all receivers.
    pub fn of(self, entry: &Entry) -> &Bytes {
        match self {
            Self::Event => entry.event.json(),
            Self::Envelope => entry.envelope(),
        }
    }
}
