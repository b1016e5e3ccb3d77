//! Decides which requests a relay accepts: NIP-42, rate limits, refusals and limits.

use wire::{Filter, RelayMessage, UnverifiedEvent, Verifier};

use super::Session;
use crate::caps::Question;
use crate::limits::Refused;
use crate::relay::Relay;
use crate::stats::Count;
use crate::world::now_us;

/// The kind of the event that answers a challenge.
const AUTH_KIND: u16 = 22_242;
/// The maximum age of the answer to a challenge, as NIP-42 suggests.
const AUTH_SECONDS_MAX: u64 = 600;

/// What a client may do on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Requests are answered. An answer to a challenge changes nothing.
    Open,
    /// Requests are refused until the client has proved a key.
    Required,
    /// As [`Required`](Self::Required), but the relay does not confirm the key.
    Unconfirmed,
    /// Requests are accepted, but wait for their answers until the client has proved a key.
    Held,
    /// Requests are answered, but without stored or live events until the client has proved a key.
    Empty,
    /// Requests are refused, even after the client has proved a key.
    Restricted {
        /// Whether the client has proved a key.
        proved: bool,
    },
}

/// The challenge that a client has to sign.
#[derive(Debug)]
pub(super) struct Challenge {
    text: String,
    /// The relay's host and path as used by the client, in lower case.
    relay: String,
    sent: bool,
}

impl Session {
    /// Expects an answer to a NIP-42 challenge from a client that used this host and path.
    pub fn expect(&mut self, access: Access, relay: &str) {
        let text = format!("{:016x}", self.dice.rng().bits());
        self.access = access;
        self.challenge = Some(Box::new(Challenge { text, relay: relay.to_lowercase(), sent: false }));
    }

    /// Sends the challenge, unless it has been sent.
    pub fn challenge(&mut self) {
        let unsent = self.challenge.as_deref_mut().filter(|challenge| !challenge.sent);
        let Some(challenge) = unsent else { return };
        challenge.sent = true;
        let challenge = challenge.text.clone().into();
        self.say(&RelayMessage::Auth { challenge }, Count::Auth);
    }

    pub(super) fn authenticate(&mut self, relay: &Relay, event: &str) {
        let Ok(event) = UnverifiedEvent::parse(event.as_bytes()) else {
            self.count(Count::BadMessages);
            return self.say(&RelayMessage::Notice("invalid: AUTH without an event".into()), Count::Notices);
        };
        let wrong = self
            .challenge
            .as_deref()
            .map_or(Err("invalid: nobody asked"), |challenge| challenge.judge(&event, now_us() / 1_000_000));
        let wrong = wrong.err().map(str::to_owned).or_else(|| relay.doubts());
        let (id, accepted) = (event.id.to_string().into(), wrong.is_none());
        if self.access != Access::Unconfirmed || !accepted {
            let reason = wrong.unwrap_or_default().into();
            self.say(&RelayMessage::Ok { id, accepted, reason }, Count::Oks);
        }
        if accepted {
            self.count(Count::Authenticated);
            self.access = match self.access {
                Access::Restricted { .. } => Access::Restricted { proved: true },
                _ => Access::Open,
            };
            for (subscription, filters) in std::mem::take(&mut self.held) {
                self.ask(relay, subscription, filters);
            }
        }
    }

    /// Refuses a request over the rate limit or without a required key; does not look at filters.
    pub(super) fn admit(&mut self, relay: &Relay) -> Result<(), Refused> {
        if let Some(refused) = relay.rate_limited(&mut self.window) {
            self.count(Count::RateLimited);
            return Err(refused);
        }
        let access = match self.access {
            Access::Open | Access::Empty => None,
            Access::Required | Access::Unconfirmed | Access::Held | Access::Restricted { proved: false } => {
                Some("auth-required: this relay serves nobody unknown")
            }
            Access::Restricted { proved: true } => Some("restricted: not on the list"),
        };
        match access {
            Some(reason) => self.turn_away(Refused::closed(reason)),
            None => Ok(()),
        }
    }

    /// The questions to answer, if the relay accepts both the filters and another subscription.
    pub(super) fn questions<'a>(
        &mut self,
        relay: &Relay,
        id: &str,
        filters: &'a [Filter],
    ) -> Result<Vec<Question<'a>>, Refused> {
        let policy = &relay.policy;
        if let Some(refused) = policy.limits.refuses(filters) {
            return self.turn_away(refused);
        }
        let others = self.subscriptions.iter().filter(|open| open.id != id).count();
        if !policy.limits.allows_another(others) {
            return self.turn_away(Refused::closed("error: too many concurrent subscriptions"));
        }
        let questions = filters.iter().map(|filter| Question::new(filter, policy.cap.as_ref()));
        let questions: Result<_, _> = questions.collect();
        questions.or_else(|reason| self.turn_away(Refused::closed(reason)))
    }

    /// Counts a refusal.
    pub(super) fn turn_away<T>(&mut self, refused: Refused) -> Result<T, Refused> {
        self.count(Count::RequestsRefused);
        Err(refused)
    }
}

impl Challenge {
    /// Checks that the event answers the challenge at the time `now`. The error is the reason for
    /// the relay's rejection.
    fn judge(&self, event: &UnverifiedEvent<'_>, now: u64) -> Result<(), &'static str> {
        let names_us = event.tag_value("relay").is_some_and(|relay| {
            let relay = relay.to_lowercase();
            let rest = relay.strip_prefix("ws://").or_else(|| relay.strip_prefix("wss://"));
            rest == Some(&self.relay)
        });
        if Verifier::new().verify(event).is_err() {
            return Err("invalid: the signature is wrong");
        }
        if event.kind != AUTH_KIND {
            return Err("invalid: an answer is of kind 22242");
        }
        if event.created_at.abs_diff(now) > AUTH_SECONDS_MAX {
            return Err("invalid: created_at is too far from now");
        }
        if event.tag_value("challenge") != Some(&self.text) {
            return Err("restricted: that is another challenge");
        }
        if names_us { Ok(()) } else { Err("restricted: that is for another relay") }
    }
}
