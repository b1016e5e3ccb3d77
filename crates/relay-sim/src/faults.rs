//! How relays misbehave: which faults, on which relays, and how often, decided by [`Dice`].

use std::time::Duration;

use crate::rng::Rng;

/// Frames that no relay should send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Garbage {
    /// A text frame that is not JSON.
    InvalidJson,
    /// A text frame that is not UTF-8.
    InvalidUtf8,
    /// A binary frame.
    Binary,
    /// A string of 1 MiB instead of an event.
    HugeString,
    /// 50,000 opening brackets.
    DeepNesting,
    /// A header that announces more bytes than follow, then silence.
    TruncatedStall,
    /// A header that announces more bytes than follow, then the end of the connection.
    TruncatedDrop,
    /// A genuine event under an unknown subscription id.
    WrongSubscription,
    /// A message type that does not exist.
    UnknownType,
}

impl Garbage {
    pub const ALL: [Self; 9] = [
        Self::InvalidJson,
        Self::InvalidUtf8,
        Self::Binary,
        Self::HugeString,
        Self::DeepNesting,
        Self::TruncatedStall,
        Self::TruncatedDrop,
        Self::WrongSubscription,
        Self::UnknownType,
    ];
}

/// Frames that are valid individually and are sent endlessly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Flood {
    /// Empty pings.
    Pings,
    /// Empty unsolicited pongs.
    Pongs,
    /// Empty text messages.
    EmptyText,
    /// Messages in fragments of one byte.
    Fragments,
    /// Messages with a thousand empty fragments after each byte.
    EmptyFragments,
    /// All other floods in turn.
    Mixed,
}

impl Flood {
    /// All floods except the mix.
    pub const SORTS: [Self; 5] =
        [Self::Pings, Self::Pongs, Self::EmptyText, Self::Fragments, Self::EmptyFragments];
}

/// One kind of misbehaviour. The dice decide the first group before every event frame, the second
/// once for each connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Sends garbage before an event frame.
    Garbage(Garbage),
    /// Sends a NOTICE before an event frame.
    Notice,
    /// Ends the subscription with CLOSED instead of sending the event.
    Closed,
    /// Sends a ping before an event frame. Valid.
    Ping,
    /// Sends the event frame twice.
    Repeat,
    /// Sends the event frame in two fragments. Valid.
    Fragment,
    /// Neither sends nor reads for this long.
    Stall(Duration),
    /// Stops sending and reading, and never closes.
    HalfOpen,
    /// Closes the TCP connection without a closing handshake.
    Drop,
    /// Closes the WebSocket with this code and a reason.
    Close(u16),
    /// Before an event frame, sends the next variant of malformed but signed event. Many honest
    /// relays would send such events, too.
    Poison,
    /// Sends a genuine event of 300 KB to 1 MB before an event frame. Valid.
    Oversized,

    /// Closes the TCP connection after reading the upgrade request.
    Refuse,
    /// Answers the upgrade request with 503.
    RefuseUpgrade,
    /// Never answers the upgrade request.
    NeverUpgrade,
    /// Answers the upgrade request after this long.
    SlowUpgrade(Duration),
    /// Sends nothing after the response to the upgrade: no EOSE, no pong. The relay still reads.
    Mute,
    /// Answers every REQ with EOSE at once, and answers pings, but never sends an event.
    Silent,
    /// Does not answer pings.
    NoPongs,
    /// Sends stored and live events, but never EOSE.
    NoEose,
    /// Sends EOSE this long after the last stored event.
    LateEose(Duration),
    /// Writes one byte at a time, with this pause after each.
    Drip(Duration),
    /// In addition to all other frames, sends as many flood frames as the socket accepts.
    Flood(Flood),
    /// Sends a NIP-42 challenge first, and then serves the client without waiting for an answer.
    Auth,
    /// Sends a NIP-42 challenge, and answers REQ with CLOSED `auth-required:` until the client has
    /// proved a key.
    AuthRequired,
    /// As [`AuthRequired`](Self::AuthRequired), but the challenge follows the first CLOSED.
    AuthLate,
    /// Sends a NIP-42 challenge at the first REQ, and answers REQs only after the client has proved
    /// a key. Until then, the relay is silent.
    AuthHeld,
    /// Sends a NIP-42 challenge first. Until the client has proved a key, the relay answers REQs
    /// with EOSE only, as if it had no events.
    AuthEmpty,
    /// As [`AuthRequired`](Self::AuthRequired), but without an OK for an accepted proof.
    AuthUnconfirmed,
    /// As [`AuthRequired`](Self::AuthRequired), but a client that has proved its key gets CLOSED
    /// `restricted: not on the list`.
    AuthRestricted,
}

impl Fault {
    /// Every fault once: all garbage, delays that an honest client can wait for, and the mixed
    /// flood instead of each flood.
    pub fn all() -> Vec<Self> {
        let garbage = Garbage::ALL.map(Self::Garbage);
        let others = [
            Self::Notice,
            Self::Closed,
            Self::Ping,
            Self::Repeat,
            Self::Fragment,
            Self::Stall(Duration::from_secs(1)),
            Self::HalfOpen,
            Self::Drop,
            Self::Close(1013),
            Self::Poison,
            Self::Oversized,
            Self::Refuse,
            Self::RefuseUpgrade,
            Self::NeverUpgrade,
            Self::SlowUpgrade(Duration::from_secs(1)),
            Self::Mute,
            Self::Silent,
            Self::NoPongs,
            Self::NoEose,
            Self::LateEose(Duration::from_secs(1)),
            Self::Drip(Duration::from_millis(1)),
            Self::Flood(Flood::Mixed),
            Self::Auth,
            Self::AuthRequired,
            Self::AuthLate,
            Self::AuthHeld,
            Self::AuthEmpty,
            Self::AuthUnconfirmed,
            Self::AuthRestricted,
        ];
        garbage.into_iter().chain(others).collect()
    }

    /// Whether the fault is decided once for each connection.
    pub const fn is_per_connection(self) -> bool {
        match self {
            Self::Refuse | Self::RefuseUpgrade | Self::NeverUpgrade | Self::SlowUpgrade(_) => true,
            Self::Mute | Self::Silent | Self::NoPongs | Self::Drip(_) | Self::Flood(_) | Self::Auth => true,
            Self::NoEose | Self::LateEose(_) => true,
            _ => self.wants_auth(),
        }
    }

    /// Whether the fault can prevent a relay from sending its events.
    pub(crate) fn keeps_events(&self) -> bool {
        match self {
            Self::HalfOpen | Self::Garbage(Garbage::TruncatedStall) => true,
            Self::Refuse | Self::RefuseUpgrade | Self::NeverUpgrade | Self::Mute | Self::Silent => true,
            _ => self.wants_auth(),
        }
    }

    /// Whether a relay with this fault serves only clients that have proved a key.
    pub(crate) const fn wants_auth(&self) -> bool {
        matches!(
            self,
            Self::AuthRequired
                | Self::AuthLate
                | Self::AuthRestricted
                | Self::AuthHeld
                | Self::AuthEmpty
                | Self::AuthUnconfirmed
        )
    }
}

/// A set of relays.
#[derive(Debug, Clone, PartialEq)]
pub enum Who {
    /// Every relay, including scripted ones.
    All,
    /// A share, `0.0..=1.0`, of the unscripted relays (of the scripted relays if there are no
    /// others), chosen by the seed. A smaller share is a subset of a larger one, so "a third of the
    /// relays" are the same relays for every fault.
    Share(f64),
    /// The relays with these numbers.
    These(Vec<usize>),
}

impl Who {
    /// For each relay, whether it is in the set.
    pub fn of(&self, seed: u64, relays: usize) -> Vec<bool> {
        let mut chosen = vec![matches!(self, Self::All); relays];
        let numbers = match self {
            Self::All => Vec::new(),
            Self::Share(share) => {
                let count = (share * relays as f64).round() as usize;
                let mut order = Rng::new(&[seed, 0xFA17]).distinct(relays, relays);
                order.truncate(count);
                order
            }
            Self::These(numbers) => numbers.clone(),
        };
        for number in numbers {
            if let Some(place) = chosen.get_mut(number) {
                *place = true;
            }
        }
        chosen
    }
}

/// A fault with its relays and probability.
#[derive(Debug, Clone, PartialEq)]
pub struct FaultRule {
    pub fault: Fault,
    /// The relays that have the fault.
    pub who: Who,
    /// The probability of the fault at each decision.
    pub chance: f64,
}

/// One connection's dice. The same seed, relay and connection number give the same results.
#[derive(Debug)]
pub struct Dice {
    rng: Rng,
    /// The number of event frames so far.
    frames: u64,
    /// The frame before which the next fault happens. For most frames, only this number is checked.
    soonest: u64,
    rules: Vec<(Fault, f64, u64)>,
}

impl Dice {
    /// The dice of a relay's connection with this number.
    pub fn new(seed: u64, relay: usize, connection: u64, faults: &[(Fault, f64)]) -> Self {
        let mut rng = Rng::new(&[seed, 0xD1CE, relay as u64, connection]);
        let frame_faults = faults.iter().filter(|(fault, _)| !fault.is_per_connection());
        let rules: Vec<_> =
            frame_faults.map(|(fault, chance)| (*fault, *chance, rng.tries_until(*chance))).collect();
        let mut dice = Self { rng, frames: 0, soonest: 0, rules };
        dice.find_soonest();
        dice
    }

    /// The faults of the whole connection.
    pub fn connection_faults(&mut self, faults: &[(Fault, f64)]) -> Vec<Fault> {
        let faults = faults.iter().filter(|(fault, _)| fault.is_per_connection());
        faults.filter(|(_, chance)| self.rng.chance(*chance)).map(|(fault, _)| *fault).collect()
    }

    /// Counts an event frame and returns at most one fault to apply before this frame.
    pub fn before_frame(&mut self) -> Option<Fault> {
        self.frames += 1;
        if self.frames < self.soonest {
            return None;
        }
        let due = self.rules.iter_mut().find(|(_, _, next)| *next <= self.frames)?;
        let (fault, chance, next) = due;
        *next = self.frames.saturating_add(self.rng.tries_until(*chance));
        let fault = *fault;
        self.find_soonest();
        Some(fault)
    }

    /// Random numbers for the details of a fault.
    pub fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    fn find_soonest(&mut self) {
        self.soonest = self.rules.iter().map(|(_, _, next)| *next).min().unwrap_or(u64::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_nested() {
        let third = Who::Share(1.0 / 3.0).of(7, 30);
        let half = Who::Share(0.5).of(7, 30);
        assert_eq!(third.iter().filter(|chosen| **chosen).count(), 10);
        assert!(third.iter().zip(&half).all(|(third, half)| *half || !*third));
        assert_eq!(Who::All.of(7, 2), [true, true]);
        assert_eq!(Who::These(vec![1, 9]).of(7, 3), [false, true, false]);
    }

    /// The matches have no wildcard, so a new variant does not compile until it has a number here.
    /// The test fails if [`Fault::all`] or [`Garbage::ALL`] lacks a variant.
    #[test]
    fn all_has_every_fault_once() {
        const fn garbage_number(garbage: Garbage) -> usize {
            match garbage {
                Garbage::InvalidJson => 0,
                Garbage::InvalidUtf8 => 1,
                Garbage::Binary => 2,
                Garbage::HugeString => 3,
                Garbage::DeepNesting => 4,
                Garbage::TruncatedStall => 5,
                Garbage::TruncatedDrop => 6,
                Garbage::WrongSubscription => 7,
                Garbage::UnknownType => 8,
            }
        }
        const GARBAGE: usize = 9;
        const fn number(fault: Fault) -> usize {
            GARBAGE
                + match fault {
                    Fault::Garbage(garbage) => return garbage_number(garbage),
                    Fault::Notice => 0,
                    Fault::Closed => 1,
                    Fault::Ping => 2,
                    Fault::Repeat => 3,
                    Fault::Fragment => 4,
                    Fault::Stall(_) => 5,
                    Fault::HalfOpen => 6,
                    Fault::Drop => 7,
                    Fault::Close(_) => 8,
                    Fault::Poison => 9,
                    Fault::Oversized => 10,
                    Fault::Refuse => 11,
                    Fault::RefuseUpgrade => 12,
                    Fault::NeverUpgrade => 13,
                    Fault::SlowUpgrade(_) => 14,
                    Fault::Mute => 15,
                    Fault::Silent => 16,
                    Fault::NoPongs => 17,
                    Fault::NoEose => 18,
                    Fault::LateEose(_) => 19,
                    Fault::Drip(_) => 20,
                    Fault::Flood(_) => 21,
                    Fault::Auth => 22,
                    Fault::AuthRequired => 23,
                    Fault::AuthLate => 24,
                    Fault::AuthHeld => 25,
                    Fault::AuthEmpty => 26,
                    Fault::AuthUnconfirmed => 27,
                    Fault::AuthRestricted => 28,
                }
        }
        const FAULTS: usize = GARBAGE + 29;

        let mut numbers: Vec<usize> = Fault::all().into_iter().map(number).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..FAULTS).collect::<Vec<_>>());
    }

    #[test]
    fn dice_replay_and_keep_their_chances() {
        let faults = [(Fault::Drop, 0.1), (Fault::Notice, 0.2), (Fault::Refuse, 1.0), (Fault::Closed, 0.0)];
        let throw = |connection| {
            let mut dice = Dice::new(7, 3, connection, &faults);
            assert_eq!(dice.connection_faults(&faults), [Fault::Refuse]);
            (0..10_000).map(|_| dice.before_frame()).collect::<Vec<_>>()
        };
        assert_eq!(throw(0), throw(0));
        assert_ne!(throw(0), throw(1));
        let count = |fault| throw(0).iter().filter(|thrown| **thrown == Some(fault)).count();
        assert!((850..1150).contains(&count(Fault::Drop)), "{}", count(Fault::Drop));
        assert!((1700..2150).contains(&count(Fault::Notice)), "{}", count(Fault::Notice));
        assert_eq!(count(Fault::Closed), 0);
    }
}
