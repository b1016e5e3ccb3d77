//! A relay's cap: how many events it puts into one answer, as stated (NIP-11) or observed, and
//! whether an answer of a given size is complete.
//!
//! Relays truncate answers silently. An answer therefore counts as complete only with evidence, and
//! observed behaviour counts for more than a stated cap.

use std::num::NonZeroU32;

use crate::limits::{PAGE_EVENTS_LEAST, PAGE_EVENTS_USUAL, RELAY_PAGE_EVENTS_MAX};
use crate::relay::information::Information;

/// How many sizes of answers are remembered, to notice repeated sizes.
const SIZES_KEPT: usize = 8;

/// What is known about a relay's cap.
#[derive(Debug, Clone, Default)]
pub struct Caps {
    /// NIP-11's `max_limit`.
    stated: Option<u32>,
    /// NIP-11's `default_limit`, for requests without a limit.
    stated_default: Option<u32>,
    /// The size of an answer that turned out to be cut.
    cut_at: Option<u32>,
    /// The largest answer so far.
    largest: u32,
    /// The smallest limit that the relay refused.
    refused: Option<u32>,
    /// Whether the relay refused every limit, so that requests have no limit.
    no_limit: bool,
    /// The sizes of the last answers.
    sizes: [u32; SIZES_KEPT],
    next_size: u8,
    /// The limit of the unanswered backfill request.
    asked: Option<u32>,
    /// The limit in use because connections broke during larger answers.
    lasting: Option<u32>,
}

/// Whether an answer is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// The answer is complete.
    Whole,
    /// The answer is complete if the stated cap is true.
    AsStated,
    /// There is no evidence either way.
    Unknown,
    /// The size looks like a cap: a round or a repeated number.
    Suspicious,
    /// The answer was cut, or has at least as many events as the cap allows.
    Cut,
}

/// The composition of an answer, which decides how its size is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// Stored events of one filter.
    Stored,
    /// Stored events of one filter, possibly with live events among them.
    StoredAndLive,
    /// Stored events of several filters, each with its own cap.
    Mixed,
}

impl Caps {
    /// Applies the caps that a NIP-11 document states.
    pub fn state(&mut self, information: &Information) {
        self.stated = information.max_limit.map(NonZeroU32::get);
        self.stated_default = information.default_limit.map(NonZeroU32::get);
    }

    /// The limit for requests; `None` for no limit.
    pub fn limit(&self) -> Option<u32> {
        if self.no_limit {
            return None;
        }
        let wanted = self.stated.or(self.cut_at).unwrap_or(PAGE_EVENTS_USUAL).clamp(1, RELAY_PAGE_EVENTS_MAX);
        Some(match self.refused {
            Some(refused) if refused <= wanted => (refused / 2).max(PAGE_EVENTS_LEAST),
            _ => wanted,
        })
    }

    /// The limit for a backfill request that is sent now. If the connection broke before the last
    /// request was answered, the limit is halved, but not below `least` unless the cap is lower.
    /// Each answer raises the limit again.
    pub fn ask(&mut self, least: u32) -> Option<u32> {
        if let Some(asked) = self.asked.take() {
            self.lasting = Some((asked / 2).max(PAGE_EVENTS_LEAST));
        }
        let limit = self.limit()?;
        let lasting = self.lasting.map_or(limit, |lasting| lasting.max(least));
        self.asked = Some(limit.min(lasting));
        self.asked
    }

    /// The limit of the unanswered backfill request, if there is one.
    pub const fn unanswered(&self) -> Option<u32> {
        self.asked
    }

    /// Whether the limit is reduced because connections break.
    pub(crate) const fn is_eased(&self) -> bool {
        self.lasting.is_some() || self.asked.is_some()
    }

    /// Records that the backfill request was answered or refused.
    pub fn answered(&mut self) {
        if self.asked.take().is_some() {
            let grown = self.lasting.map(|lasting| lasting.saturating_add(lasting / 4));
            self.lasting = grown.filter(|lasting| Some(*lasting) < self.limit());
        }
    }

    /// Records that the current limit was refused; `false` if there is no other limit to try.
    pub(crate) fn refuse_limit(&mut self) -> bool {
        match self.limit() {
            Some(limit) if limit > PAGE_EVENTS_LEAST => self.refused = Some(limit),
            Some(_) => self.no_limit = true,
            None => return false,
        }
        true
    }

    /// Judges the size of an answer to a request with this limit, and remembers the size.
    pub fn judge(&mut self, limit: Option<u32>, events: u32, basis: Basis) -> Size {
        let cap = [limit.or(self.stated_default), self.stated, self.cut_at].into_iter().flatten().min();
        let size = if cap.is_some_and(|cap| events >= cap) {
            Size::Cut
        } else if events < PAGE_EVENTS_LEAST || (basis != Basis::Mixed && events < self.largest) {
            Size::Whole
        } else if is_round(events) || self.sizes.contains(&events) {
            Size::Suspicious
        } else if cap.is_some_and(|cap| self.stated.or(self.cut_at) == Some(cap)) {
            Size::AsStated
        } else {
            Size::Unknown
        };
        if basis == Basis::Stored {
            self.largest = self.largest.max(events);
        }
        if let Some(place) = self.sizes.get_mut(usize::from(self.next_size) % SIZES_KEPT) {
            *place = events;
            self.next_size = self.next_size.wrapping_add(1) % SIZES_KEPT as u8;
        }
        size
    }

    /// Records that an answer of this size was cut.
    pub fn cut(&mut self, events: u32) {
        if self.largest <= events {
            self.cut_at = Some(events);
        }
    }

    /// Whether the relay is known to put more than `events` events into one answer.
    pub(crate) fn may_give_more_than(&self, events: u32) -> bool {
        self.largest > events || self.known().is_some_and(|cap| cap > events)
    }

    /// The cap that was observed, or else the stated one.
    pub fn known(&self) -> Option<u32> {
        self.cut_at.or(self.stated)
    }
}

/// Whether the number looks like a configured cap.
const fn is_round(number: u32) -> bool {
    number.is_multiple_of(50) || number.is_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stated(max_limit: u32) -> Caps {
        let mut caps = Caps::default();
        caps.state(&Information { max_limit: NonZeroU32::new(max_limit), ..Information::default() });
        caps
    }

    #[test]
    fn without_evidence_only_small_answers_are_complete() {
        let mut caps = Caps::default();
        assert_eq!(caps.limit(), Some(500));
        assert_eq!(caps.judge(caps.limit(), 500, Basis::Stored), Size::Cut);
        for (events, size) in [(0, Size::Whole), (19, Size::Whole), (131, Size::Unknown), (100, Size::Whole)]
        {
            assert_eq!(
                Caps { largest: 0, ..Caps::default() }.judge(Some(500), 19, Basis::Stored),
                Size::Whole
            );
            let mut caps = Caps { largest: if events == 100 { 131 } else { 0 }, ..Caps::default() };
            assert_eq!(caps.judge(Some(500), events, Basis::Stored), size, "{events}");
        }
        assert_eq!(Caps::default().judge(Some(500), 100, Basis::Stored), Size::Suspicious);
        let mut twice = Caps::default();
        assert_eq!(twice.judge(Some(500), 131, Basis::Stored), Size::Unknown);
        assert_eq!(twice.judge(Some(500), 131, Basis::Stored), Size::Suspicious);
        assert_eq!(twice.judge(Some(500), 130, Basis::Stored), Size::Whole, "it has given more than that");
    }

    #[test]
    fn only_answers_of_stored_events_of_one_filter_set_the_measure() {
        let mut caps = Caps::default();
        caps.judge(Some(500), 103, Basis::StoredAndLive);
        assert_eq!(caps.judge(Some(500), 99, Basis::Stored), Size::Unknown);
        caps.judge(Some(500), 131, Basis::Stored);
        assert_eq!(caps.judge(Some(500), 120, Basis::Mixed), Size::Unknown);
        assert_eq!(caps.judge(Some(500), 121, Basis::StoredAndLive), Size::Whole);
    }

    #[test]
    fn observed_behaviour_counts_for_more_than_a_stated_cap() {
        let mut caps = stated(1_000);
        assert_eq!(caps.limit(), Some(1_000));
        assert_eq!(caps.judge(Some(1_000), 1_000, Basis::Stored), Size::Cut);
        assert_eq!(caps.judge(Some(1_000), 731, Basis::Stored), Size::Whole, "it has given more than that");
        assert_eq!(
            stated(1_000).judge(Some(1_000), 731, Basis::Stored),
            Size::AsStated,
            "so far it has only said so"
        );
        let mut short = Caps { no_limit: true, stated_default: Some(100), ..Caps::default() };
        assert_eq!((short.limit(), short.judge(None, 100, Basis::Stored)), (None, Size::Cut));
        let mut liar = stated(1_000);
        assert_eq!(liar.judge(Some(1_000), 300, Basis::Stored), Size::Suspicious);
        liar.cut(300);
        assert_eq!(liar.judge(Some(1_000), 300, Basis::Stored), Size::Cut);
        assert_eq!(liar.known(), Some(300));
        assert_eq!(liar.judge(Some(1_000), 299, Basis::Stored), Size::Whole);
    }

    #[test]
    fn limits_shrink_while_connections_break_and_grow_with_answers() {
        let mut caps = Caps::default();
        assert_eq!(caps.ask(0), Some(500));
        assert_eq!([(); 7].map(|()| caps.ask(0)), [250, 125, 62, 31, 20, 20, 20].map(Some));
        assert_eq!(caps.ask(90), Some(90));
        assert_eq!(caps.ask(u32::MAX), Some(500));
        assert_eq!([(); 4].map(|()| caps.ask(0)), [250, 125, 62, 31].map(Some));
        caps.answered();
        assert_eq!(caps.ask(0), Some(38));
        caps.answered();
        for _ in 0..20 {
            caps.ask(0);
            caps.answered();
        }
        assert_eq!(caps.ask(0), Some(500));
        let mut caps = stated(100);
        caps.ask(0);
        assert_eq!((caps.ask(0), caps.limit()), (Some(50), Some(100)));
    }

    #[test]
    fn a_refused_limit_is_lowered_and_then_omitted() {
        let mut caps = Caps::default();
        let mut limits = Vec::new();
        while caps.refuse_limit() {
            limits.push(caps.limit());
        }
        assert_eq!(limits, [Some(250), Some(125), Some(62), Some(31), Some(20), None]);
        assert_eq!(stated(1_000_000).limit(), Some(RELAY_PAGE_EVENTS_MAX));
    }
}
