//! Decides how a window is requested, part by part, until each second is proven or known to be a
//! gap.
//!
//! This module does no I/O: it decides which window comes next and what an answer proves. NIP-01
//! promises that a limited answer has the newest events. If the events come newest first, we trust
//! the promise: a truncated answer proves the span down to its oldest event, and the rest is
//! requested next, so a repair takes about as many requests as the relay's cap requires. If events
//! come in another order, or a request has several filters, a truncated answer proves nothing, and
//! the window is halved. A single second cannot be halved: if its answer is truncated, the second
//! is a gap.

use crate::relay::peer::{Basis, Caps, GapReason, Size};
use crate::relay::protocol::{Answer, Span, Window};

/// A fact that an answer has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The relay has sent everything in this span, both ends inclusive.
    Proven(u64, u64),
    /// This second stays a gap.
    Gap(u64, GapReason),
}

/// The state of one window's repair.
#[derive(Debug)]
pub(crate) struct Repair {
    /// The disjoint windows to request, the next one last.
    windows: Vec<Window>,
    /// The last answer, if it may have been cut.
    doubtful: Option<Doubtful>,
    /// The smallest useful limit for the next window.
    least: u32,
    order: AnswerOrder,
    is_one_filter: bool,
}

/// The order of events in the relay's answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AnswerOrder {
    /// No answer has shown an order yet.
    Unknown,
    /// Newest first, as NIP-01 says: a cut answer is complete down to its oldest event.
    NewestFirst,
    /// Another order, or each filter separately: a cut answer does not show what is missing.
    Other,
}

/// An answer that may have been cut. If the next answer has older events, this one was cut.
#[derive(Debug, Clone, Copy)]
struct Doubtful {
    events: u32,
    /// The date of the answer's oldest event.
    reached: u64,
    /// Whether the second at `reached` is proven if the answer was not cut.
    is_all: bool,
}

impl Repair {
    /// Starts the repair of a window. `filters` is the number of filters in a request.
    pub fn new(window: Window, filters: usize) -> Self {
        Self {
            windows: vec![window],
            doubtful: None,
            least: 0,
            order: if filters <= 1 { AnswerOrder::Unknown } else { AnswerOrder::Other },
            is_one_filter: filters <= 1,
        }
    }

    /// The next window; `None` when the repair is done.
    pub fn next(&self) -> Option<Window> {
        self.windows.last().copied()
    }

    /// The number of windows left.
    pub fn pieces(&self) -> usize {
        self.windows.len()
    }

    /// The smallest useful limit for [`next`](Self::next): a smaller limit could prove nothing. A
    /// single second must be requested as a whole.
    pub fn least(&self) -> u32 {
        if self.next().is_some_and(Window::is_one_second) { u32::MAX } else { self.least }
    }

    /// Handles the answer to a request for [`next`](Self::next) with this limit. `now` is the
    /// current second.
    pub fn answered(
        &mut self,
        answer: &Answer,
        limit: Option<u32>,
        caps: &mut Caps,
        now: u64,
    ) -> Vec<Finding> {
        let Some(window) = self.windows.pop() else { return Vec::new() };
        let mut findings = Vec::new();
        // If our limit is below the relay's, our limit cut the answer.
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
            // The answer exceeds the limit: it has other events, too.
            self.order = AnswerOrder::Other;
        }
        let basis = match (self.is_one_filter, window.until) {
            (false, _) => Basis::Mixed,
            (true, Some(_)) => Basis::Stored,
            (true, None) if answer.descends => Basis::Stored,
            (true, None) => Basis::StoredAndLive,
        };
        let mut size = caps.judge(limit, answer.events, basis);
        if answer.hints.more {
            size = Size::Cut; // The relay says so (NIP-67), even if the answer is small.
        }
        match answer.span {
            Some(span) if is_ours && window.until == Some(span.oldest) => {
                // The window's last second may have more events: it is requested again with a
                // larger limit.
                self.least = answer.events.saturating_mul(2);
                self.windows.push(window);
            }
            Some(span) if size != Size::Whole => self.cut(window, answer, span, size, &mut findings),
            None if size != Size::Whole => match window.halves(now) {
                // Without a dated event, it is unknown how far the answer reached.
                Some(halves) => self.windows.extend(halves),
                None if size == Size::AsStated => {
                    findings.push(Finding::Proven(window.since, window.since));
                }
                None => findings.push(beyond_cap(window.since, answer)),
            },
            Some(_) | None => findings.push(Finding::Proven(window.since, window.end())),
        }
        if is_ours {
            self.doubtful = None; // Our own limit says nothing about the relay.
        }
        findings
    }

    /// Records that the relay refused [`next`](Self::next), and halves that window.
    pub fn refused(&mut self, reason: &str, now: u64) -> Vec<Finding> {
        let Some(window) = self.windows.pop() else { return Vec::new() };
        let mut findings = Vec::new();
        // It stays unknown whether the previous answer was cut.
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
            // No further request could show whether the answer has all events.
            return findings.push(match size {
                Size::Whole | Size::AsStated => Finding::Proven(window.since, window.since),
                Size::Unknown | Size::Suspicious | Size::Cut => beyond_cap(window.since, answer),
            });
        }
        if self.order != AnswerOrder::NewestFirst {
            return self.windows.extend(window.halves(span.newest).into_iter().flatten());
        }
        if window.until == Some(span.oldest) {
            // All events are of the window's last second, so the rest is requested separately.
            self.windows.push(Window { since: window.since, until: Some(span.oldest.saturating_sub(1)) });
            let is_all = size == Size::AsStated;
            self.doubtful = Some(Doubtful { events: answer.events, reached: span.oldest, is_all });
            if !is_all {
                findings.push(beyond_cap(span.oldest, answer));
            }
            return;
        }
        // The oldest second of the answer may be incomplete.
        findings.push(Finding::Proven(span.oldest.saturating_add(1), window.end()));
        self.windows.push(Window { since: window.since, until: Some(span.oldest) });
        self.doubtful = Some(Doubtful { events: answer.events, reached: span.oldest, is_all: false });
    }
}

/// The gap of a single second whose answer may have been cut.
const fn beyond_cap(second: u64, answer: &Answer) -> Finding {
    Finding::Gap(second, GapReason::BeyondCap { got: answer.events })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;
    use crate::relay::information::Information;

    /// A simulated relay. `events` has the number of events in each second.
    #[derive(Debug, Clone)]
    struct Relay {
        events: BTreeMap<u64, u32>,
        cap: u32,
        states_cap: bool,
        newest_first: bool,
        /// During an answer with more events than this, the connection breaks.
        lasts: u32,
        /// Events in the seconds that are multiples of this number have no known date, like
        /// oversized or malformed events.
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

        /// The answer to a request, and the number of its events in each second.
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

    /// Repairs `FIRST..`, and checks that every claim is true and every second is either proven or
    /// a gap.
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
    fn a_relay_with_few_events_is_asked_once() {
        let outcome = repair(&Relay::of(&[(1_001, 3), (1_050, 2)], 500));
        assert_eq!((outcome.requests, outcome.gaps.len()), (1, 0));
    }

    #[test]
    fn a_cap_costs_about_as_many_requests_as_necessary() {
        let events: Vec<(u64, u32)> = (FIRST..=LAST).map(|second| (second, 40)).collect();
        for states_cap in [true, false] {
            let relay = Relay { states_cap, ..Relay::of(&events, 500) };
            let outcome = repair(&relay);
            assert!(outcome.gaps.is_empty());
            // 2,440 events in answers of 500 take 5 requests; each request repeats the oldest
            // second of the previous answer.
            assert!(outcome.requests <= 7, "{}", outcome.requests);
        }
    }

    #[test]
    fn only_a_second_beyond_the_cap_is_a_gap() {
        let outcome = repair(&Relay::of(&[(1_010, 30), (1_020, 2_000), (1_021, 5)], 500));
        assert_eq!(outcome.gaps, [1_020].into());
    }

    #[test]
    fn breaking_connections_lead_to_smaller_requests_and_no_gaps() {
        let events: Vec<(u64, u32)> = (FIRST..=LAST).map(|second| (second, 30)).collect();
        let outcome = repair(&Relay { lasts: 40, ..Relay::of(&events, 500) });
        assert!(outcome.gaps.is_empty(), "{:?}", outcome.gaps);
    }

    #[test]
    fn a_hidden_cap_is_detected() {
        let relay = Relay::of(&[(1_010, 60), (1_020, 137), (1_021, 60)], 137);
        assert!(repair(&relay).gaps.contains(&1_020), "137 events may be all, or cut");
        let outcome = repair(&Relay::of(&[(1_010, 60), (1_020, 100), (1_021, 60)], 137));
        assert!(outcome.gaps.is_empty(), "{:?}", outcome.gaps);
    }

    #[test]
    fn a_refused_window_is_halved_down_to_a_gap() {
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
    fn an_answer_without_dates_proves_nothing_if_it_may_have_been_cut() {
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
        fn every_claim_is_true_for_any_relay_and_cap(
            relay in relays(),
        ) {
            repair(&relay);
        }
    }
}
