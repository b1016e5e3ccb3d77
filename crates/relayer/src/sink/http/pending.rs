//! Which posts a sink does not have, and thereby how far its cursor may move (invariant 4). No I/O, no clock.

use std::collections::BTreeMap;

use crate::event_log::{Cursor, Seq};

/// Posts that were begun and are not done, in whatever order they end.
#[derive(Debug)]
pub struct Pending {
    /// By their first sequences, with how many were begun before each.
    posts: BTreeMap<Seq, u64>,
    begun: u64,
    /// Up to here everything is in a post, passed over or lost.
    passed: Cursor,
}

impl Pending {
    /// Nothing is pending for a sink that has everything up to the cursor.
    pub const fn after(cursor: Cursor) -> Self {
        Self { posts: BTreeMap::new(), begun: 0, passed: cursor }
    }

    /// A post begins with this event.
    pub fn begin(&mut self, first: Seq) {
        self.posts.insert(first, self.begun);
        self.begun += 1;
    }

    /// A post that begins here is a part of the one before it.
    pub fn divide(&mut self, first: Seq) {
        let whole = self.posts.range(..=first).next_back().map_or(self.begun, |(_, begun)| *begun);
        self.posts.insert(first, whole);
    }

    /// The sink has the post that begins here, or never gets it.
    pub fn done(&mut self, first: Seq) {
        self.posts.remove(&first);
    }

    /// Everything up to here is in a post, passed over or lost.
    pub const fn pass(&mut self, up_to: Cursor) {
        self.passed = up_to;
    }

    /// Up to where the sink has everything that it gets.
    pub fn delivered(&self) -> Cursor {
        self.posts.first_key_value().map_or(self.passed, |(first, _)| Cursor::before(*first))
    }

    /// Posts that were begun since the oldest that is not done: what comes twice if it is lost sight of.
    pub fn ahead(&self) -> u64 {
        self.posts.first_key_value().map_or(0, |(_, begun)| self.begun - begun)
    }

    /// Whether nothing is pending.
    pub fn is_empty(&self) -> bool {
        self.posts.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seq(number: u64) -> Seq {
        Cursor::from_number(number - 1).next()
    }

    #[test]
    fn invariant_4_the_cursor_is_behind_the_first_post_that_is_not_done() {
        let mut pending = Pending::after(Cursor::from_number(4));
        for (first, last) in [(5, 6), (9, 12), (13, 13)] {
            pending.begin(seq(first));
            pending.pass(Cursor::from_number(last));
        }
        pending.pass(Cursor::from_number(20));
        assert_eq!((pending.delivered().get(), pending.ahead()), (4, 3));
        pending.done(seq(9));
        assert_eq!((pending.delivered().get(), pending.ahead()), (4, 3));
        pending.done(seq(5));
        assert_eq!((pending.delivered().get(), pending.ahead()), (12, 1));
        pending.done(seq(13));
        assert_eq!((pending.delivered().get(), pending.ahead(), pending.is_empty()), (20, 0, true));
    }

    #[test]
    fn the_parts_of_a_post_are_done_by_themselves_and_no_newer_than_it() {
        let mut pending = Pending::after(Cursor::START);
        pending.begin(seq(1));
        pending.pass(Cursor::from_number(8));
        pending.begin(seq(9));
        pending.divide(seq(1));
        pending.divide(seq(5));
        pending.done(seq(1));
        assert_eq!((pending.delivered().get(), pending.ahead()), (4, 2));
        pending.done(seq(5));
        assert_eq!((pending.delivered().get(), pending.ahead()), (8, 1));
    }
}
