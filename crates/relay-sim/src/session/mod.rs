//! What a relay says on one connection: subscriptions, stored and live events, and faults in between.
//!
//! It writes into a buffer and knows nothing of sockets; [`connection`](crate::connection) moves bytes.

mod gate;
mod reconcile;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use wire::{ClientMessage, Filter, RelayMessage, UnverifiedEvent};

use crate::codec::{opcode, write_frame, write_header};
use crate::corpus::{Item, Origin};
use crate::faults::{Dice, Fault};
use crate::garbage::{Then, write_garbage};
use crate::limits::{Refused, Saying, Window};
use crate::reconciliation::Reconciliation;
use crate::relay::{Held, Injected, Relay};
use crate::stats::{Count, Figures};
use crate::stored::Arrived;
use crate::world::{World, now_us};

pub(crate) use gate::Access;
use gate::Challenge;

/// When so many bytes wait to be written, no more are added: about a hundred typical frames a system call.
const BUFFER_BYTES: usize = 64 << 10;

struct Subscription {
    id: String,
    /// What stands before the event in its frames: `["EVENT","<id>",`.
    prefix: Vec<u8>,
    filters: Vec<Filter>,
    /// Stored events that are still to be sent, the first of them last; `None` after EOSE.
    backlog: Option<Vec<Held>>,
    /// Live are, for this subscription, entries and injections from there on.
    live_from: Arrived,
}

impl Subscription {
    fn wants(&self, item: &Item) -> bool {
        self.filters.iter().any(|filter| filter.matches(&item.claims))
    }
}

/// What of its part a relay says on a connection. All of it is received and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Voice {
    /// All of it.
    All,
    /// All but pongs.
    NoPongs,
    /// All but events.
    NoEvents,
    /// Nothing.
    Nothing,
}

/// One connection's side of the protocol.
pub(crate) struct Session {
    world: Arc<World>,
    relay: usize,
    voice: Voice,
    subscriptions: Vec<Subscription>,
    /// By the ids of their NEG-OPENs.
    reconciliations: Vec<(String, Reconciliation)>,
    /// The next entry and the next injection to look at.
    planned_at: usize,
    injected_at: usize,
    dice: Dice,
    access: Access,
    /// The NIP-42 challenge, if one was sent.
    challenge: Option<Box<Challenge>>,
    /// The requests that count towards a rate limit of connections.
    window: Window,
    pub out: Vec<u8>,
    pub figures: Figures,
}

impl Session {
    pub fn new(world: Arc<World>, relay: usize, voice: Voice, dice: Dice) -> Self {
        let injected_at = world.relays.get(relay).map_or(0, Relay::injections);
        Self {
            world,
            relay,
            voice,
            subscriptions: Vec::new(),
            reconciliations: Vec::new(),
            planned_at: 0,
            injected_at,
            dice,
            access: Access::Open,
            challenge: None,
            window: Window::default(),
            out: Vec::new(),
            figures: Figures::default(),
        }
    }

    const fn has_events(&self) -> bool {
        matches!(self.voice, Voice::All | Voice::NoPongs)
    }

    fn count(&mut self, count: Count) {
        self.figures.add(count, 1);
    }

    fn say(&mut self, message: &RelayMessage<'_>, count: Count) {
        if self.voice == Voice::Nothing {
            return;
        }
        write_frame(&mut self.out, opcode::TEXT, message.to_json().as_bytes());
        self.count(Count::Frames);
        self.count(count);
    }

    /// Answers a ping, unless this relay does not.
    pub fn pong(&mut self, payload: &[u8]) {
        self.count(Count::Pings);
        if self.voice != Voice::NoPongs {
            self.control(opcode::PONG, payload);
        }
    }

    /// Sends a control frame.
    pub fn control(&mut self, opcode: u8, payload: &[u8]) {
        if self.voice == Voice::Nothing {
            return;
        }
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
                relay.note_request(Some(String::from_utf8_lossy(text).into_owned()));
                let subscription = subscription.into_owned();
                if let Err(refused) = self.request(relay, &subscription, filters) {
                    self.refuse(subscription, refused);
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
            Ok(ClientMessage::NegOpen { subscription, filter, message }) => {
                self.count(Count::NegOpens);
                relay.note_request(None);
                self.open_reconciliation(relay, subscription.into_owned(), &filter, &message);
            }
            Ok(ClientMessage::NegMsg { subscription, message }) => {
                self.count(Count::NegMessages);
                self.reconcile(&subscription, &message);
            }
            Ok(ClientMessage::NegClose { subscription }) => self.end_reconciliation(&subscription),
            Err(error) => {
                self.count(Count::BadMessages);
                let notice = format!("error: {error}");
                self.say(&RelayMessage::Notice(notice.into()), Count::Notices);
            }
        }
    }

    /// Takes a REQ, which replaces the subscription of its id.
    fn request(&mut self, relay: &Relay, id: &str, filters: Vec<Filter>) -> Result<(), Refused> {
        self.admit(relay)?;
        if let Some(refused) = relay.refused() {
            return self.turn_away(refused);
        }
        let questions = self.questions(relay, id, &filters)?;
        if !self.world.hold {
            self.world.go();
        }
        let live_from = relay.has(&self.world);
        let answer = relay.answer(&self.world, &questions, live_from);
        if answer.too_many {
            return self.turn_away(Refused::closed("error: too many results"));
        }
        self.subscriptions.retain(|open| open.id != id);
        self.figures.add(Count::Capped, answer.capped.into());
        if self.subscriptions.is_empty() {
            self.planned_at = live_from.planned;
        }
        let mut backlog = answer.held;
        backlog.reverse();
        if self.voice == Voice::NoEvents {
            backlog.clear();
        }
        let prefix = format!(r#"["EVENT",{},"#, serde_json::Value::from(id)).into_bytes();
        let (id, backlog) = (id.to_owned(), Some(backlog));
        self.subscriptions.push(Subscription { id, prefix, filters, backlog, live_from });
        Ok(())
    }

    fn refuse(&mut self, subscription: String, refused: Refused) {
        let reason = refused.reason.into();
        match refused.saying {
            Saying::Closed => {
                self.subscriptions.retain(|open| open.id != subscription);
                let subscription = subscription.into();
                self.say(&RelayMessage::Closed { subscription, reason }, Count::Closed);
            }
            Saying::Notice => self.say(&RelayMessage::Notice(reason), Count::Notices),
        }
    }

    /// Ends all subscriptions for this reason.
    fn close_all(&mut self, reason: &str) {
        for subscription in std::mem::take(&mut self.subscriptions) {
            self.refuse(subscription.id, Refused::closed(reason));
        }
    }

    /// When there is something to send next, if nothing is to be sent now.
    pub fn due(&self) -> Option<tokio::time::Instant> {
        let waits = !self.subscriptions.is_empty() && self.has_events();
        let relay = self.world.relays.get(self.relay).filter(|_| waits)?;
        relay.due(&self.world, self.planned_at)
    }

    /// Appends what there is to send, up to a full buffer, and says how the connection goes on then.
    pub fn fill(&mut self) -> Then {
        let world = Arc::clone(&self.world);
        let Some(relay) = world.relays.get(self.relay) else { return Then::Drops };
        let now = now_us();
        let mut then = match self.voice {
            Voice::Nothing => Then::Goes,
            _ => self.fill_backlogs(&world, now),
        };
        if then == Then::Goes && self.out.len() < BUFFER_BYTES {
            then = self.fill_injected(relay, now);
        }
        if then == Then::Goes && !self.subscriptions.is_empty() && self.has_events() {
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
        while self.out.len() < BUFFER_BYTES
            && let Some(injected) = relay.injection(self.injected_at)
        {
            let this = self.injected_at;
            self.injected_at += 1;
            match injected {
                Injected::Raw(bytes) => {
                    self.out.extend_from_slice(&bytes);
                    self.count(Count::Raw);
                }
                Injected::Closed(reason) => self.close_all(&reason),
                Injected::Event(_) if !self.has_events() => {}
                Injected::Event(item) => {
                    let then = self.send_to_all(&item, None, now, |open| this >= open.live_from.injected);
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
            then = self.send_to_all(item, Some(number), now, |open| this >= open.live_from.planned);
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
