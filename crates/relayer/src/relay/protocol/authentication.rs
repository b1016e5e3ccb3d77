//! NIP-42: whether the relay has asked who we are, and what it made of our answer.
//!
//! The reader notes challenges and verdicts in the order in which they come, the session answers.
//! What a relay sends between its challenge and its verdict is what it sends to those it does not
//! know, so the [conversation](super::conversation) begins again behind the verdict.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use wire::{ClientMessage, Signer};

use super::refusal::{Refusal, RefusalKind};
use crate::limits::{AUTHENTICATION_TIMEOUT, AUTHENTICATIONS_MAX};

/// The kind of event that answers a challenge.
const KIND: u16 = 22_242;

/// The longest challenge that is answered.
const CHALLENGE_BYTES_MAX: usize = 1_024;

/// How we stand with a relay on one connection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Standing {
    /// It has not asked who we are.
    #[default]
    Unasked,
    /// It has asked. It is answered at this time, if we may.
    Asked(Instant),
    /// It has our answer, and until this time to say whether it takes it.
    Answered {
        /// The id of the event that is our answer.
        event: String,
        /// Until when its verdict is waited for.
        until: Instant,
    },
    /// It has accepted our key.
    Accepted,
    /// It has not said what it makes of our answer. What it sends next shows that.
    Unconfirmed,
    /// It does not accept our key, with its words.
    Refused(Box<str>),
    /// It could not judge our answer however often it was sent, with its words.
    Failed(Box<str>),
}

/// How we stand with a relay, shared by the reader, the session and the conversation of a
/// connection.
#[derive(Debug, Default)]
pub(crate) struct Authentication(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    standing: Standing,
    /// The last challenge.
    challenge: String,
    /// How many answers were sent.
    answers: u32,
}

impl Authentication {
    /// Takes AUTH. `true` if it is a challenge to answer: one that is new, and not one too many.
    pub fn challenged(&self, challenge: &str, now: Instant) -> bool {
        let mut state = self.0.lock();
        let is_known = state.standing != Standing::Unasked && state.challenge == challenge;
        if is_known || challenge.len() > CHALLENGE_BYTES_MAX || state.answers >= AUTHENTICATIONS_MAX {
            return false;
        }
        challenge.clone_into(&mut state.challenge);
        state.standing = Standing::Asked(now);
        true
    }

    /// The message that answers the challenge, which counts as sent.
    pub fn answer(&self, signer: &Signer, relay: &str, unix_secs: u64, now: Instant) -> String {
        let mut state = self.0.lock();
        let tags = [["relay", relay], ["challenge", &state.challenge]];
        let tags = tags.map(|tag| tag.map(str::to_owned));
        let event = signer.sign(unix_secs, KIND, &tags, "");
        state.answers += 1;
        state.standing =
            Standing::Answered { event: event.id().to_string(), until: now + AUTHENTICATION_TIMEOUT };
        ClientMessage::Auth { event: &String::from_utf8_lossy(event.json()) }.to_json()
    }

    /// Takes OK. `false` if it is not about our answer.
    ///
    /// What passes by itself (`rate-limited:`, `error:`) is answered again, later each time.
    pub fn judged(&self, event: &str, accepted: bool, reason: &str, now: Instant) -> bool {
        let mut state = self.0.lock();
        if !matches!(&state.standing, Standing::Answered { event: answer, .. } if answer == event) {
            return false;
        }
        let refusal = Refusal::parse(reason);
        state.standing = match refusal.kind {
            _ if accepted => Standing::Accepted,
            RefusalKind::RateLimited | RefusalKind::Error if state.answers < AUTHENTICATIONS_MAX => {
                Standing::Asked(now + Duration::from_secs(1 << state.answers))
            }
            RefusalKind::RateLimited | RefusalKind::Error => Standing::Failed(refusal.to_string().into()),
            _ => Standing::Refused(refusal.to_string().into()),
        };
        true
    }

    /// Notes that no verdict has come in time.
    pub fn give_up_waiting(&self) {
        let mut state = self.0.lock();
        if matches!(state.standing, Standing::Answered { .. }) {
            state.standing = Standing::Unconfirmed;
        }
    }

    /// How we stand.
    pub fn standing(&self) -> Standing {
        self.0.lock().standing.clone()
    }

    /// Whether the relay has asked who we are and may still take us for somebody it does not know.
    pub fn is_unknown(&self) -> bool {
        !matches!(self.0.lock().standing, Standing::Unasked | Standing::Accepted | Standing::Unconfirmed)
    }
}

impl Standing {
    /// When there is something to do: to answer, or to wait no longer.
    pub const fn due(&self) -> Option<Instant> {
        match self {
            Self::Asked(at) => Some(*at),
            Self::Answered { until, .. } => Some(*until),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(authentication: &Authentication, now: Instant) -> String {
        let message = authentication.answer(&Signer::from_seed(1), "wss://relay.example", 1_700_000_000, now);
        assert!(message.starts_with(r#"["AUTH",{"#), "{message}");
        let Standing::Answered { event, .. } = authentication.standing() else { panic!("answered") };
        assert!(message.contains(&event));
        event
    }

    #[test]
    fn a_challenge_is_answered_once_and_a_new_one_again() {
        let (authentication, now) = (Authentication::default(), Instant::now());
        assert!(!authentication.is_unknown());
        assert!(authentication.challenged("a", now));
        assert!(authentication.is_unknown());
        assert!(!authentication.challenged("a", now), "it is known");
        let event = answer(&authentication, now);
        assert!(!authentication.challenged("a", now));
        assert!(!authentication.judged("another", true, "", now));
        assert!(authentication.judged(&event, true, "", now));
        assert_eq!(authentication.standing(), Standing::Accepted);
        assert!(!authentication.judged(&event, false, "blocked: no", now), "it has been judged");
        assert!(!authentication.challenged("a", now));
        assert!(!authentication.challenged(&"x".repeat(CHALLENGE_BYTES_MAX + 1), now));
        for number in 1..AUTHENTICATIONS_MAX {
            assert!(authentication.challenged(&number.to_string(), now));
            answer(&authentication, now);
        }
        assert!(!authentication.challenged("one too many", now));
    }

    #[test]
    fn what_passes_is_answered_again_and_what_does_not_is_not() {
        let start = Instant::now();
        for reason in ["rate-limited: slow down", "error: database is locked", "come back later"] {
            let (authentication, mut now) = (Authentication::default(), start);
            authentication.challenged("a", now);
            for _ in 1..AUTHENTICATIONS_MAX {
                let event = answer(&authentication, now);
                assert!(authentication.judged(&event, false, reason, now));
                let due = authentication.standing().due().expect("it is answered again");
                assert!(due > now, "and not at once");
                now = due;
            }
            let event = answer(&authentication, now);
            assert!(authentication.judged(&event, false, reason, now));
            assert_eq!(authentication.standing(), Standing::Failed(reason.into()));
        }
        for reason in ["restricted: not on the list", "blocked: no", "invalid: too old"] {
            let authentication = Authentication::default();
            authentication.challenged("a", start);
            let event = answer(&authentication, start);
            assert!(authentication.judged(&event, false, reason, start));
            assert_eq!(authentication.standing(), Standing::Refused(reason.into()));
            assert!(authentication.is_unknown());
        }
    }

    #[test]
    fn silence_about_an_answer_is_not_waited_for_without_end() {
        let (authentication, now) = (Authentication::default(), Instant::now());
        authentication.challenged("a", now);
        answer(&authentication, now);
        assert_eq!(authentication.standing().due(), Some(now + AUTHENTICATION_TIMEOUT));
        authentication.give_up_waiting();
        assert_eq!(authentication.standing(), Standing::Unconfirmed);
        assert_eq!(authentication.standing().due(), None);
    }
}
