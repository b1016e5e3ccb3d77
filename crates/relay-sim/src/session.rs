//! What a relay says on one connection: subscriptions, stored and live events, and faults in between.
//!
//! It writes into a buffer and knows nothing of sockets; [`connection`](crate::connection) moves bytes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use wire::{ClientMessage, Filter, RelayMessage, UnverifiedEvent, Verifier};

use crate::codec::{opcode, write_frame, write_header};
use crate::corpus::{Item, Origin};
use crate::faults::{Dice, Fault};
use crate::garbage::{Then, write_garbage};
use crate::relay::{Held, Injected, Relay};
use crate::stats::{Count, Figures};
use crate::world::{World, now_us};

/// When so many bytes wait to be written, no more are added: about a hundred typical frames a system call.
const BUFFER_BYTES: usize = 64 << 10;
/// How many subscriptions a connection may have.
const SUBSCRIPTIONS_MAX: usize = 100;

struct Subscription {
    id: String,
    /// What stands before the event in its frames: `["EVENT","<id>",`.
    prefix: Vec<u8>,
    filters: Vec<Filter>,
    /// Stored events that are still to be sent, the first of them last; `None` after EOSE.
    backlog: Option<Vec<Held>>,
    /// Live are, for this subscription, entries and injections from these places on.
    live_from: usize,
    injected_from: usize,
}

impl Subscription {
    fn wants(&self, item: &Item) -> bool {
        self.filters.iter().any(|filter| filter.matches(&item.claims))
    }
}

/// One connection's side of the protocol.
pub(crate) struct Session {
    world: Arc<World>,
    relay: usize,
    subscriptions: Vec<Subscription>,
    /// The next entry and the next injection to look at.
    planned_at: usize,
    injected_at: usize,
    dice: Dice,
    /// The NIP-42 challenge, while REQ needs an answer to it.
    auth_required: Option<String>,
    pub out: Vec<u8>,
    pub figures: Figures,
}

impl Session {
    pub fn new(world: Arc<World>, relay: usize, dice: Dice) -> Self {
        let injected_at = world.relays.get(relay).map_or(0, Relay::injections);
        Self {
            world,
            relay,
            subscriptions: Vec::new(),
            planned_at: 0,
            injected_at,
            dice,
            auth_required: None,
            out: Vec::new(),
            figures: Figures::default(),
        }
    }

    fn count(&mut self, count: Count) {
        self.figures.add(count, 1);
    }

    fn say(&mut self, message: &RelayMessage<'_>, count: Count) {
        write_frame(&mut self.out, opcode::TEXT, message.to_json().as_bytes());
        self.count(Count::Frames);
        self.count(count);
    }

    /// Sends a NIP-42 challenge, and lets no REQ pass before it is answered if `required`.
    pub fn challenge(&mut self, required: bool) {
        let challenge = format!("{:016x}", self.dice.rng().bits());
        self.say(&RelayMessage::Auth { challenge: challenge.as_str().into() }, Count::Auth);
        self.auth_required = required.then_some(challenge);
    }

    /// Answers a ping or a close.
    pub fn control(&mut self, opcode: u8, payload: &[u8]) {
        write_frame(&mut self.out, opcode, payload);
        self.count(Count::Frames);
        self.count(Count::Control);
    }

    /// Takes a text message of the client.
    pub fn receive(&mut self, text: &[u8]) {
        let world = Arc::clone(&self.world);
        let Some(relay) = world.relays.get(self.relay) else { return };
        match ClientMessage::parse(text) {
            Ok(ClientMessage::Req { subscription, filters }) => {
                self.count(Count::Requests);
                relay.note_request(String::from_utf8_lossy(text).into_owned());
                if self.auth_required.is_some() {
                    let reason = "auth-required: this relay serves nobody unknown".into();
                    self.say(&RelayMessage::Closed { subscription, reason }, Count::Closed);
                } else {
                    self.subscribe(relay, subscription.into_owned(), filters);
                }
            }
            Ok(ClientMessage::Close { subscription }) => {
                self.count(Count::Closes);
                self.subscriptions.retain(|open| open.id != subscription);
            }
            Ok(ClientMessage::Event { event }) => {
                let id = UnverifiedEvent::parse(event.as_bytes()).map(|event| event.id.to_string());
                let id = id.unwrap_or_default().into();
                let reason = "blocked: a simulated relay takes no events".into();
                self.say(&RelayMessage::Ok { id, accepted: false, reason }, Count::Oks);
            }
            Ok(ClientMessage::Auth { event }) => self.authenticate(event),
            Ok(ClientMessage::NegOpen { subscription, .. } | ClientMessage::NegMsg { subscription, .. }) => {
                let reason = "closed: this relay has no NIP-77".into();
                self.say(&RelayMessage::NegErr { subscription, reason }, Count::Closed);
            }
            Ok(ClientMessage::NegClose { .. }) => {}
            Err(error) => {
                self.count(Count::BadMessages);
                let notice = format!("error: {error}");
                self.say(&RelayMessage::Notice(notice.into()), Count::Notices);
            }
        }
    }

    fn authenticate(&mut self, event: &str) {
        let Ok(event) = UnverifiedEvent::parse(event.as_bytes()) else { return };
        let right = Verifier::new().verify(&event).is_ok()
            && event.kind == 22_242
            && self.auth_required.as_deref().is_none_or(|known| event.tag_value("challenge") == Some(known));
        let reason = if right { "" } else { "restricted: the answer is wrong" }.into();
        let id = event.id.to_string().into();
        self.say(&RelayMessage::Ok { id, accepted: right, reason }, Count::Oks);
        if right {
            self.auth_required = None;
        }
    }

    fn subscribe(&mut self, relay: &Relay, id: String, filters: Vec<Filter>) {
        self.subscriptions.retain(|open| open.id != id);
        if self.subscriptions.len() == SUBSCRIPTIONS_MAX {
            let reason = "error: too many subscriptions".into();
            return self.say(&RelayMessage::Closed { subscription: id.into(), reason }, Count::Closed);
        }
        if !self.world.hold {
            self.world.go();
        }
        let (live_from, injected_from) = (relay.arrived(&self.world), relay.injections());
        if self.subscriptions.is_empty() {
            self.planned_at = live_from;
        }
        let mut backlog = relay.answer(&self.world, &filters, live_from, injected_from);
        backlog.reverse();
        let prefix = format!(r#"["EVENT",{},"#, serde_json::Value::from(id.as_str())).into_bytes();
        let backlog = Some(backlog);
        self.subscriptions.push(Subscription { id, prefix, filters, backlog, live_from, injected_from });
    }

    /// When there is something to send next, if nothing is to be sent now.
    pub fn due(&self) -> Option<tokio::time::Instant> {
        let relay = self.world.relays.get(self.relay).filter(|_| !self.subscriptions.is_empty())?;
        relay.due(&self.world, self.planned_at)
    }

    /// Appends what there is to send, up to a full buffer, and says how the connection goes on then.
    pub fn fill(&mut self) -> Then {
        let world = Arc::clone(&self.world);
        let Some(relay) = world.relays.get(self.relay) else { return Then::Drops };
        let now = now_us();
        let mut then = self.fill_backlogs(&world, now);
        if then == Then::Goes && self.out.len() < BUFFER_BYTES {
            then = self.fill_injected(relay, now);
        }
        if then == Then::Goes && !self.subscriptions.is_empty() {
            then = self.fill_live(&world, relay, now);
        }
        relay.counters.take(&mut self.figures);
        then
    }

    fn fill_backlogs(&mut self, world: &World, now: u64) -> Then {
        let mut place = 0;
        while let Some(subscription) = self.subscriptions.get_mut(place) {
            let Some(backlog) = &mut subscription.backlog else {
                place += 1;
                continue;
            };
            match backlog.pop() {
                None => {
                    subscription.backlog = None;
                    let subscription = subscription.id.clone().into();
                    self.say(&RelayMessage::Eose { subscription }, Count::Eose);
                }
                Some(held) => {
                    let then = match &held {
                        Held::Planned(number) => match world.item(*number as usize) {
                            Some(item) => self.send(place, item, Some(*number), now),
                            None => Then::Goes,
                        },
                        Held::Injected(item) => self.send(place, item, None, now),
                    };
                    if then != Then::Goes || self.out.len() >= BUFFER_BYTES {
                        return then;
                    }
                }
            }
        }
        Then::Goes
    }

    fn fill_injected(&mut self, relay: &Relay, now: u64) -> Then {
        while let Some(injected) = relay.injection(self.injected_at) {
            let this = self.injected_at;
            self.injected_at += 1;
            match injected {
                Injected::Raw(bytes) => {
                    self.out.extend_from_slice(&bytes);
                    self.count(Count::Raw);
                }
                Injected::Event(item) => {
                    let then = self.send_to_all(&item, None, now, |open| this >= open.injected_from);
                    if then != Then::Goes {
                        return then;
                    }
                }
            }
        }
        Then::Goes
    }

    fn fill_live(&mut self, world: &World, relay: &Relay, now: u64) -> Then {
        let mut then = Then::Goes;
        let sendable = relay.sendable(world);
        while then == Then::Goes && self.out.len() < BUFFER_BYTES && self.planned_at < sendable {
            let this = self.planned_at;
            self.planned_at += 1;
            let Some(number) = relay.entry(this).map(|entry| entry.item) else { break };
            let Some(item) = world.item(number as usize) else { continue };
            then = self.send_to_all(item, Some(number), now, |open| this >= open.live_from);
        }
        relay.sent.fetch_max(self.planned_at, Ordering::AcqRel);
        then
    }

    fn send_to_all(
        &mut self,
        item: &Item,
        number: Option<u32>,
        now: u64,
        is_live: impl Fn(&Subscription) -> bool,
    ) -> Then {
        let mut place = 0;
        while let Some(subscription) = self.subscriptions.get(place) {
            let open = self.subscriptions.len();
            if is_live(subscription) && subscription.wants(item) {
                let then = self.send(place, item, number, now);
                if then != Then::Goes {
                    return then;
                }
            }
            // A fault may have closed it; then the next one has its place.
            place += usize::from(self.subscriptions.len() == open);
        }
        Then::Goes
    }

    /// Sends an event to a subscription, unless a fault gets in the way. What is not sent for that reason
    /// has arrived all the same: it is stored, and the client gets it when it asks again.
    fn send(&mut self, place: usize, item: &Item, number: Option<u32>, now: u64) -> Then {
        let mut then = Then::Goes;
        match self.dice.before_frame() {
            None => {}
            Some(Fault::Garbage(garbage)) => {
                let then = write_garbage(&mut self.out, garbage, &item.text, self.dice.rng());
                self.count(Count::Frames);
                self.count(garbage.into());
                if then == Then::Drops {
                    self.count(Count::Drops);
                }
                if then != Then::Goes {
                    return then;
                }
            }
            Some(Fault::Notice) => {
                self.say(&RelayMessage::Notice("rate-limited: slow down".into()), Count::Notices);
            }
            Some(Fault::Ping) => self.control(opcode::PING, b"are you there?"),
            Some(Fault::Closed) => {
                let subscription = self.subscriptions.remove(place).id.into();
                let reason = "error: shutting down idle subscription".into();
                self.say(&RelayMessage::Closed { subscription, reason }, Count::Closed);
                return Then::Goes;
            }
            Some(Fault::Repeat) => {
                self.count(Count::Repeated);
                self.write_event(place, item, number, now, false);
            }
            Some(Fault::Fragment) => {
                self.count(Count::Fragmented);
                self.write_event(place, item, number, now, true);
                return Then::Goes;
            }
            Some(Fault::Stall(time)) => {
                self.count(Count::Stalls);
                then = Then::Stalls(time);
            }
            Some(Fault::HalfOpen) => {
                self.count(Count::HalfOpen);
                return Then::FallsSilent;
            }
            Some(_) => {
                self.count(Count::Drops);
                return Then::Drops;
            }
        }
        self.write_event(place, item, number, now, false);
        then
    }

    fn write_event(&mut self, place: usize, item: &Item, number: Option<u32>, now: u64, fragmented: bool) {
        let Some(subscription) = self.subscriptions.get(place) else { return };
        let (prefix, out) = (&subscription.prefix, &mut self.out);
        let length = prefix.len() + item.text.len() + 1;
        if fragmented {
            write_header(out, opcode::TEXT, false, prefix.len());
            out.extend_from_slice(prefix);
            write_header(out, opcode::CONTINUATION, true, length - prefix.len());
        } else {
            write_header(out, opcode::TEXT, true, length);
            out.extend_from_slice(prefix);
        }
        out.extend_from_slice(&item.text);
        out.push(b']');
        self.figures.add(Count::Frames, 1);
        match item.origin {
            Origin::Genuine => {
                self.figures.add(Count::Genuine, 1);
                if number.is_some_and(|number| self.world.note_sent(number as usize, now)) {
                    self.figures.add(Count::First, 1);
                }
            }
            Origin::Forged(_) => self.figures.add(Count::Forged, 1),
            Origin::Invalid => self.figures.add(Count::Invalid, 1),
        }
    }
}
