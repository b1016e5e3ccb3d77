//! A relay's stored events, sorted by time: finds the events of a filter among 100,000 without
//! examining all of them.
//!
//! The index is built at the first request and updated at each later request. The index contains
//! positions instead of events, so that ten thousand relays can share the events.

use std::cmp::Reverse;

use wire::{Filter, VerifiedEvent};

use crate::caps::{Order, Question};
use crate::rng::Rng;

/// The position of a stored event. With the same time and id, a planned event precedes an injected
/// one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// A position in the relay's plan.
    Planned(u32),
    /// A position in the list of injections.
    Injected(u32),
}

/// For each list, the number of entries that have arrived.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Arrived {
    pub planned: usize,
    pub injected: usize,
}

impl Arrived {
    const fn has(self, place: Place) -> bool {
        match place {
            Place::Planned(place) => (place as usize) < self.planned,
            Place::Injected(place) => (place as usize) < self.injected,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Posting {
    created_at: u64,
    /// The first eight bytes of the id, enough to distinguish events of one second.
    id: u64,
    place: Place,
}

impl Posting {
    fn new(event: &VerifiedEvent, place: Place) -> Self {
        Self { created_at: event.created_at(), id: id_head(event.id().as_bytes()), place }
    }

    /// Newest first, then by id, so that a forgery is adjacent to the genuine event of the same id.
    const fn key(&self) -> (Reverse<u64>, u64, Place) {
        (Reverse(self.created_at), self.id, self.place)
    }

    fn shuffled(&self, seed: u64) -> u64 {
        Rng::new(&[seed, 0x5417, self.id]).bits()
    }
}

fn id_head(id: &[u8; 32]) -> u64 {
    id.first_chunk().map_or(0, |head| u64::from_be_bytes(*head))
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Each position once, in the order of sending.
    pub places: Vec<Place>,
    /// Whether the relay's cap truncated the answer.
    pub capped: bool,
    /// Whether more events match than the bounds permit.
    pub more: bool,
    /// Whether more events match one of the filters than the relay is willing to examine.
    pub too_many: bool,
}

/// The positions of a relay's stored events, newest first.
#[derive(Debug, Default)]
pub(crate) struct Index {
    covered: Arrived,
    postings: Vec<Posting>,
}

impl Index {
    /// The arrived events that the index lacks.
    pub fn lacks(&self, arrived: Arrived) -> impl Iterator<Item = Place> + use<> {
        let planned = self.covered.planned..arrived.planned;
        let injected = self.covered.injected..arrived.injected;
        let planned = planned.map(|place| Place::Planned(place as u32));
        planned.chain(injected.map(|place| Place::Injected(place as u32)))
    }

    /// Adds the events that it [lacks](Self::lacks).
    pub fn extend<'a>(
        &mut self,
        arrived: Arrived,
        new: impl IntoIterator<Item = (Place, &'a VerifiedEvent)>,
    ) {
        self.covered.planned = self.covered.planned.max(arrived.planned);
        self.covered.injected = self.covered.injected.max(arrived.injected);
        let new = new.into_iter().map(|(place, event)| Posting::new(event, place));
        let mut new: Vec<Posting> = new.collect();
        new.sort_unstable_by_key(Posting::key);
        if !new.is_empty() {
            self.postings.append(&mut new);
            // The stable sort detects the two sorted runs and merges them.
            self.postings.sort_by_key(Posting::key);
        }
    }

    /// Answers requests from arrived events. `event` returns the event at a position.
    pub fn search<'a>(
        &self,
        questions: &[Question<'_>],
        arrived: Arrived,
        order: Order,
        seed: u64,
        event: impl Fn(Place) -> Option<&'a VerifiedEvent>,
    ) -> Found {
        let mut found = Found::default();
        let mut positions: Vec<usize> = Vec::new();
        for question in questions.iter().filter(|question| question.bound > 0) {
            let mut matching = self.window(question.filter, order, seed).filter(|position| {
                self.postings.get(*position).is_some_and(|posting| {
                    arrived.has(posting.place)
                        && event(posting.place).is_some_and(|event| question.filter.matches(event))
                })
            });
            if question.matching_max < usize::MAX {
                let mut all: Vec<usize> = matching.by_ref().take(question.matching_max + 1).collect();
                found.too_many |= all.len() > question.matching_max;
                all.truncate(question.bound);
                positions.append(&mut all);
            } else {
                positions.extend(matching.by_ref().take(question.bound));
                let more = matching.next().is_some();
                found.more |= more;
                found.capped |= question.capped && more;
            }
        }
        // Several filters may match the same event.
        positions.sort_unstable();
        positions.dedup();
        self.arrange(&mut positions, order, seed);
        found.places = positions.iter().filter_map(|at| Some(self.postings.get(*at)?.place)).collect();
        found
    }

    /// The indices between the filter's `since` and `until`, in the order of examination.
    fn window(&self, filter: &Filter, order: Order, seed: u64) -> impl Iterator<Item = usize> + use<> {
        let start = filter.until.map_or(0, |until| self.postings.partition_point(|p| p.created_at > until));
        let end = filter.since.map_or(self.postings.len(), |since| {
            self.postings.partition_point(|posting| posting.created_at >= since)
        });
        let (mut forward, mut arranged) = (start..end, Vec::new());
        if order != Order::NewestFirst {
            arranged = std::mem::take(&mut forward).collect();
            self.arrange(&mut arranged, order, seed);
        }
        forward.chain(arranged)
    }

    /// Sorts ascending indices into the order of sending.
    fn arrange(&self, positions: &mut [usize], order: Order, seed: u64) {
        match order {
            Order::NewestFirst => {}
            Order::OldestFirst => positions.reverse(),
            Order::Unordered => positions.sort_by_cached_key(|position| {
                self.postings.get(*position).map_or(0, |posting| posting.shuffled(seed))
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use wire::Signer;

    use super::*;

    fn found(order: Order, filter: &str, bound: usize, arrived: usize) -> Vec<u32> {
        // Two events for each second from 0, in the order of their positions.
        let events: Vec<VerifiedEvent> = (0..20)
            .map(|number| {
                Signer::from_seed(number).sign(number / 2, number as u16 % 3, &[] as &[Vec<String>], "")
            })
            .collect();
        let event = |place| match place {
            Place::Planned(place) => events.get(place as usize),
            Place::Injected(_) => None,
        };
        let mut index = Index::default();
        for planned in [7, 7, 20] {
            let arrived = Arrived { planned, injected: 0 };
            let new: Vec<_> = index.lacks(arrived).filter_map(|place| Some((place, event(place)?))).collect();
            index.extend(arrived, new);
        }
        let filter = Filter::parse(filter).expect("a filter");
        let question = Question { filter: &filter, bound, capped: true, matching_max: usize::MAX };
        let arrived = Arrived { planned: arrived, injected: 0 };
        let found = index.search(&[question, question], arrived, order, 7, event);
        let places = found.places.iter().map(|place| match place {
            Place::Planned(place) | Place::Injected(place) => *place,
        });
        places.collect()
    }

    #[test]
    fn windows_hold_what_lies_in_them() {
        let seconds = |places: Vec<u32>| places.into_iter().map(|place| place / 2).collect::<Vec<_>>();
        assert_eq!(seconds(found(Order::NewestFirst, "{}", 3, 20)), [9, 9, 8]);
        assert_eq!(seconds(found(Order::OldestFirst, "{}", 3, 20)), [0, 0, 1]);
        let filter = r#"{"since":3,"until":5}"#;
        assert_eq!(seconds(found(Order::NewestFirst, filter, 100, 20)), [5, 5, 4, 4, 3, 3]);
        assert_eq!(seconds(found(Order::NewestFirst, filter, 100, 8)), [3, 3]);
        assert!(found(Order::NewestFirst, r#"{"since":5,"until":3}"#, 100, 20).is_empty());
        assert_eq!(found(Order::NewestFirst, r#"{"kinds":[2]}"#, 100, 20).len(), 6);
    }

    #[test]
    fn no_order_is_an_order_too() {
        let some = found(Order::Unordered, "{}", 5, 20);
        assert_eq!(some, found(Order::Unordered, "{}", 5, 20));
        let mut all = found(Order::Unordered, "{}", 100, 20);
        assert_eq!(all.get(..5), Some(&some[..]));
        all.sort_unstable();
        assert!(all.into_iter().eq(0..20));
    }
}
