//! Counts of what the relays did.

use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::faults::Garbage;

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident = $label:literal,)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Count {
            $($(#[$doc])* $name,)*
        }

        impl Count {
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The name in summaries.
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$name => $label,)*
                }
            }
        }

        const COUNTS: usize = [$($label,)*].len();
    };
}

counts! {
    /// TCP connections for this relay.
    Connections = "connections",
    /// TLS connections with a full handshake.
    TlsFull = "tls_full",
    /// TLS connections that resumed a session.
    TlsResumed = "tls_resumed",
    /// Connections that became WebSockets.
    Upgrades = "upgrades",
    /// NIP-11 requests.
    Information = "information",
    /// REQ messages.
    Requests = "requests",
    /// Pings from clients.
    Pings = "pings",
    /// NEG-OPEN messages.
    NegOpens = "neg_opens",
    /// NEG-MSG messages from clients.
    NegMessages = "neg_messages",
    /// Requests that a rate limit refused.
    RateLimited = "rate_limited",
    /// REQs and NEG-OPENs that were refused for another reason: a cap, a limit, a missing key, or a
    /// test.
    RequestsRefused = "requests_refused",
    /// Answers that the relay's cap truncated.
    Capped = "capped",
    /// Clients that proved a key (NIP-42).
    Authenticated = "authenticated",
    /// CLOSE messages.
    Closes = "closes",
    /// Messages that NIP-01 does not define, and broken frames.
    BadMessages = "bad_messages",
    /// All written frames. The counts below divide them by kind.
    Frames = "frames",
    /// Bytes passed to the sockets.
    Bytes = "bytes",
    /// Event frames with a genuine event and a valid subscription id.
    Genuine = "genuine",
    /// The first genuine frame of each event over all relays. Later ones are copies.
    First = "first",
    /// Event frames with a forged event.
    Forged = "forged",
    /// Event frames with an event that does not verify, from a file or a test.
    Invalid = "invalid",
    /// EOSE.
    Eose = "eose",
    /// NOTICE.
    Notices = "notices",
    /// CLOSED.
    Closed = "closed",
    /// NEG-MSG answers.
    NegAnswers = "neg_answers",
    /// NEG-ERR.
    NegErrors = "neg_errors",
    /// AUTH challenges.
    Auth = "auth",
    /// OK.
    Oks = "oks",
    /// WebSocket pings, pongs and closes.
    Control = "control",
    /// Raw bytes sent by a test.
    Raw = "raw",
    /// Text that is not JSON.
    InvalidJson = "garbage_invalid_json",
    /// Text that is not UTF-8.
    InvalidUtf8 = "garbage_invalid_utf8",
    /// Binary frames.
    Binary = "garbage_binary",
    /// Strings of 1 MiB.
    HugeString = "garbage_huge_string",
    /// 50,000 brackets.
    DeepNesting = "garbage_deep_nesting",
    /// Truncated frames followed by silence.
    TruncatedStall = "garbage_truncated_stall",
    /// Truncated frames followed by the end of the connection.
    TruncatedDrop = "garbage_truncated_drop",
    /// Events under unknown subscription ids.
    WrongSubscription = "garbage_wrong_subscription",
    /// Unknown message types.
    UnknownType = "garbage_unknown_type",
    /// Event frames with a signed but malformed event, caused by a fault.
    Poison = "poison",
    /// Event frames with an event of 300 KB to 1 MB, caused by a fault.
    Oversized = "oversized",
    /// Frames of floods.
    Flood = "flood",
    /// Event frames written in two fragments.
    Fragmented = "fragmented",
    /// Event frames written twice.
    Repeated = "repeated",
    /// Stalls.
    Stalls = "stalls",
    /// Connections left half-open.
    HalfOpen = "half_open",
    /// Connections that wrote byte by byte.
    Drips = "drips",
    /// Connections dropped without a closing handshake, by fault or by a test.
    Drops = "drops",
    /// Connections and upgrades refused.
    Refused = "refused",
}

impl From<Garbage> for Count {
    fn from(garbage: Garbage) -> Self {
        match garbage {
            Garbage::InvalidJson => Self::InvalidJson,
            Garbage::InvalidUtf8 => Self::InvalidUtf8,
            Garbage::Binary => Self::Binary,
            Garbage::HugeString => Self::HugeString,
            Garbage::DeepNesting => Self::DeepNesting,
            Garbage::TruncatedStall => Self::TruncatedStall,
            Garbage::TruncatedDrop => Self::TruncatedDrop,
            Garbage::WrongSubscription => Self::WrongSubscription,
            Garbage::UnknownType => Self::UnknownType,
        }
    }
}

/// The counts of one relay, or of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures([u64; COUNTS]);

impl Default for Figures {
    fn default() -> Self {
        Self([0; COUNTS])
    }
}

impl Figures {
    pub fn get(&self, count: Count) -> u64 {
        self.0.get(count as usize).copied().unwrap_or_default()
    }

    /// The number of garbage frames of all kinds.
    pub fn garbage(&self) -> u64 {
        Garbage::ALL.into_iter().map(|garbage| self.get(garbage.into())).sum()
    }

    /// The number of genuine event frames after each event's first.
    pub fn copies(&self) -> u64 {
        self.get(Count::Genuine).saturating_sub(self.get(Count::First))
    }

    pub(crate) fn add(&mut self, count: Count, number: u64) {
        if let Some(figure) = self.0.get_mut(count as usize) {
            *figure += number;
        }
    }
}

impl AddAssign<&Figures> for Figures {
    fn add_assign(&mut self, other: &Figures) {
        for (figure, other) in self.0.iter_mut().zip(&other.0) {
            *figure += other;
        }
    }
}

impl Serialize for Figures {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for count in Count::ALL {
            if self.get(*count) > 0 {
                map.serialize_entry(count.label(), &self.get(*count))?;
            }
        }
        map.end()
    }
}

/// Counters shared by many tasks.
#[derive(Debug)]
pub(crate) struct Counters([AtomicU64; COUNTS]);

impl Default for Counters {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; COUNTS])
    }
}

impl Counters {
    pub fn add(&self, count: Count, number: u64) {
        if let Some(counter) = self.0.get(count as usize) {
            counter.fetch_add(number, Ordering::Relaxed);
        }
    }

    /// Adds locally collected counts, and clears them.
    pub fn take(&self, figures: &mut Figures) {
        for (counter, figure) in self.0.iter().zip(&mut figures.0) {
            if *figure > 0 {
                counter.fetch_add(std::mem::take(figure), Ordering::Relaxed);
            }
        }
    }

    /// Reads one count, which is cheaper than reading all.
    pub fn one(&self, count: Count) -> u64 {
        self.0.get(count as usize).map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    pub fn get(&self) -> Figures {
        let mut figures = Figures::default();
        for (figure, counter) in figures.0.iter_mut().zip(&self.0) {
            *figure = counter.load(Ordering::Relaxed);
        }
        figures
    }
}

/// The counts of a simulation.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Stats {
    /// The counts of each relay.
    pub relays: Vec<Figures>,
    /// The counts of all relays together.
    pub total: Figures,
    /// Genuine events that no relay has written yet.
    pub unsent: usize,
}

impl Stats {
    /// One count over all relays.
    pub fn get(&self, count: Count) -> u64 {
        self.total.get(count)
    }

    /// One count of one relay.
    pub fn of(&self, relay: usize, count: Count) -> u64 {
        self.relays.get(relay).map_or(0, |figures| figures.get(count))
    }
}
