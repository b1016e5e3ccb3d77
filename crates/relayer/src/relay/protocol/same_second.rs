//! Restores the order of arrival among stored events of the same second.
//!
//! Answers come newest first, so a relay that keeps the order of arrival sends the last event of a
//! second first. The events of the current second are held until the answer moves to another
//! second, and are then passed on in reverse. An answer that comes oldest first is passed on
//! unchanged. If an answer was cut within a second, the events of that second are held until the
//! next answer, which starts with the whole second.
//!
//! The number of held events is limited. A larger second is passed on in parts, each in reverse.

use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;

use crate::ingest::{Candidate, Inboxes};
use crate::limits::{SECOND_BYTES_MAX, SECOND_EVENTS_MAX};

/// The held events of one second of an answer.
#[derive(Debug, Default)]
pub(crate) struct SameSecond {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    second: u64,
    /// The events in the order of arrival, each with its permit from the budget of all connections.
    held: Vec<(Candidate, OwnedSemaphorePermit)>,
    bytes: usize,
    /// Whether the previous second of the answer was older; `None` if this second is the first.
    ascends: Option<bool>,
}

impl SameSecond {
    /// Takes an event of an answer, and returns the events to pass on, in order.
    pub fn push(&self, second: u64, candidate: Candidate, inboxes: &Inboxes) -> Vec<Candidate> {
        let mut state = self.state.lock();
        let mut released = Vec::new();
        if state.second != second {
            if !state.held.is_empty() {
                let ascends = second > state.second;
                released = state.release(ascends);
                state.ascends = Some(ascends);
            }
            state.second = second;
        }
        // If a second is requested again, the answer repeats the held events. A forgery with the
        // same id has another text.
        if state.held.iter().any(|(held, _)| held.claimed == candidate.claimed && held.json == candidate.json)
        {
            return released;
        }
        let is_full =
            state.held.len() >= SECOND_EVENTS_MAX || state.bytes + candidate.json.len() > SECOND_BYTES_MAX;
        match inboxes.hold(&candidate).filter(|_| !is_full) {
            Some(permit) => {
                state.bytes += candidate.json.len();
                state.held.push((candidate, permit));
            }
            None => {
                // In a newest-first answer this event is older than the held ones.
                let ascends = state.ascends.unwrap_or(false);
                let held = state.release(ascends);
                if ascends {
                    released.extend(held);
                    released.push(candidate);
                } else {
                    released.push(candidate);
                    released.extend(held);
                }
            }
        }
        released
    }

    /// The second to which the held events belong.
    pub fn second(&self) -> Option<u64> {
        let state = self.state.lock();
        (!state.held.is_empty()).then_some(state.second)
    }

    /// Returns the held events in order, because the answer has ended. An answer of a single second
    /// is assumed to come newest first, as NIP-01 says.
    pub fn take(&self) -> Vec<Candidate> {
        let mut state = self.state.lock();
        let released = state.release(false);
        state.ascends = None;
        released
    }
}

impl State {
    /// Returns the held events. `ascends` applies if no earlier second has shown the order.
    fn release(&mut self, ascends: bool) -> Vec<Candidate> {
        self.bytes = 0;
        let mut released: Vec<Candidate> = self.held.drain(..).map(|(candidate, _)| candidate).collect();
        if !self.ascends.unwrap_or(ascends) {
            released.reverse();
        }
        released
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use wire::ClaimedId;

    use super::*;
    use crate::relay::Peer;

    fn candidate(text: &str) -> Candidate {
        let source = std::sync::Arc::new(Peer::new("ws://relay.example".parse().expect("a URL")));
        Candidate {
            claimed: ClaimedId::from_bytes([0; 32]),
            author_byte: 0,
            json: text.as_bytes().into(),
            source,
            received_at_ms: 0,
            received: Instant::now(),
            budget: None,
        }
    }

    fn texts(candidates: Vec<Candidate>) -> Vec<String> {
        let text = |candidate: Candidate| String::from_utf8(candidate.json.into()).expect("UTF-8");
        candidates.into_iter().map(text).collect()
    }

    /// The events that are passed on from these answers, in order. An event's name is its second
    /// and a letter.
    fn passed_on(answers: &[&[&str]]) -> Vec<String> {
        let (inboxes, _receivers) = Inboxes::new(1, 1_000);
        let same_second = SameSecond::default();
        let mut passed = Vec::new();
        for answer in answers {
            for event in *answer {
                let second = event[..1].parse().expect("a digit");
                passed.extend(texts(same_second.push(second, candidate(event), &inboxes)));
            }
        }
        passed.extend(texts(same_second.take()));
        passed
    }

    #[test]
    fn a_newest_first_answer_is_reversed_within_each_second() {
        assert_eq!(passed_on(&[&["3b", "3a", "2c", "2b", "2a", "1a"]]), ["3a", "3b", "2a", "2b", "2c", "1a"]);
        assert_eq!(passed_on(&[&["2c", "2b", "2a"]]), ["2a", "2b", "2c"]);
    }

    #[test]
    fn an_oldest_first_answer_is_unchanged() {
        assert_eq!(passed_on(&[&["1a", "1b", "2a", "2b"]]), ["1a", "1b", "2a", "2b"]);
    }

    #[test]
    fn live_events_after_stored_ones_are_unchanged() {
        assert_eq!(passed_on(&[&["2b", "2a", "1b", "1a", "3a", "3b"]]), ["2a", "2b", "1a", "1b", "3a", "3b"]);
    }

    #[test]
    fn a_second_that_was_cut_is_completed_by_the_next_answer() {
        assert_eq!(
            passed_on(&[&["3a", "2d", "2c"], &["2d", "2c", "2b", "2a", "1a"]]),
            ["3a", "2a", "2b", "2c", "2d", "1a"]
        );
    }

    #[test]
    fn a_second_above_the_limit_loses_nothing() {
        let (inboxes, _receivers) = Inboxes::new(1, 1_000);
        let same_second = SameSecond::default();
        let mut passed = Vec::new();
        for number in (0..2 * SECOND_EVENTS_MAX).rev() {
            let event = candidate(&format!("{number}"));
            passed.extend(same_second.push(1, event, &inboxes));
        }
        passed.extend(same_second.take());
        let mut numbers: Vec<usize> =
            texts(passed).iter().map(|text| text.parse().expect("a number")).collect();
        let first_part = numbers.iter().position(|number| *number == 2 * SECOND_EVENTS_MAX - 1);
        assert_eq!(first_part, Some(SECOND_EVENTS_MAX), "the first part is reversed");
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..2 * SECOND_EVENTS_MAX));
    }
}
