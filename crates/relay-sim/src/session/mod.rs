//! The protocol on one connection: the client's messages and the relay's reactions.
//!
//! A session writes into a buffer and uses no sockets; [`connection`](crate::connection) moves the
//! bytes.

mod fill;
mod gate;
mod reconcile;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use wire::{ClientMessage, Filter, Hints, RelayMessage, UnverifiedEvent, Verifier};

use crate::codec::{opcode, write_frame};
use crate::corpus::Item;
use crate::endings::EndingPlace;
use crate::faults::{Dice, Flood};
use crate::limits::{Refused, Saying, Window};
use crate::reconciliation::Reconciliation;
use crate::relay::{Held, Publication, Relay};
use crate::stats::{Count, Figures};
use crate::stored::Arrived;
use crate::world::World;

pub(crate) use gate::Access;
use gate::Challenge;

struct Subscription {
    id: String,
    /// The text that precedes the event in an EVENT frame: `["EVENT","<id>",`.
    prefix: Vec<u8>,
    filters: Vec<Filter>,
    /// Whether EOSE states that the relay has all or has more events (NIP-67).
    hints: Hints,
    /// Where and why the relay ends the subscription.
    ending: Option<(EndingPlace, String)>,
    /// The time of a delayed EOSE.
    eose_at: Option<Instant>,
    /// Stored events that are still to be sent, in reverse order; `None` after EOSE.
    backlog: Option<Vec<Held>>,
    /// Entries and injections from this position on are live for this subscription.
    live_from: Arrived,
}

impl Subscription {
    fn wants(&self, item: &Item) -> bool {
        self.filters.iter().any(|filter| filter.matches(&item.claims))
    }
}

/// The messages that a relay sends. The relay receives and counts all messages of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Voice {
    /// All messages.
    All,
    /// All except pongs.
    NoPongs,
    /// All except events.
    NoEvents,
    Nothing,
}

/// When a relay sends EOSE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Eose {
    /// After the last stored event.
    #[default]
    Next,
    /// This long after the last stored event.
    After(Duration),
    Never,
}

/// The protocol on one connection.
pub(crate) struct Session {
    world: Arc<World>,
    relay: usize,
    voice: Voice,
    subscriptions: Vec<Subscription>,
    /// Reconciliations by the ids of their NEG-OPENs.
    reconciliations: Vec<(String, Reconciliation)>,
    /// The positions of the next entry and of the next injection to examine.
    planned_at: usize,
    injected_at: usize,
    dice: Dice,
    access: Access,
    /// REQs that wait for the client to prove a key.
    held: Vec<(String, Vec<Filter>)>,
    eose: Eose,
    /// The NIP-42 challenge, if the relay uses one.
    challenge: Option<Box<Challenge>>,
    /// The requests that count for the connection's rate limit.
    window: Window,
    /// The flood that the relay sends in addition to all other frames.
    pub flood: Option<Flood>,
    /// The number of events made by faults for this connection.
    made: u64,
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
            held: Vec::new(),
            eose: Eose::default(),
            challenge: None,
            window: Window::default(),
            flood: None,
            made: 0,
            out: Vec::new(),
            figures: Figures::default(),
        }
    }

    fn has_events(&self) -> bool {
        matches!(self.voice, Voice::All | Voice::NoPongs) && self.access != Access::Empty
    }

    /// Sets when EOSE is sent.
    pub fn delay_eose(&mut self, eose: Eose) {
        self.eose = eose;
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

    /// Answers a ping, unless this relay never answers pings.
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

    /// Handles a text message from the client.
    pub fn receive(&mut self, text: &[u8]) {
        let world = Arc::clone(&self.world);
        let Some(relay) = world.relays.get(self.relay) else { return };
        match ClientMessage::parse(text) {
            Ok(ClientMessage::Req { subscription, filters }) => {
                self.count(Count::Requests);
                relay.note_request(Some(String::from_utf8_lossy(text).into_owned()));
                let subscription = subscription.into_owned();
                if self.access == Access::Held {
                    self.held.push((subscription, filters));
                    self.challenge();
                } else {
                    self.ask(relay, subscription, filters);
                }
            }
            Ok(ClientMessage::Close { subscription }) => {
                self.count(Count::Closes);
                self.subscriptions.retain(|open| open.id != subscription);
                self.held.retain(|(held, _)| *held != subscription);
            }
            Ok(ClientMessage::Event { event }) => self.take(relay, event),
            Ok(ClientMessage::Auth { event }) => self.authenticate(relay, event),
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

    /// Handles an EVENT, and replies whether the relay accepted the event.
    fn take(&mut self, relay: &Relay, event: &str) {
        let (id, judged) = match UnverifiedEvent::parse(event.as_bytes()) {
            Ok(event) => {
                (event.id.to_string(), Verifier::new().verify(&event).map_err(|error| error.to_string()))
            }
            Err(error) => (String::new(), Err(error.to_string())),
        };
        let (accepted, reason) = match judged.map_err(|error| format!("invalid: {error}")) {
            Err(reason) => (false, reason),
            Ok(event) => match self.admit(relay).map(|()| relay.take(event)) {
                Err(refused) => (false, refused.reason.to_string()),
                Ok(Publication::Taken) => (true, String::new()),
                Ok(Publication::Duplicate) => (true, "duplicate: this event is held".to_owned()),
                Ok(Publication::Outdated) => (false, "replaced: a newer event is held".to_owned()),
            },
        };
        self.say(&RelayMessage::Ok { id: id.into(), accepted, reason: reason.into() }, Count::Oks);
    }

    /// Handles a REQ or refuses it.
    fn ask(&mut self, relay: &Relay, subscription: String, filters: Vec<Filter>) {
        if let Err(refused) = self.request(relay, &subscription, filters) {
            self.refuse(subscription, refused);
            self.challenge();
        }
    }

    /// Accepts a REQ; it replaces a subscription of the same id.
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
        if self.voice == Voice::NoEvents || self.access == Access::Empty {
            backlog.clear();
        }
        let hints = Hints { more: answer.more, auth: false };
        let prefix = format!(r#"["EVENT",{},"#, serde_json::Value::from(id)).into_bytes();
        let (id, backlog) = (id.to_owned(), Some(backlog));
        let (ending, eose_at) = (relay.ends(), None);
        let subscription = Subscription { id, prefix, filters, hints, ending, eose_at, backlog, live_from };
        self.subscriptions.push(subscription);
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

    /// Ends all subscriptions with this reason.
    fn close_all(&mut self, reason: &str) {
        for subscription in std::mem::take(&mut self.subscriptions) {
            self.refuse(subscription.id, Refused::closed(reason));
        }
    }
}
