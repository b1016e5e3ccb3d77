//! One simulated relay: what it holds and what it is told to do, shared by its connections.
//!
//! A relay is a list of arrivals, and how many of them have arrived. What has arrived is stored and
//! answers REQ; what arrives later is live. So an event that comes while nobody is connected, or that was
//! on its way when a connection broke, is stored when the client comes back.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Instant;
use wire::Filter;

use crate::corpus::Item;
use crate::faults::Fault;
use crate::plan::{Entry, Pace, RelayPlan};
use crate::stats::Counters;
use crate::world::World;

/// How many REQs a relay remembers.
const REQUESTS_KEPT: usize = 100;

/// How a relay behaves as a whole, when a test says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Behaviour {
    /// As its faults have it.
    #[default]
    Normal,
    /// Connections neither send nor read, until it is normal again.
    Stalled,
    /// New connections are closed at once; those that exist go on.
    Refusing,
}

/// What connections watch.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Control {
    pub behaviour: Behaviour,
    /// Connections that began under an older number drop.
    pub drops: u64,
    pub stopped: bool,
}

/// What a test gave to a relay while it ran.
#[derive(Debug, Clone)]
pub(crate) enum Injected {
    /// An event: stored, and sent to the subscriptions that it matches.
    Event(Arc<Item>),
    /// Bytes for the connections of the moment, whatever they are.
    Raw(Bytes),
}

/// A stored event of a relay.
#[derive(Debug, Clone)]
pub(crate) enum Held {
    Planned(u32),
    Injected(Arc<Item>),
}

#[derive(Debug)]
pub(crate) struct Relay {
    pub number: usize,
    pub entries: Vec<Entry>,
    /// How many entries are there from the start.
    pub stored: usize,
    /// How often the live entries are sent; more than once only at [`Pace::Fast`].
    rounds: usize,
    /// Up to which entry a connection has sent them. At [`Pace::Fast`] being sent is arriving.
    pub sent: AtomicUsize,
    pub faults: Vec<(Fault, f64)>,
    pub connections: AtomicU64,
    pub open: AtomicUsize,
    pub control: watch::Sender<Control>,
    pub counters: Counters,
    injected: Mutex<Vec<Injected>>,
    requests: Mutex<VecDeque<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change of these lists is one call, so a panic elsewhere leaves them whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Relay {
    pub fn new(number: usize, plan: RelayPlan, rounds: usize, faults: Vec<(Fault, f64)>) -> Self {
        let RelayPlan { entries, stored } = plan;
        Self {
            number,
            entries,
            stored,
            rounds,
            sent: AtomicUsize::new(stored),
            faults,
            connections: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            control: watch::Sender::default(),
            counters: Counters::default(),
            injected: Mutex::default(),
            requests: Mutex::default(),
        }
    }

    /// How many entries there are in all rounds.
    pub fn len(&self) -> usize {
        self.stored + (self.entries.len() - self.stored) * self.rounds
    }

    /// The entry at this place of all rounds.
    pub fn entry(&self, place: usize) -> Option<&Entry> {
        if place < self.entries.len() {
            return self.entries.get(place);
        }
        let live = self.entries.get(self.stored..).filter(|live| !live.is_empty())?;
        live.get((place - self.stored) % live.len())
    }

    /// How many entries have arrived.
    pub fn arrived(&self, world: &World) -> usize {
        match (world.pace, world.live_for()) {
            (_, None) => self.stored,
            (Pace::Fast, _) => self.sent.load(Ordering::Acquire),
            (Pace::PerSecond(_), Some(time)) => {
                let live = self.entries.get(self.stored..).unwrap_or_default();
                self.stored + live.partition_point(|entry| u128::from(entry.at) <= time.as_micros())
            }
        }
    }

    /// How many entries a connection may have sent by now.
    pub fn sendable(&self, world: &World) -> usize {
        match world.pace {
            Pace::Fast if world.live_for().is_some() => self.len(),
            _ => self.arrived(world),
        }
    }

    /// When the entry at this place arrives, if that is a matter of time.
    pub fn due(&self, world: &World, place: usize) -> Option<Instant> {
        let since = world.live_since.get().filter(|_| world.pace != Pace::Fast)?;
        let entry = self.entries.get(place).filter(|_| place >= self.stored)?;
        Some(*since + Duration::from_micros(entry.at))
    }

    /// Answers a REQ from the first `planned` entries and `injected` injections: newest first, each
    /// filter up to its limit and the relay's cap, every copy once.
    pub fn answer(&self, world: &World, filters: &[Filter], planned: usize, injected: usize) -> Vec<Held> {
        let injections = lock(&self.injected);
        let planned =
            self.entries.iter().take(planned).filter_map(|entry| {
                Some((Held::Planned(entry.item), &world.item(entry.item as usize)?.claims))
            });
        let injected = injections.iter().take(injected).filter_map(|injection| match injection {
            Injected::Event(item) => Some((Held::Injected(Arc::clone(item)), &item.claims)),
            Injected::Raw(_) => None,
        });
        let mut held: Vec<_> = planned.chain(injected).collect();
        // Stable, so that a forgery stays before or after the genuine event of its id.
        held.sort_by_key(|(_, event)| (std::cmp::Reverse(event.created_at()), event.id()));
        let mut left: Vec<usize> = filters
            .iter()
            .map(|filter| {
                let limit = filter.limit.map_or(usize::MAX, |limit| limit as usize);
                limit.min(world.cap.unwrap_or(usize::MAX))
            })
            .collect();
        held.retain(|(_, event)| {
            let mut wanted = false;
            for (filter, left) in filters.iter().zip(&mut left) {
                if *left > 0 && filter.matches(event) {
                    *left -= 1;
                    wanted = true;
                }
            }
            wanted
        });
        held.into_iter().map(|(held, _)| held).collect()
    }

    /// How many injections there are.
    pub fn injections(&self) -> usize {
        lock(&self.injected).len()
    }

    /// The injection at this place.
    pub fn injection(&self, place: usize) -> Option<Injected> {
        lock(&self.injected).get(place).cloned()
    }

    /// Gives something to the relay and its connections.
    pub fn inject(&self, injected: Injected) {
        lock(&self.injected).push(injected);
        self.control.send_modify(|_| {});
    }

    /// Remembers a REQ.
    pub fn note_request(&self, text: String) {
        let mut requests = lock(&self.requests);
        if requests.len() == REQUESTS_KEPT {
            requests.pop_front();
        }
        requests.push_back(text);
    }

    /// The REQs that it remembers, oldest first.
    pub fn requests(&self) -> Vec<String> {
        lock(&self.requests).iter().cloned().collect()
    }
}
