//! How many events a relay gives in one answer, as far as it says so (NIP-11) or has shown it; and what
//! that says of an answer: is it whole, or may it have been cut?
//!
//! Relays cut silently. So an answer counts as whole only if something speaks for it, and what a relay
//! says of itself counts for less than what it has done.

use std::num::NonZeroU32;

use crate::limits::{PAGE_EVENTS_LEAST, PAGE_EVENTS_USUAL, RELAY_PAGE_EVENTS_MAX};
use crate::relay::information::Information;

/// The sizes of answers that are remembered, to notice the same one twice.
const SIZES_KEPT: usize = 8;

/// What is known of a relay's cap.
#[derive(Debug, Clone, Default)]
pub struct Caps {
    /// NIP-11's `max_limit`.
    stated: Option<u32>,
    /// NIP-11's `default_limit`, for requests without one.
    stated_default: Option<u32>,
    /// An answer of this size was cut.
    cut_at: Option<u32>,
    /// The largest answer that it gave to one request.
    largest: u32,
    /// It refused a request with a limit like this or greater.
    refused: Option<u32>,
    /// It refuses every limit that we know, so none is asked with.
    no_limit: bool,
    /// The last answers' sizes.
    sizes: [u32; SIZES_KEPT],
    next_size: u8,
    /// A request for the past that has not been answered was with this limit.
    asked: Option<u32>,
    /// So many events at most come through before its connections break.
    lasting: Option<u32>,
}

/// Whether an answer is all that there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// It is.
    Whole,
    /// It is, if the relay has said the truth about its cap.
    AsStated,
    /// Nothing says that it was cut, and nothing that it was not.
    Unknown,
    /// It looks like a cap: a round number, or the same number twice.
    Suspicious,
    /// It was cut, or there were just as many events as the cap allows.
    Cut,
}

/// What an answer is made of, and so what its size can be compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// Stored events of one filter: what the relay gives at once.
    Stored,
    /// The same, and perhaps live events among them.
    StoredAndLive,
    /// Stored events of several filters, each with a cap of its own.
    Mixed,
}

impl Caps {
    /// Takes up what the relay says of itself.
    pub fn state(&mut self, information: &Information) {
        self.stated = information.max_limit.map(NonZeroU32::get);
        self.stated_default = information.default_limit.map(NonZeroU32::get);
    }

    /// The limit to ask with; `None` to leave it to the relay.
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

    /// The limit to ask for a window with, which counts as asked from now on. If the last such request was
    /// not answered because its connection broke, it is half of that one's, but `least` if that is more and
    /// the relay gives as much. With each answer it grows again.
    pub fn ask(&mut self, least: u32) -> Option<u32> {
        if let Some(asked) = self.asked.take() {
            self.lasting = Some((asked / 2).max(PAGE_EVENTS_LEAST));
        }
        let limit = self.limit()?;
        let lasting = self.lasting.map_or(limit, |lasting| lasting.max(least));
        self.asked = Some(limit.min(lasting));
        self.asked
    }

    /// The limit of a request that has not been answered, if there is one.
    pub const fn unanswered(&self) -> Option<u32> {
        self.asked
    }

    /// Whether less is asked for than the relay gives, because its connections break.
    pub const fn is_eased(&self) -> bool {
        self.lasting.is_some() || self.asked.is_some()
    }

    /// Notes that what was asked for was answered, or refused.
    pub fn answered(&mut self) {
        if self.asked.take().is_some() {
            let grown = self.lasting.map(|lasting| lasting.saturating_add(lasting / 4));
            self.lasting = grown.filter(|lasting| Some(*lasting) < self.limit());
        }
    }

    /// Notes that a request with the present limit was refused. `false` if there is no other to try.
    pub fn refuse_limit(&mut self) -> bool {
        match self.limit() {
            Some(limit) if limit > PAGE_EVENTS_LEAST => self.refused = Some(limit),
            Some(_) => self.no_limit = true,
            None => return false,
        }
        true
    }

    /// What the size of an answer to a request with this limit says, and remembers it.
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

    /// Notes that an answer of this size was cut: there was more.
    pub fn cut(&mut self, events: u32) {
        if self.largest <= events {
            self.cut_at = Some(events);
        }
    }

    /// Whether it may give more than so many events in one answer, as far as it has said so or shown it.
    pub fn may_give_more_than(&self, events: u32) -> bool {
        self.largest > events || self.known().is_some_and(|cap| cap > events)
    }

    /// The cap that is known of.
    pub fn known(&self) -> Option<u32> {
        self.cut_at.or(self.stated)
    }
}

/// Whether somebody would choose such a number as a cap.
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
    fn nothing_known_leaves_doubt_about_all_but_small_answers() {
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
    fn an_answer_that_may_hold_more_than_stored_events_of_one_filter_sets_no_measure() {
        let mut caps = Caps::default();
        caps.judge(Some(500), 103, Basis::StoredAndLive);
        assert_eq!(caps.judge(Some(500), 99, Basis::Stored), Size::Unknown);
        caps.judge(Some(500), 131, Basis::Stored);
        assert_eq!(caps.judge(Some(500), 120, Basis::Mixed), Size::Unknown);
        assert_eq!(caps.judge(Some(500), 121, Basis::StoredAndLive), Size::Whole);
    }

    #[test]
    fn what_a_relay_does_counts_for_more_than_what_it_says() {
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
    fn what_does_not_come_through_is_asked_for_in_smaller_parts() {
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
    fn a_limit_that_is_refused_is_lowered_and_then_left_out() {
        let mut caps = Caps::default();
        let mut limits = Vec::new();
        while caps.refuse_limit() {
            limits.push(caps.limit());
        }
        assert_eq!(limits, [Some(250), Some(125), Some(62), Some(31), Some(20), None]);
        assert_eq!(stated(1_000_000).limit(), Some(RELAY_PAGE_EVENTS_MAX));
    }
}
