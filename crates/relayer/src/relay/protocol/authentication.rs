//! NIP-42: the relay's challenge, our answer, and the relay's verdict.
//!
//! The reader records challenges and verdicts in the order in which they arrive, and the session
//! answers. Until its verdict, a relay treats us as an unknown client, so the conversation starts
//! again after the verdict.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use wire::{ClientMessage, Signer};

use super::refusal::{Refusal, RefusalKind};
use crate::limits::{AUTHENTICATION_TIMEOUT, AUTHENTICATIONS_MAX};

/// The kind of the event that answers a challenge.
const KIND: u16 = 22_242;

/// The longest challenge that is answered.
const CHALLENGE_BYTES_MAX: usize = 1_024;

/// The state of authentication on one connection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Standing {
    /// The relay has sent no challenge.
    #[default]
    Unasked,
    /// The relay has sent a challenge. If the configuration permits, we answer at this time.
    Asked(Instant),
    /// We have answered and wait for the verdict.
    Answered {
        /// The id of the event in our answer.
        event: String,
        /// When we stop waiting.
        until: Instant,
    },
    /// The relay has accepted our key.
    Accepted,
    /// The relay sent no verdict. Its next answers show whether it accepted our key.
    Unconfirmed,
    /// The relay refused our key, for this reason.
    Refused(Box<str>),
    /// The relay could not process any of our answers, for this reason.
    Failed(Box<str>),
}

/// The authentication of one connection, shared by its reader, session and conversation.
#[derive(Debug, Default)]
pub(crate) struct Authentication(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    standing: Standing,
    /// The last challenge.
    challenge: String,
    /// The number of answers sent.
    answers: u32,
}

impl Authentication {
    /// Handles AUTH; `true` if the challenge is new and is to be answered.
    pub(crate) fn challenged(&self, challenge: &str, now: Instant) -> bool {
        let mut state = self.0.lock();
        let is_known = state.standing != Standing::Unasked && state.challenge == challenge;
        if is_known || challenge.len() > CHALLENGE_BYTES_MAX || state.answers >= AUTHENTICATIONS_MAX {
            return false;
        }
        challenge.clone_into(&mut state.challenge);
        state.standing = Standing::Asked(now);
        true
    }

    /// Returns the message that answers the challenge, and counts it as sent.
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

    /// Handles OK; `false` if the OK is not about our answer.
    ///
    /// After a temporary refusal (`rate-limited:`, `error:`) the challenge is answered again, with
    /// growing delays.
    pub(crate) fn judged(&self, event: &str, accepted: bool, reason: &str, now: Instant) -> bool {
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

    /// Records that no verdict arrived in time.
    pub(crate) fn give_up_waiting(&self) {
        let mut state = self.0.lock();
        if matches!(state.standing, Standing::Answered { .. }) {
            state.standing = Standing::Unconfirmed;
        }
    }

    pub(crate) fn standing(&self) -> Standing {
        self.0.lock().standing.clone()
    }

    /// Whether the relay has sent a challenge and may still treat us as an unknown client.
    pub(crate) fn is_unknown(&self) -> bool {
        !matches!(self.0.lock().standing, Standing::Unasked | Standing::Accepted | Standing::Unconfirmed)
    }
}

impl Standing {
    /// When the next step is due: to answer, or to stop waiting.
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
        assert!(!authentication.challenged("a", now), "the same challenge");
        let event = answer(&authentication, now);
        assert!(!authentication.challenged("a", now));
        assert!(!authentication.judged("another", true, "", now));
        assert!(authentication.judged(&event, true, "", now));
        assert_eq!(authentication.standing(), Standing::Accepted);
        assert!(!authentication.judged(&event, false, "blocked: no", now), "already judged");
        assert!(!authentication.challenged("a", now));
        assert!(!authentication.challenged(&"x".repeat(CHALLENGE_BYTES_MAX + 1), now));
        for number in 1..AUTHENTICATIONS_MAX {
            assert!(authentication.challenged(&number.to_string(), now));
            answer(&authentication, now);
        }
        assert!(!authentication.challenged("one too many", now));
    }

    #[test]
    fn only_temporary_refusals_are_answered_again() {
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
    fn waiting_for_a_verdict_ends() {
        let (authentication, now) = (Authentication::default(), Instant::now());
        authentication.challenged("a", now);
        answer(&authentication, now);
        assert_eq!(authentication.standing().due(), Some(now + AUTHENTICATION_TIMEOUT));
        authentication.give_up_waiting();
        assert_eq!(authentication.standing(), Standing::Unconfirmed);
        assert_eq!(authentication.standing().due(), None);
    }
}
