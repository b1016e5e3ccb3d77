//! One simulated relay: its events and the instructions of tests, shared by all connections.
//!
//! A relay has a list of entries, of which the first ones have arrived. Arrived events are stored
//! and answer REQs; later ones are live. So an event that arrives while nobody is connected, or
//! that is in flight when a connection breaks, is stored when the client reconnects.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Instant;
use wire::{PublicKey, VerifiedEvent};

use crate::caps::{Cap, Question};
use crate::corpus::Item;
use crate::door::Door;
use crate::endings::{Doubt, Ending, EndingPlace};
use crate::faults::Fault;
use crate::limits::{Refusal, Refused, Scope, Window};
use crate::plan::{Entry, Pace, RelayPlan};
use crate::policy::Policy;
use crate::stats::Counters;
use crate::stored::{Arrived, Index, Place};
use crate::world::{World, now_us};

/// The number of REQs that a relay records.
const REQUESTS_KEPT: usize = 1_000;
/// The number of requests whose times a relay records.
const TIMES_KEPT: usize = 10_000;

/// The overall behaviour of a relay, as set by a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Behaviour {
    /// As the relay's faults decide.
    #[default]
    Normal,
    /// Connections neither send nor read until the relay is normal again.
    Stalled,
    /// New connections are closed at once; existing ones continue.
    Refusing,
}

/// The state that connections watch.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Control {
    pub behaviour: Behaviour,
    /// Connections drop if they began at a lower number.
    pub drops: u64,
    pub stopped: bool,
}

/// What a test injects into a running relay.
#[derive(Debug, Clone)]
pub(crate) enum Injected {
    /// Stores an event and sends it to matching subscriptions.
    Event(Arc<Item>),
    /// Sends raw bytes to the current connections.
    Raw(Bytes),
    /// Ends all current subscriptions with this reason.
    Closed(Arc<str>),
    /// Stands for an injected event that a newer one has replaced.
    Replaced,
}

/// The result of publishing an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Publication {
    Taken,
    Duplicate,
    /// A newer event with the same address exists.
    Outdated,
}

/// The address of a replaceable or addressable event: kind, author, and `d` tag if addressable. A
/// relay that replaces keeps only the newest event of each address.
fn address(event: &VerifiedEvent) -> Option<(u16, PublicKey, String)> {
    let name = match event.kind() {
        0 | 3 | 10_000..20_000 => String::new(),
        30_000..40_000 => {
            let tags = event.tags();
            let name = tags.iter().find(|tag| tag.first().is_some_and(|name| &**name == "d"));
            name.and_then(|tag| tag.get(1)).map(|value| (**value).to_owned()).unwrap_or_default()
        }
        _ => return None,
    };
    Some((event.kind(), *event.pubkey(), name))
}

/// A stored event.
#[derive(Debug, Clone)]
pub(crate) enum Held {
    Planned(u32),
    Injected(Arc<Item>),
}

/// A relay's answer to the filters of a request.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// Each copy once, in the order of sending.
    pub held: Vec<Held>,
    /// Whether the relay's cap truncated the answer.
    pub capped: bool,
    /// Whether the answer states that the relay has more events.
    pub more: bool,
    /// Whether more events match than the relay is willing to examine.
    pub too_many: bool,
}

/// Recorded requests to a relay.
#[derive(Debug, Default)]
struct Heard {
    /// The texts of REQs.
    requests: VecDeque<String>,
    /// The times of requests, in Unix milliseconds.
    times: VecDeque<u64>,
    user_agent: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Relay {
    pub number: usize,
    pub entries: Vec<Entry>,
    /// The number of entries that are stored from the start.
    pub stored: usize,
    /// The number of times that the live entries are sent; more than once only at [`Pace::Fast`].
    rounds: usize,
    /// The number of entries sent on the most advanced connection. At [`Pace::Fast`] an entry
    /// arrives when it is sent.
    pub sent: AtomicUsize,
    pub faults: Vec<(Fault, f64)>,
    pub policy: Policy,
    pub connections: AtomicU64,
    pub open: AtomicUsize,
    pub control: watch::Sender<Control>,
    pub counters: Counters,
    index: Mutex<Index>,
    injected: Mutex<Vec<Injected>>,
    heard: Mutex<Heard>,
    refusal: Mutex<Option<Refusal>>,
    ending: Mutex<Option<Ending>>,
    doubt: Mutex<Option<Doubt>>,
    /// The requests that count for the rate limit of the whole relay.
    window: Mutex<Window>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each change of these lists is a single call, so a panic elsewhere leaves them consistent.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Relay {
    pub fn new(
        number: usize,
        plan: RelayPlan,
        rounds: usize,
        faults: Vec<(Fault, f64)>,
        policy: Policy,
    ) -> Self {
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
            index: Mutex::default(),
            injected: Mutex::default(),
            heard: Mutex::default(),
            refusal: Mutex::new(policy.refusal.clone()),
            ending: Mutex::new(policy.ending.clone()),
            doubt: Mutex::new(policy.doubt.clone()),
            window: Mutex::default(),
            policy,
        }
    }

    /// Whether some events may never be sent, because nobody can connect or the relay falls silent.
    pub fn keeps_events(&self) -> bool {
        self.policy.door != Door::Open
            || self.policy.refusal.as_ref().is_some_and(|refusal| refusal.times == usize::MAX)
            || self.faults.iter().any(|(fault, _)| fault.keeps_events())
    }

    /// The number of entries: stored ones once, live ones once in each round.
    pub fn len(&self) -> usize {
        self.stored + (self.entries.len() - self.stored) * self.rounds
    }

    /// The entry at this position, counted over all rounds.
    pub fn entry(&self, place: usize) -> Option<&Entry> {
        if place < self.entries.len() {
            return self.entries.get(place);
        }
        let live = self.entries.get(self.stored..).filter(|live| !live.is_empty())?;
        live.get((place - self.stored) % live.len())
    }

    /// The number of entries that have arrived.
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

    /// The number of entries that a connection may have sent so far.
    pub fn sendable(&self, world: &World) -> usize {
        match world.pace {
            Pace::Fast if world.live_for().is_some() => self.len(),
            _ => self.arrived(world),
        }
    }

    /// When the entry at this position arrives, if that depends on time.
    pub fn due(&self, world: &World, place: usize) -> Option<Instant> {
        let since = world.live_since.get().filter(|_| world.pace != Pace::Fast)?;
        let entry = self.entries.get(place).filter(|_| place >= self.stored)?;
        Some(*since + Duration::from_micros(entry.at))
    }

    /// Answers requests from arrived events.
    pub fn answer(&self, world: &World, questions: &[Question<'_>], arrived: Arrived) -> Answer {
        let arrived = Arrived { planned: arrived.planned.min(self.entries.len()), ..arrived };
        let (mut index, injections) = (lock(&self.index), lock(&self.injected));
        let item = |place| match place {
            Place::Planned(place) => world.item(self.entries.get(place as usize)?.item as usize),
            Place::Injected(place) => match injections.get(place as usize)? {
                Injected::Event(item) => Some(&**item),
                Injected::Raw(_) | Injected::Closed(_) | Injected::Replaced => None,
            },
        };
        let event = |place| Some(&item(place)?.claims);
        let lacks = index.lacks(arrived);
        index.extend(arrived, lacks.filter_map(|place| Some((place, event(place)?))));
        let order = self.policy.cap.as_ref().map(Cap::sends).unwrap_or_default();
        let found = index.search(questions, arrived, order, world.seed, event);
        let held = found.places.into_iter().filter_map(|place| match place {
            Place::Planned(place) => Some(Held::Planned(self.entries.get(place as usize)?.item)),
            Place::Injected(place) => match injections.get(place as usize)? {
                Injected::Event(item) => Some(Held::Injected(Arc::clone(item))),
                Injected::Raw(_) | Injected::Closed(_) | Injected::Replaced => None,
            },
        });
        let more = found.more && self.policy.cap.as_ref().is_some_and(Cap::hints);
        Answer { held: held.collect(), capped: found.capped, more, too_many: found.too_many }
    }

    /// The numbers of planned entries and injections that have arrived.
    pub fn has(&self, world: &World) -> Arrived {
        Arrived { planned: self.arrived(world), injected: self.injections() }
    }

    pub fn injections(&self) -> usize {
        lock(&self.injected).len()
    }

    /// The injection at this position.
    pub fn injection(&self, place: usize) -> Option<Injected> {
        lock(&self.injected).get(place).cloned()
    }

    /// Injects something into the relay and its connections.
    pub fn inject(&self, injected: impl IntoIterator<Item = Injected>) {
        lock(&self.injected).extend(injected);
        self.control.send_modify(|_| {});
    }

    /// Accepts a published event, and sends it to matching subscriptions. Does not compare the
    /// event with planned events: duplicates are stored, and planned events are not replaced.
    pub fn take(&self, event: VerifiedEvent) -> Publication {
        let address = address(&event).filter(|_| self.policy.replaces);
        let mut injections = lock(&self.injected);
        let mut older = Vec::new();
        for (place, injected) in injections.iter().enumerate() {
            let Injected::Event(held) = injected else { continue };
            if held.claims.id() == event.id() {
                return Publication::Duplicate;
            }
            if address.is_some() && self::address(&held.claims) == address {
                // If two events are equally old, the one with the lower id stays (NIP-01).
                let age = |event: &VerifiedEvent| (event.created_at(), Reverse(event.id()));
                if age(&held.claims) > age(&event) {
                    return Publication::Outdated;
                }
                older.push(place);
            }
        }
        for place in older {
            if let Some(injected) = injections.get_mut(place) {
                *injected = Injected::Replaced;
            }
        }
        injections.push(Injected::Event(Arc::new(Item::genuine(event))));
        drop(injections);
        self.control.send_modify(|_| {});
        Publication::Taken
    }

    /// Sets the refusal of further requests; `None` for none.
    pub fn refuse(&self, refusal: Option<Refusal>) {
        *lock(&self.refusal) = refusal;
    }

    /// The refusal of this REQ, if the relay refuses it without examining it.
    pub fn refused(&self) -> Option<Refused> {
        lock(&self.refusal).as_mut()?.refuse()
    }

    /// Where and why the relay ends the subscription that it has just accepted, if at all.
    pub fn ends(&self) -> Option<(EndingPlace, String)> {
        lock(&self.ending).as_mut()?.end()
    }

    /// Why the relay rejects this valid proof of a key, if it does.
    pub fn doubts(&self) -> Option<String> {
        lock(&self.doubt).as_mut()?.doubt()
    }

    /// The refusal, if this request exceeds the rate limit. `window` has the connection's requests.
    pub fn rate_limited(&self, window: &mut Window) -> Option<Refused> {
        let limit = self.policy.rate_limit.as_ref()?;
        match limit.scope {
            Scope::Connection => limit.refuse(window),
            Scope::Relay => limit.refuse(&mut lock(&self.window)),
        }
    }

    /// Records the time of a request and, for a REQ, the text.
    pub fn note_request(&self, text: Option<String>) {
        let mut heard = lock(&self.heard);
        if heard.times.len() == TIMES_KEPT {
            heard.times.pop_front();
        }
        heard.times.push_back(now_us() / 1000);
        if text.is_some() && heard.requests.len() == REQUESTS_KEPT {
            heard.requests.pop_front();
        }
        heard.requests.extend(text);
    }

    /// The recorded REQs, oldest first.
    pub fn requests(&self) -> Vec<String> {
        lock(&self.heard).requests.iter().cloned().collect()
    }

    /// The times of the recorded requests, in Unix milliseconds.
    pub fn request_times(&self) -> Vec<u64> {
        lock(&self.heard).times.iter().copied().collect()
    }

    /// Records the `User-Agent` of the relay's newest client.
    pub fn note_user_agent(&self, user_agent: Option<String>) {
        lock(&self.heard).user_agent = user_agent;
    }

    /// The `User-Agent` of the relay's newest client.
    pub fn user_agent(&self) -> Option<String> {
        lock(&self.heard).user_agent.clone()
    }
}
