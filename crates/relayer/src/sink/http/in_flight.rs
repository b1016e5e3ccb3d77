//! The batches in flight to a sink, which limit how far the sink's cursor may move (invariant 4).
//! No I/O, no clock.

use std::collections::BTreeMap;

use crate::event_log::{Cursor, Seq};

/// Batches that were begun and are not done. They may be completed in any order.
#[derive(Debug)]
pub(super) struct InFlight {
    /// For each batch, by its first sequence, the number of batches begun earlier.
    batches: BTreeMap<Seq, u64>,
    begun: u64,
    /// The cursor up to which every event is in a batch, skipped or lost.
    passed: Cursor,
}

impl InFlight {
    /// Starts with nothing in flight: the sink has everything up to the cursor.
    pub(super) const fn after(cursor: Cursor) -> Self {
        Self { batches: BTreeMap::new(), begun: 0, passed: cursor }
    }

    /// Adds a batch that begins with this event.
    pub(super) fn begin(&mut self, first: Seq) {
        self.batches.insert(first, self.begun);
        self.begun += 1;
    }

    /// Adds a part of a divided batch. The part begins with this event.
    pub(super) fn divide(&mut self, first: Seq) {
        let whole = self.batches.range(..=first).next_back().map_or(self.begun, |(_, begun)| *begun);
        self.batches.insert(first, whole);
    }

    /// Removes the batch that begins with this event, because it was delivered or refused.
    pub(super) fn done(&mut self, first: Seq) {
        self.batches.remove(&first);
    }

    /// Records that every event up to this cursor is in a batch, skipped or lost.
    pub(super) const fn pass(&mut self, up_to: Cursor) {
        self.passed = up_to;
    }

    /// The cursor up to which the sink has every event that it will get.
    pub(super) fn delivered(&self) -> Cursor {
        self.batches.first_key_value().map_or(self.passed, |(first, _)| Cursor::before(*first))
    }

    /// The number of batches begun since the oldest unfinished batch. A crash repeats all of them.
    pub(super) fn ahead(&self) -> u64 {
        self.batches.first_key_value().map_or(0, |(_, begun)| self.begun - begun)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seq(number: u64) -> Seq {
        Cursor::from_number(number - 1).next()
    }

    #[test]
    fn invariant_4_the_cursor_is_behind_the_first_batch_that_is_not_done() {
        let mut in_flight = InFlight::after(Cursor::from_number(4));
        for (first, last) in [(5, 6), (9, 12), (13, 13)] {
            in_flight.begin(seq(first));
            in_flight.pass(Cursor::from_number(last));
        }
        in_flight.pass(Cursor::from_number(20));
        assert_eq!((in_flight.delivered().get(), in_flight.ahead()), (4, 3));
        in_flight.done(seq(9));
        assert_eq!((in_flight.delivered().get(), in_flight.ahead()), (4, 3));
        in_flight.done(seq(5));
        assert_eq!((in_flight.delivered().get(), in_flight.ahead()), (12, 1));
        in_flight.done(seq(13));
        assert_eq!((in_flight.delivered().get(), in_flight.ahead(), in_flight.is_empty()), (20, 0, true));
    }

    #[test]
    fn parts_of_a_batch_are_done_separately_and_are_as_old_as_the_batch() {
        let mut in_flight = InFlight::after(Cursor::START);
        in_flight.begin(seq(1));
        in_flight.pass(Cursor::from_number(8));
        in_flight.begin(seq(9));
        in_flight.divide(seq(1));
        in_flight.divide(seq(5));
        in_flight.done(seq(1));
        assert_eq!((in_flight.delivered().get(), in_flight.ahead()), (4, 2));
        in_flight.done(seq(5));
        assert_eq!((in_flight.delivered().get(), in_flight.ahead()), (8, 1));
    }
}
