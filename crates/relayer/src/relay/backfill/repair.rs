//! How a span of a relay's past is asked for, piece by piece, until it is proven or known to be a gap.
//!
//! This decides only: which window is asked next, and what an answer proves. It keeps to what NIP-01
//! promises, that a limited answer has the newest events, and checks even that: the events of an answer
//! must come newest first. Then a cut answer proves the span that it reaches down to, and the rest is asked
//! for next, so that a repair takes about as many requests as the relay's cap makes necessary. If they
//! do not, or if several filters were cut each by itself, a cut answer proves nothing, and the window is
//! halved. A single second that is cut cannot be asked for in parts: it is a gap.

use crate::relay::peer::{Basis, Caps, GapReason, Size};
use crate::relay::protocol::{Answer, Span, Window};

/// What an answer has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// Everything in this span, both ends inclusive, has been sent.
    Proven(u64, u64),
    /// This second has more than can be asked for.
    Gap(u64, GapReason),
}

/// A span that is being repaired.
#[derive(Debug)]
pub struct Repair {
    /// The windows that are still to be asked, the next one last. They do not overlap.
    windows: Vec<Window>,
    /// The last answer, if it may have been cut.
    doubtful: Option<Doubtful>,
    /// For how many events the next window must be asked, if the relay gives as many.
    least: u32,
    order: AnswerOrder,
    is_one_filter: bool,
}

/// In which order the relay's answers come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AnswerOrder {
    /// No answer has shown it.
    Unknown,
    /// Newest first, as NIP-01 has it: a cut answer is whole down to its oldest event.
    NewestFirst,
    /// Another, or each filter by itself: a cut answer says nothing of what is missing.
    Other,
}

/// An answer that may have been cut. If the next one has older events, it was.
#[derive(Debug, Clone, Copy)]
struct Doubtful {
    events: u32,
    /// The second that it reached down to.
    reached: u64,
    /// Whether that second is proven if it was not.
    is_all: bool,
}

impl Repair {
    /// The repair of a window. `filters` is into how many filters a request is split.
    pub fn new(window: Window, filters: usize) -> Self {
        Self {
            windows: vec![window],
            doubtful: None,
            least: 0,
            order: if filters <= 1 { AnswerOrder::Unknown } else { AnswerOrder::Other },
            is_one_filter: filters <= 1,
        }
    }

    /// What to ask next; `None` when it is done.
    pub fn next(&self) -> Option<Window> {
        self.windows.last().copied()
    }

    /// Into how many windows the rest has been divided.
    pub fn pieces(&self) -> usize {
        self.windows.len()
    }

    /// For how many events [`next`](Self::next) must be asked, if the relay gives as many: fewer could not show
    /// anything. A single second cannot be asked for in parts.
    pub fn least(&self) -> u32 {
        if self.next().is_some_and(Window::is_one_second) { u32::MAX } else { self.least }
    }

    /// Takes the answer to [`next`](Self::next), which was asked with this limit. `now` is the
    /// present second.
    pub fn answered(
        &mut self,
        answer: &Answer,
        limit: Option<u32>,
        caps: &mut Caps,
        now: u64,
    ) -> Vec<Finding> {
        let Some(window) = self.windows.pop() else { return Vec::new() };
        let mut findings = Vec::new();
        // Asked for less than the relay gives, an answer was cut by us.
        self.least = 0;
        let is_ours = limit.is_some() && limit < caps.limit() && limit == Some(answer.events);
        let is_older = |reached| answer.span.is_some_and(|span| span.oldest < reached);
        if let Some(Doubtful { events, reached, is_all }) = self.doubtful.take() {
            let was_cut = is_older(reached);
            if was_cut {
                caps.cut(events);
            }
            match (is_all, was_cut) {
                (true, true) => findings.push(Finding::Gap(reached, GapReason::BeyondCap { got: events })),
                (true, false) => findings.push(Finding::Proven(reached, reached)),
                (false, _) => {}
            }
        }
        if limit.is_some_and(|limit| answer.events > limit) {
            self.order = AnswerOrder::Other; // Something else is among them.
        }
        let basis = match (self.is_one_filter, window.until) {
            (false, _) => Basis::Mixed,
            (true, Some(_)) => Basis::Stored,
            (true, None) if answer.descends => Basis::Stored,
            (true, None) => Basis::StoredAndLive,
        };
        let mut size = caps.judge(limit, answer.events, basis);
        if answer.hints.more {
            size = Size::Cut; // It says so itself, however small the answer is.
        }
        match answer.span {
            Some(span) if is_ours && window.until == Some(span.oldest) => {
                // There may be more of that second: once more, for more.
                self.least = answer.events.saturating_mul(2);
                self.windows.push(window);
            }
            Some(span) if size != Size::Whole => self.cut(window, answer, span, size, &mut findings),
            None if size != Size::Whole => match window.halves(now) {
                // No event tells how far down it reached.
                Some(halves) => self.windows.extend(halves),
                None if size == Size::AsStated => {
                    findings.push(Finding::Proven(window.since, window.since));
                }
                None => findings.push(beyond_cap(window.since, answer)),
            },
            Some(_) | None => findings.push(Finding::Proven(window.since, window.end())),
        }
        if is_ours {
            self.doubtful = None; // It says nothing about the relay.
        }
        findings
    }

    /// Notes that the relay refuses to answer [`next`](Self::next) as a whole: it is asked in halves.
    pub fn refused(&mut self, reason: &str, now: u64) -> Vec<Finding> {
        let Some(window) = self.windows.pop() else { return Vec::new() };
        let mut findings = Vec::new();
        // Nothing will say any more whether the answer before was cut.
        if let Some(Doubtful { events, reached, is_all: true }) = self.doubtful.take() {
            findings.push(Finding::Gap(reached, GapReason::BeyondCap { got: events }));
        }
        match window.halves(now) {
            Some(halves) => self.windows.extend(halves),
            None => findings.push(Finding::Gap(window.since, GapReason::Refused(reason.into()))),
        }
        findings
    }

    fn cut(&mut self, window: Window, answer: &Answer, span: Span, size: Size, findings: &mut Vec<Finding>) {
        if !answer.descends {
            self.order = AnswerOrder::Other;
        } else if self.order == AnswerOrder::Unknown && span.oldest < span.newest {
            self.order = AnswerOrder::NewestFirst;
        }
        if window.is_one_second() {
            // Nothing that could be asked would show whether that was all.
            return findings.push(match size {
                Size::Whole | Size::AsStated => Finding::Proven(window.since, window.since),
                Size::Unknown | Size::Suspicious | Size::Cut => beyond_cap(window.since, answer),
            });
        }
        if self.order != AnswerOrder::NewestFirst {
            return self.windows.extend(window.halves(span.newest).into_iter().flatten());
        }
        if window.until == Some(span.oldest) {
            // All of it is of the window's last second, which must be asked for by itself.
            self.windows.push(Window { since: window.since, until: Some(span.oldest.saturating_sub(1)) });
            let is_all = size == Size::AsStated;
            self.doubtful = Some(Doubtful { events: answer.events, reached: span.oldest, is_all });
            if !is_all {
                findings.push(beyond_cap(span.oldest, answer));
            }
            return;
        }
        // The oldest second of the answer may be cut in the middle.
        findings.push(Finding::Proven(span.oldest.saturating_add(1), window.end()));
        self.windows.push(Window { since: window.since, until: Some(span.oldest) });
        self.doubtful = Some(Doubtful { events: answer.events, reached: span.oldest, is_all: false });
    }
}

/// A second that cannot be divided, and whose answer may have been cut.
const fn beyond_cap(second: u64, answer: &Answer) -> Finding {
    Finding::Gap(second, GapReason::BeyondCap { got: answer.events })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;
    use crate::relay::information::Information;

    /// A relay: how many events it has of each second, how many it gives at most, and in which order.
    #[derive(Debug, Clone)]
    struct Relay {
        events: BTreeMap<u64, u32>,
        cap: u32,
        states_cap: bool,
        newest_first: bool,
        /// Answers of more events never come through.
        lasts: u32,
        /// Each event whose second is a multiple of this is too large, or malformed: its date is
        /// not known.
        undated: Option<u64>,
    }

    impl Relay {
        fn of(events: &[(u64, u32)], cap: u32) -> Self {
            Self {
                events: events.iter().copied().collect(),
                cap,
                states_cap: false,
                newest_first: true,
                lasts: u32::MAX,
                undated: None,
            }
        }

        /// The answer, and how many events of each second it had.
        fn ask(&self, window: Window, limit: Option<u32>) -> (Answer, BTreeMap<u64, u32>) {
            let most = limit.unwrap_or(u32::MAX).min(self.cap);
            let within = self.events.range(window.since..=window.end());
            let mut times: Vec<u64> =
                within.flat_map(|(t, n)| std::iter::repeat_n(*t, *n as usize)).collect();
            if self.newest_first {
                times.reverse();
            }
            times.truncate(most as usize);
            let (mut answer, mut got) = (Answer::default(), BTreeMap::new());
            for time in times {
                match self.undated {
                    Some(every) if time % every == 0 => answer.note_undated(),
                    Some(_) | None => answer.note(time),
                }
                *got.entry(time).or_default() += 1;
            }
            (answer, got)
        }
    }

    struct Outcome {
        requests: usize,
        proven: BTreeSet<u64>,
        gaps: BTreeSet<u64>,
    }

    const FIRST: u64 = 1_000;
    const LAST: u64 = 1_060;

    /// Repairs `FIRST..` of the relay, and checks that nothing is claimed that is not so, and that every
    /// second is proven or a gap.
    fn repair(relay: &Relay) -> Outcome {
        let mut caps = Caps::default();
        if relay.states_cap {
            caps.state(&Information { max_limit: relay.cap.try_into().ok(), ..Information::default() });
        }
        let mut repair = Repair::new(Window { since: FIRST, until: None }, 1);
        let mut got: BTreeMap<u64, u32> = BTreeMap::new();
        let mut outcome = Outcome { requests: 0, proven: BTreeSet::new(), gaps: BTreeSet::new() };
        while let Some(window) = repair.next() {
            outcome.requests += 1;
            assert!(outcome.requests < 5_000, "it does not end");
            let limit = caps.ask(repair.least());
            let (answer, events) = relay.ask(window, limit);
            if answer.events > relay.lasts && repair.least() == 0 {
                continue;
            }
            caps.answered();
            for (second, count) in events {
                let known = got.entry(second).or_default();
                *known = (*known).max(count);
            }
            for finding in repair.answered(&answer, limit, &mut caps, LAST) {
                match finding {
                    Finding::Proven(since, until) => outcome.proven.extend(since..=until.min(LAST)),
                    Finding::Gap(second, _) => _ = outcome.gaps.insert(second),
                }
            }
        }
        for second in &outcome.proven {
            assert_eq!(got.get(second), relay.events.get(second), "{second} is not complete");
        }
        for second in FIRST..=LAST {
            assert!(outcome.proven.contains(&second) != outcome.gaps.contains(&second), "{second}");
        }
        outcome
    }

    #[test]
    fn a_relay_without_much_is_asked_once() {
        let outcome = repair(&Relay::of(&[(1_001, 3), (1_050, 2)], 500));
        assert_eq!((outcome.requests, outcome.gaps.len()), (1, 0));
    }

    #[test]
    fn a_cap_costs_about_as_many_requests_as_it_must() {
        let events: Vec<(u64, u32)> = (FIRST..=LAST).map(|second| (second, 40)).collect();
        for states_cap in [true, false] {
            let relay = Relay { states_cap, ..Relay::of(&events, 500) };
            let outcome = repair(&relay);
            assert!(outcome.gaps.is_empty());
            // 2,440 events by 500 are 5; each page asks for its oldest second again.
            assert!(outcome.requests <= 7, "{}", outcome.requests);
        }
    }

    #[test]
    fn a_second_beyond_the_cap_is_a_gap_and_nothing_else_is() {
        let outcome = repair(&Relay::of(&[(1_010, 30), (1_020, 2_000), (1_021, 5)], 500));
        assert_eq!(outcome.gaps, [1_020].into());
    }

    #[test]
    fn what_breaks_in_the_middle_is_asked_for_in_smaller_pieces_and_is_no_gap() {
        let events: Vec<(u64, u32)> = (FIRST..=LAST).map(|second| (second, 30)).collect();
        let outcome = repair(&Relay { lasts: 40, ..Relay::of(&events, 500) });
        assert!(outcome.gaps.is_empty(), "{:?}", outcome.gaps);
    }

    #[test]
    fn a_hidden_cap_is_found_out() {
        let relay = Relay::of(&[(1_010, 60), (1_020, 137), (1_021, 60)], 137);
        assert!(repair(&relay).gaps.contains(&1_020), "137 of 137 may be all, or not");
        let outcome = repair(&Relay::of(&[(1_010, 60), (1_020, 100), (1_021, 60)], 137));
        assert!(outcome.gaps.is_empty(), "{:?}", outcome.gaps);
    }

    #[test]
    fn what_is_refused_is_halved_down_to_a_gap() {
        let mut repair = Repair::new(Window { since: 10, until: Some(13) }, 1);
        let (mut asked, mut caps) = (Vec::new(), Caps::default());
        let mut found = Vec::new();
        while let Some(window) = repair.next() {
            asked.push((window.since, window.until.expect("closed")));
            found.extend(match window.since {
                10 => repair.refused("error: too many results", 20),
                _ => repair.answered(&Answer::default(), Some(500), &mut caps, 20),
            });
        }
        assert_eq!(asked, [(10, 13), (12, 13), (10, 11), (11, 11), (10, 10)]);
        let gap = Finding::Gap(10, GapReason::Refused("error: too many results".into()));
        assert_eq!(found, [Finding::Proven(12, 13), Finding::Proven(11, 11), gap]);
    }

    #[test]
    fn an_answer_of_nothing_that_can_be_dated_proves_nothing_that_may_have_been_cut() {
        let events: Vec<(u64, u32)> = (FIRST..=LAST).map(|second| (second, 30)).collect();
        let relay = Relay { undated: Some(1), ..Relay::of(&events, 500) };
        assert!(repair(&relay).gaps.is_empty(), "each second fits");
        let crowded = Relay { undated: Some(1), ..Relay::of(&[(1_010, 600), (1_020, 3)], 500) };
        assert_eq!(repair(&crowded).gaps, [1_010].into());
    }

    fn relays() -> impl Strategy<Value = Relay> {
        let events = proptest::collection::btree_map(FIRST - 10..=LAST, 1..90_u32, 0..40);
        let lasts = prop_oneof![Just(u32::MAX), 20..100_u32];
        let undated = proptest::option::of(1..5_u64);
        (events, 20..200_u32, any::<bool>(), any::<bool>(), lasts, undated).prop_map(
            |(events, cap, states_cap, newest_first, lasts, undated)| Relay {
                events,
                cap,
                states_cap,
                newest_first,
                lasts,
                undated,
            },
        )
    }

    proptest! {
        #[test]
        fn whatever_a_relay_has_and_however_it_cuts_nothing_untrue_is_claimed(
            relay in relays(),
        ) {
            repair(&relay);
        }
    }
}
