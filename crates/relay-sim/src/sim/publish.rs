//! Events that tests give to relays of a running simulation.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use bytes::Bytes;
use wire::{VerifiedEvent, Verifier};

use crate::corpus::{Item, Origin};
use crate::relay::Injected;
use crate::rng::Rng;
use crate::sim::Sim;
use crate::world::World;

impl Sim {
    /// Gives an event text, genuine or not, to these relays. The relays store it and send it to
    /// matching subscriptions.
    pub fn publish(&self, relays: impl IntoIterator<Item = usize>, event: impl Into<Bytes>) {
        let item = Item::from_text(event.into(), self.world.dates.base, &mut Verifier::new());
        if item.origin == Origin::Genuine {
            self.published().push(item.claims.clone());
        }
        let item = Arc::new(item);
        for relay in relays {
            self.inject(relay, Injected::Event(Arc::clone(&item)));
        }
    }

    /// Generates one event for each date (Unix seconds), with the simulation's authors, kinds and
    /// sizes, and gives each event to `copies` of the relays (at most all). Relays store the events
    /// and send them to matching subscriptions. Returns the events.
    ///
    /// Before it returns, signs the events on all cores, about 20,000 a second on each.
    pub fn publish_many(&self, relays: &[usize], copies: usize, created_at: &[u64]) -> Vec<VerifiedEvent> {
        let events = make_more(&self.world, relays, copies, created_at);
        self.published().extend(events.iter().cloned());
        events
    }

    pub(super) fn published(&self) -> MutexGuard<'_, Vec<VerifiedEvent>> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Generates additional events and gives them to relays.
pub(super) fn make_more(
    world: &World,
    relays: &[usize],
    copies: usize,
    created_at: &[u64],
) -> Vec<VerifiedEvent> {
    let later = world.made_later.fetch_add(created_at.len(), Ordering::Relaxed);
    let first = world.originals - world.from_files + later;
    let events = world.generator.events(first, created_at);
    let mut given: Vec<Vec<Injected>> = relays.iter().map(|_| Vec::new()).collect();
    for (number, event) in (first..).zip(&events) {
        let item = Arc::new(Item::genuine(event.clone()));
        let holders = Rng::new(&[world.seed, 0xADD, number as u64]).distinct(copies, relays.len());
        for holder in holders {
            if let Some(given) = given.get_mut(holder) {
                given.push(Injected::Event(Arc::clone(&item)));
            }
        }
    }
    for (relay, given) in relays.iter().zip(given) {
        if let Some(relay) = world.relays.get(*relay) {
            relay.inject(given);
        }
    }
    events
}
