//! The relay of the model: its events, and every answer that it may give.

use std::collections::VecDeque;

use wire::{ClientMessage, Filter};

use super::Choices;
use crate::relay::protocol::LIVE;

/// A frame on its way to us.
#[derive(Debug)]
pub(crate) enum Frame {
    /// A message, with the number of the event in the message.
    Text(String, Option<u64>),
    Pong([u8; 8]),
}

#[derive(Debug)]
pub(crate) struct Relay {
    /// The number and the date of each event, oldest first.
    pub events: Vec<(u64, u64)>,
    /// Whether the live subscription is open, so that the relay sends us new events.
    pub is_open: bool,
    /// The frames on their way to us.
    pub pipe: VecDeque<Frame>,
    /// How often the relay may still deviate from a request.
    pub(crate) deviations: usize,
    /// Unix seconds.
    pub now: u64,
    /// Whether the relay serves only authenticated clients.
    pub(crate) demands_key: bool,
    /// The number of challenges sent.
    challenges: usize,
}

/// The answers to a live request. Here and below, the first answer is the regular one.
const LIVE_ANSWERS: [&str; 13] = [
    "EOSE",
    "EOSE CLOSED",
    "CLOSED",
    "CLOSED EOSE",
    "NOTICE",
    "NOTICE EOSE",
    "EOSE NOTICE",
    "open without EOSE",
    "rate-limited",
    "AUTH CLOSED",
    "CLOSED AUTH",
    "AUTH EOSE",
    "AUTH",
];
/// The answers to a backfill request.
const BACKFILL_ANSWERS: [&str; 6] =
    ["EVENT EOSE", "EVENT CLOSED", "CLOSED EVENT EOSE", "NOTICE", "AUTH EOSE", "end the live subscription"];
/// The answers to our authentication.
const PROOF_ANSWERS: [&str; 4] = ["OK", "rate-limited", "restricted", "nothing"];

impl Relay {
    pub fn new(now: u64, deviations: usize) -> Self {
        Self {
            events: vec![(1, now - 100), (2, now - 50)],
            is_open: false,
            pipe: VecDeque::new(),
            deviations,
            now,
            demands_key: false,
            challenges: 0,
        }
    }

    /// Adds an event dated now, and returns its number.
    pub fn publish(&mut self) -> u64 {
        let id = self.events.len() as u64 + 1;
        self.events.push((id, self.now));
        if self.is_open {
            self.send_event(LIVE, id, self.now);
        }
        id
    }

    /// Closes the live subscription.
    pub fn close(&mut self, choices: &mut Choices) {
        self.deviations -= 1;
        self.is_open = false;
        let reason = ["error: idle", "rate-limited: slow down"][choices.choose(2)];
        self.say(format!(r#"["CLOSED","{LIVE}","{reason}"]"#));
    }

    /// Handles a message, and returns the chosen answer.
    pub fn hear(&mut self, message: &str, choices: &mut Choices) -> &'static str {
        match ClientMessage::parse(message.as_bytes()).expect("a message") {
            ClientMessage::Req { subscription, filters } if subscription == LIVE => {
                self.is_open = false;
                let answer = self.choose(&LIVE_ANSWERS, choices);
                self.answer_live(answer, &filters[0]);
                answer
            }
            ClientMessage::Req { subscription, filters } => {
                let answer = self.choose(&BACKFILL_ANSWERS, choices);
                self.answer_backfill(answer, &subscription, &filters[0]);
                answer
            }
            ClientMessage::Close { subscription } => {
                self.is_open &= subscription != LIVE;
                "ended"
            }
            ClientMessage::Auth { event } => {
                let event = wire::UnverifiedEvent::parse(event.as_bytes()).expect("an event");
                let (answer, id) = (self.choose(&PROOF_ANSWERS, choices), event.id);
                match answer {
                    "OK" => self.say(format!(r#"["OK","{id}",true,""]"#)),
                    "rate-limited" => self.say(format!(r#"["OK","{id}",false,"rate-limited: slow down"]"#)),
                    "restricted" => self.say(format!(r#"["OK","{id}",false,"restricted: not on the list"]"#)),
                    _ => {}
                }
                self.demands_key &= matches!(answer, "rate-limited" | "restricted");
                answer
            }
            other => panic!("{other:?} is not sent here"),
        }
    }

    fn choose(&mut self, answers: &[&'static str], choices: &mut Choices) -> &'static str {
        let choice = if self.deviations > 0 { choices.choose(answers.len()) } else { 0 };
        self.deviations -= usize::from(choice > 0);
        answers[choice]
    }

    fn answer_live(&mut self, answer: &str, filter: &Filter) {
        // Unknown clients may be told that there are no events.
        let is_unknown = self.demands_key;
        for part in answer.split(' ') {
            match part {
                "EOSE" => {
                    let is_taken = !answer.contains("CLOSED") && !is_unknown && !answer.contains("AUTH");
                    if is_taken {
                        self.send_stored(LIVE, filter, usize::MAX);
                    }
                    self.is_open = is_taken;
                    self.say(format!(r#"["EOSE","{LIVE}"]"#));
                }
                "CLOSED" if answer.contains("AUTH") => {
                    self.say(format!(r#"["CLOSED","{LIVE}","auth-required: who are you?"]"#));
                }
                "CLOSED" => self.say(format!(r#"["CLOSED","{LIVE}","error: it is over"]"#)),
                "NOTICE" => self.say(r#"["NOTICE","error: something is wrong"]"#.to_owned()),
                "AUTH" => self.challenge(),
                "rate-limited" => self.say(format!(r#"["CLOSED","{LIVE}","rate-limited: slow down"]"#)),
                "open" => {
                    self.is_open = !is_unknown;
                    if self.is_open {
                        self.send_stored(LIVE, filter, usize::MAX);
                    }
                }
                _ => {}
            }
        }
    }

    fn answer_backfill(&mut self, answer: &str, id: &str, filter: &Filter) {
        let closed = format!(r#"["CLOSED","{id}","error: too much"]"#);
        let eose = format!(r#"["EOSE","{id}"]"#);
        match answer {
            "EVENT CLOSED" => {
                self.send_stored(id, filter, 1);
                self.say(closed);
            }
            "NOTICE" => self.say(r#"["NOTICE","error: something is wrong"]"#.to_owned()),
            "AUTH EOSE" => {
                self.challenge();
                self.say(eose);
            }
            _ => {
                match answer {
                    "CLOSED EVENT EOSE" => self.say(closed),
                    "end the live subscription" if self.is_open => {
                        self.is_open = false;
                        self.say(format!(r#"["CLOSED","{LIVE}","rate-limited: one at a time"]"#));
                    }
                    _ => {}
                }
                if !self.demands_key {
                    self.send_stored(id, filter, usize::MAX);
                }
                self.say(eose);
            }
        }
    }

    /// From now on, the relay serves only clients that have proved a key.
    fn challenge(&mut self) {
        self.challenges += 1;
        (self.demands_key, self.is_open) = (true, false);
        self.say(format!(r#"["AUTH","challenge {}"]"#, self.challenges));
    }

    /// Sends the stored events, newest first.
    fn send_stored(&mut self, id: &str, filter: &Filter, most: usize) {
        let within = filter.since.unwrap_or(0)..=filter.until.unwrap_or(u64::MAX);
        let limit = filter.limit.map_or(usize::MAX, |limit| limit as usize).min(most);
        let matching = self.events.iter().rev().filter(|(_, date)| within.contains(date)).copied();
        let matching: Vec<_> = matching.take(limit).collect();
        matching.into_iter().for_each(|(number, date)| self.send_event(id, number, date));
    }

    fn send_event(&mut self, subscription: &str, number: u64, created_at: u64) {
        let (key, signature) = ("a".repeat(64), "b".repeat(128));
        let event = format!(
            r#"{{"id":"{number:064x}","pubkey":"{key}","created_at":{created_at},"kind":1,"tags":[],"content":"","sig":"{signature}"}}"#
        );
        self.pipe.push_back(Frame::Text(format!(r#"["EVENT","{subscription}",{event}]"#), Some(number)));
    }

    fn say(&mut self, message: String) {
        self.pipe.push_back(Frame::Text(message, None));
    }
}
