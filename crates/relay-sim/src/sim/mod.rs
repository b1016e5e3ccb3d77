//! A running simulation, as tests and the program use it.

mod builder;
mod publish;
mod rules;
mod server;
mod start;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use wire::{ClaimedId, EventId, Filter, VerifiedEvent};

use crate::caps::Question;
use crate::codec::{opcode, write_frame};
use crate::corpus::Origin;
use crate::door::Door;
use crate::limits::Refusal;
use crate::relay::{Behaviour, Injected, Relay};
use crate::stats::{Count, Figures, Stats};
use crate::world::World;

pub use builder::SimBuilder;
pub use start::StartError;

/// The pause between two checks while waiting.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Relays that run until [`stop`](Self::stop), or until this value is dropped.
#[derive(Debug)]
pub struct Sim {
    world: Arc<World>,
    address: SocketAddr,
    /// The address of each port. Relays with the same door share a port.
    doors: Vec<(Door, SocketAddr)>,
    ca_pem: Option<String>,
    servers: Vec<JoinHandle<()>>,
    /// Positions of planned genuine events. Filled when the first send time is requested.
    places: OnceLock<HashMap<ClaimedId, usize>>,
    published: std::sync::Mutex<Vec<VerifiedEvent>>,
}

impl Sim {
    /// Begins the description of a simulation.
    pub fn builder() -> SimBuilder {
        SimBuilder::default()
    }

    /// The address of all relays, except those to which a rule gives a separate port.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of one relay.
    pub fn url(&self, relay: usize) -> String {
        format!("{}://{}/r/{relay}", self.scheme(), self.address_of(relay))
    }

    /// The URL of one relay with another host, such as `localhost` or a name that does not resolve.
    pub fn url_with_host(&self, relay: usize, host: &str) -> String {
        format!("{}://{host}:{}/r/{relay}", self.scheme(), self.address_of(relay).port())
    }

    /// The certificate of the authority that clients must trust, in PEM; `None` without TLS.
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    const fn scheme(&self) -> &'static str {
        if self.ca_pem.is_some() { "wss" } else { "ws" }
    }

    fn address_of(&self, relay: usize) -> SocketAddr {
        let door = self.world.relays.get(relay).map(|relay| relay.policy.door).unwrap_or_default();
        let address = self.doors.iter().find(|(open, _)| *open == door).map(|(_, address)| *address);
        address.unwrap_or(self.address)
    }

    /// The URLs of all relays, scripted ones last.
    pub fn urls(&self) -> Vec<String> {
        (0..self.world.relays.len()).map(|relay| self.url(relay)).collect()
    }

    /// Starts live traffic that was [held](SimBuilder::hold).
    pub fn go(&self) {
        self.world.go();
    }

    /// All genuine events so far: planned and published ones.
    pub fn events(&self) -> Vec<VerifiedEvent> {
        let planned = self.world.slots.iter().take(self.world.originals).filter_map(|slot| slot.get());
        let planned = planned.filter(|item| item.genuine_id().is_some()).map(|item| item.claims.clone());
        planned.chain(self.published().iter().cloned()).collect()
    }

    /// The ids of [`events`](Self::events).
    pub fn ids(&self) -> HashSet<EventId> {
        self.events().iter().map(VerifiedEvent::id).collect()
    }

    /// The planned genuine events of which at least one of these relays has a copy.
    pub fn events_on(&self, relays: &[usize]) -> Vec<VerifiedEvent> {
        let relays = relays.iter().filter_map(|relay| self.world.relays.get(*relay));
        let items: HashSet<u32> = relays.flat_map(|relay| &relay.entries).map(|entry| entry.item).collect();
        let items = items.into_iter().filter_map(|number| self.world.slots.get(number as usize)?.get());
        items.filter(|item| item.genuine_id().is_some()).map(|item| item.claims.clone()).collect()
    }

    /// The genuine events, planned or published, that a relay has now and that match the filter,
    /// newest first or in the relay's [`Order`](crate::Order). No limit or cap applies.
    pub fn holds(&self, relay: usize, filter: &Filter) -> Vec<VerifiedEvent> {
        let Some(relay) = self.world.relays.get(relay) else { return Vec::new() };
        let question = Question::all(filter, usize::MAX);
        let held = relay.answer(&self.world, &[question], relay.has(&self.world)).held;
        let items = held.iter().filter_map(|held| self.world.held(held));
        items.filter(|item| item.genuine_id().is_some()).map(|item| item.claims.clone()).collect()
    }

    /// The events that a relay [holds](Self::holds) and whose `created_at` is in `since..=until`.
    pub fn holds_between(&self, relay: usize, since: u64, until: u64) -> Vec<VerifiedEvent> {
        let mut filter = Filter::new();
        (filter.since, filter.until) = (Some(since), Some(until));
        self.holds(relay, &filter)
    }

    /// All texts that came from files and are not genuine events.
    pub fn invalid(&self) -> Vec<Bytes> {
        let planned = self.world.slots.iter().take(self.world.originals).filter_map(|slot| slot.get());
        planned.filter(|item| item.origin == Origin::Invalid).map(|item| item.text.clone()).collect()
    }

    /// The relays that have no faults and accept clients and requests. Clean relays may forge.
    pub fn clean_relays(&self) -> Vec<usize> {
        let clean = |relay: &&Relay| relay.faults.is_empty() && !relay.keeps_events();
        let clean = self.world.relays.iter().filter(clean);
        clean.map(|relay| relay.number).collect()
    }

    /// When the first copy of a planned genuine event was written, in Unix microseconds: the time
    /// at which the frame entered its connection's buffer, which is written at once.
    pub fn first_sent_us(&self, id: &ClaimedId) -> Option<u64> {
        let places = self.places.get_or_init(|| {
            let slots = self.world.slots.iter().take(self.world.originals).enumerate();
            slots.filter_map(|(place, slot)| Some((slot.get()?.genuine_id()?.into(), place))).collect()
        });
        self.world.slots.get(*places.get(id)?)?.first_sent_us()
    }

    /// Sends a text frame to all current connections of a relay.
    pub fn send_text(&self, relay: usize, text: &str) {
        let mut frame = Vec::new();
        write_frame(&mut frame, opcode::TEXT, text.as_bytes());
        self.send_bytes(relay, frame);
    }

    /// Sends raw bytes to all current connections of a relay.
    pub fn send_bytes(&self, relay: usize, bytes: impl Into<Bytes>) {
        self.inject(relay, Injected::Raw(bytes.into()));
    }

    /// Ends all current subscriptions of a relay with `["CLOSED",id,reason]`.
    pub fn close_subscriptions(&self, relay: usize, reason: &str) {
        self.inject(relay, Injected::Closed(reason.into()));
    }

    /// Sets which REQs a relay refuses; `None` for none.
    pub fn refuse(&self, relay: usize, refusal: Option<Refusal>) {
        if let Some(relay) = self.world.relays.get(relay) {
            relay.refuse(refusal);
        }
    }

    fn inject(&self, relay: usize, injected: Injected) {
        if let Some(relay) = self.world.relays.get(relay) {
            relay.inject([injected]);
        }
    }

    /// Drops all connections of a relay, without a closing handshake. Clients may connect again.
    pub fn drop_connections(&self, relay: usize) {
        if let Some(relay) = self.world.relays.get(relay) {
            relay.control.send_modify(|told| told.drops += 1);
        }
    }

    /// Sets how a relay behaves.
    pub fn behave(&self, relay: usize, behaviour: Behaviour) {
        if let Some(relay) = self.world.relays.get(relay) {
            relay.control.send_modify(|told| told.behaviour = behaviour);
        }
    }

    /// The last thousand REQ messages to a relay, oldest first.
    pub fn requests(&self, relay: usize) -> Vec<String> {
        self.world.relays.get(relay).map(Relay::requests).unwrap_or_default()
    }

    /// The times of a relay's last ten thousand requests (REQ and NEG-OPEN, also refused ones), in
    /// Unix milliseconds, oldest first.
    pub fn request_times(&self, relay: usize) -> Vec<u64> {
        self.world.relays.get(relay).map(Relay::request_times).unwrap_or_default()
    }

    /// The `User-Agent` of a relay's newest HTTP request or upgrade.
    pub fn user_agent(&self, relay: usize) -> Option<String> {
        self.world.relays.get(relay)?.user_agent()
    }

    /// The current number of WebSockets of a relay.
    pub fn open_connections(&self, relay: usize) -> usize {
        self.world.relays.get(relay).map_or(0, |relay| relay.open.load(Ordering::Relaxed))
    }

    /// The number of TCP connections that are neither WebSockets nor known to be NIP-11 requests:
    /// the client is still connecting, or the relay never accepts it.
    pub fn dialling(&self) -> usize {
        self.world.dialling.now.load(Ordering::Relaxed)
    }

    /// The maximum of [`dialling`](Self::dialling) so far.
    pub fn dialling_peak(&self) -> usize {
        self.world.dialling.peak.load(Ordering::Relaxed)
    }

    /// Waits until this many relays have at least one REQ.
    pub async fn wait_subscribed(&self, relays: usize) {
        let asked = |relay: &&Relay| relay.counters.one(Count::Requests) > 0;
        while self.world.relays.iter().filter(asked).count() < relays {
            sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until every planned genuine event has been written to a socket at least once.
    pub async fn wait_first_copies(&self) {
        while self.world.unsent.load(Ordering::Relaxed) > 0 {
            sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until every planned genuine event, and all copies on reliable relays, have been
    /// written. Does not wait for relays that may fall silent or refuse.
    ///
    /// Does not return while stored events remain unrequested.
    pub async fn wait_sent(&self) {
        self.wait_first_copies().await;
        while !self.is_sent() {
            sleep(LOOK_EVERY).await;
        }
    }

    /// Whether [`wait_sent`](Self::wait_sent) would return at once.
    pub fn is_sent(&self) -> bool {
        self.world.unsent.load(Ordering::Relaxed) == 0
            && self
                .world
                .relays
                .iter()
                .all(|relay| relay.keeps_events() || relay.sent.load(Ordering::Acquire) == relay.len())
    }

    /// The counts so far.
    pub fn stats(&self) -> Stats {
        let relays: Vec<Figures> = self.world.relays.iter().map(|relay| relay.counters.get()).collect();
        let mut total = Figures::default();
        relays.iter().for_each(|relay| total += relay);
        Stats { relays, total, unsent: self.world.unsent.load(Ordering::Relaxed) }
    }

    /// Closes all connections with code 1001 and stops listening. Returns the final counts.
    pub async fn stop(mut self) -> Stats {
        self.world.relays.iter().for_each(|relay| relay.control.send_modify(|told| told.stopped = true));
        // Gives the connections a moment to send their close frames.
        sleep(LOOK_EVERY).await;
        for server in std::mem::take(&mut self.servers) {
            server.abort();
            _ = server.await;
        }
        self.stats()
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        self.servers.iter().for_each(JoinHandle::abort);
    }
}
