//! The description of a simulation and its defaults: which events exist, and when each relay gets
//! them. [`rules`](super::rules) describes how relays treat their clients.

use std::path::PathBuf;

use crate::corpus::Sizes;
use crate::faults::{Fault, FaultRule, Garbage, Who};
use crate::plan::Pace;
use crate::policy::Rule;
use crate::world::Shift;

/// Events of one second on one relay.
#[derive(Debug, Clone, Copy)]
pub(super) struct Burst {
    pub relay: usize,
    pub secs_ago: u64,
    pub events: usize,
}

/// What to simulate. The same values give the same events, copies and misbehaviour.
#[derive(Debug, Clone)]
pub struct SimBuilder {
    pub(super) seed: u64,
    pub(super) relays: usize,
    pub(super) scripted: usize,
    pub(super) events: Option<usize>,
    pub(super) files: Vec<PathBuf>,
    pub(super) authors: usize,
    pub(super) kinds: Vec<u16>,
    pub(super) sizes: Sizes,
    pub(super) base: Option<u64>,
    pub(super) stored_span_secs: u64,
    pub(super) copies: usize,
    pub(super) spread_ms: u64,
    pub(super) late: Shift,
    pub(super) ahead: Shift,
    pub(super) bursts: Vec<Burst>,
    pub(super) stored: f64,
    pub(super) pace: Pace,
    pub(super) rounds: usize,
    pub(super) stamp: bool,
    pub(super) forge: f64,
    pub(super) forgers: Who,
    pub(super) faults: Vec<FaultRule>,
    pub(super) rules: Vec<(Who, Rule)>,
    pub(super) port: u16,
    pub(super) ipv6: bool,
    pub(super) tls: bool,
    pub(super) hold: bool,
}

impl Default for SimBuilder {
    fn default() -> Self {
        Self {
            seed: 1,
            relays: 0,
            scripted: 0,
            events: None,
            files: Vec::new(),
            authors: 300,
            kinds: Vec::new(),
            sizes: Sizes::Mixed,
            base: None,
            stored_span_secs: 1800,
            copies: 3,
            spread_ms: 0,
            late: Shift::default(),
            ahead: Shift::default(),
            bursts: Vec::new(),
            stored: 0.0,
            pace: Pace::Fast,
            rounds: 1,
            stamp: false,
            forge: 0.0,
            forgers: Who::All,
            faults: Vec::new(),
            rules: Vec::new(),
            port: 0,
            ipv6: false,
            tls: false,
            hold: false,
        }
    }
}

impl SimBuilder {
    /// The seed of all random choices. Default 1.
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The number of relays that share the events. Default 0: only scripted relays.
    pub const fn relays(mut self, relays: usize) -> Self {
        self.relays = relays;
        self
    }

    /// The number of additional relays that have only the events from [`Sim::publish`] and similar
    /// methods.
    pub const fn scripted(mut self, relays: usize) -> Self {
        self.scripted = relays;
        self
    }

    /// The number of generated events. Default: 1,000, or 0 if there are files or no relays.
    pub const fn events(mut self, events: usize) -> Self {
        self.events = Some(events);
        self
    }

    /// Serves a JSONL file's events unchanged, before the generated ones. The event of a line
    /// `{"reason":…,"event":{…}}` counts as not genuine.
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.files.push(path.into());
        self
    }

    /// The number of authors. Default 300.
    pub const fn authors(mut self, authors: usize) -> Self {
        self.authors = authors;
        self
    }

    /// The kinds of generated events, all equally frequent. Default: a mix of 0, 1, 3, 6, 7, 1984
    /// and 30931 to 30934.
    pub fn kinds(mut self, kinds: impl IntoIterator<Item = u16>) -> Self {
        self.kinds = kinds.into_iter().collect();
        self
    }

    /// The sizes of generated events. Default [`Sizes::Mixed`].
    pub const fn sizes(mut self, sizes: Sizes) -> Self {
        self.sizes = sizes;
        self
    }

    /// The base time in Unix seconds. Stored events are up to
    /// [`stored_span_secs`](Self::stored_span_secs) older; live events are dated when they are due,
    /// counted from the base time. Default: now. A fixed base time reproduces the ids.
    pub const fn base(mut self, unix_secs: u64) -> Self {
        self.base = Some(unix_secs);
        self
    }

    /// The time over which stored events are spread. Default half an hour.
    pub const fn stored_span_secs(mut self, secs: u64) -> Self {
        self.stored_span_secs = secs;
        self
    }

    /// The number of relays that have each event, at most all. Default 3.
    pub const fn copies(mut self, copies: usize) -> Self {
        self.copies = copies;
        self
    }

    /// With [`Pace::PerSecond`]: the maximum delay between the first copy of a live event and the
    /// last. Default 0.
    pub const fn spread_ms(mut self, ms: u64) -> Self {
        self.spread_ms = ms;
        self
    }

    /// Backdates this share of the generated live events, `0.0..=1.0`, by 1 to `secs_max` seconds.
    /// Default: none.
    pub const fn late(mut self, share: f64, secs_max: u64) -> Self {
        self.late = Shift { share, secs_max };
        self
    }

    /// Postdates this share of the generated events, `0.0..=1.0`, by 1 to `secs_max` seconds, like
    /// authors whose clocks are ahead. Default: none.
    pub const fn ahead(mut self, share: f64, secs_max: u64) -> Self {
        self.ahead = Shift { share, secs_max };
        self
    }

    /// Gives this relay `events` additional events from the start, all dated `secs_ago` seconds
    /// before [`base`](Self::base). The events count as [published](crate::Sim::publish), not as
    /// planned.
    pub fn burst_second(mut self, relay: usize, secs_ago: u64, events: usize) -> Self {
        self.bursts.push(Burst { relay, secs_ago, events });
        self
    }

    /// The share of the events, `0.0..=1.0`, that relays have from the start. Default 0: all are
    /// live.
    pub const fn stored(mut self, share: f64) -> Self {
        self.stored = share;
        self
    }

    /// How fast live events come. Default [`Pace::Fast`].
    pub const fn pace(mut self, pace: Pace) -> Self {
        self.pace = pace;
        self
    }

    /// This many new events a second; short for [`Pace::PerSecond`].
    pub const fn per_second(self, rate: f64) -> Self {
        self.pace(Pace::PerSecond(rate))
    }

    /// At [`Pace::Fast`], every relay sends all its live events this many times: endless duplicates
    /// from a corpus that fits caches, for benches. Default 1.
    pub const fn rounds(mut self, rounds: usize) -> Self {
        self.rounds = rounds;
        self
    }

    /// Creates and dates live events when they are sent, with a tag `["sent_us","<Unix
    /// microseconds>"]`. Their ids differ from run to run.
    pub const fn stamp(mut self) -> Self {
        self.stamp = true;
        self
    }

    /// The share of the events, `0.0..=1.0`, that are also forged. The event's first forging relay
    /// sends a forged copy before the genuine one. Further forged copies come before or after it,
    /// or from relays without the event.
    pub const fn forge(mut self, share: f64) -> Self {
        self.forge = share;
        self
    }

    /// The relays that forge. Default all.
    pub fn forgers(mut self, who: Who) -> Self {
        self.forgers = who;
        self
    }

    /// Makes some relays misbehave, with this probability before each event frame or, for faults of
    /// whole connections, at each connection.
    pub fn fault(mut self, fault: Fault, who: Who, chance: f64) -> Self {
        self.faults.push(FaultRule { fault, who, chance });
        self
    }

    /// Adds every kind of garbage. Each has this probability before each event frame.
    pub fn garbage(self, who: &Who, chance: f64) -> Self {
        Garbage::ALL
            .into_iter()
            .fold(self, |this, sort| this.fault(Fault::Garbage(sort), who.clone(), chance))
    }

    /// The loopback port. Default 0: any free one.
    pub const fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Listens on `::1` instead of `127.0.0.1`.
    pub const fn ipv6(mut self) -> Self {
        self.ipv6 = true;
        self
    }

    /// Serves `wss://` with a certificate for `127.0.0.1`, `::1` and `localhost`, signed by a
    /// private authority that is created at the start: [`Sim::ca_pem`](crate::Sim::ca_pem).
    pub const fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Live traffic begins with [`Sim::go`] instead of the first REQ.
    pub const fn hold(mut self) -> Self {
        self.hold = true;
        self
    }
}
