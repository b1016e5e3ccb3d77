//! The options that describe a simulation.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use relay_sim::{Fault, Flood, Garbage, Sim, SimBuilder, Sizes, Who};

use super::behaviour_args::BehaviourArgs;
use super::parts::{Burst, ShareAndSecs, share_of};

/// What to simulate. The same values give the same events, copies and misbehaviour.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Simulation")]
pub struct SimArgs {
    /// The seed of all random choices.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The number of relays.
    #[arg(long, default_value_t = 20)]
    relays: usize,
    /// The number of events to generate [default: 1000, or 0 with --file].
    #[arg(long)]
    events: Option<usize>,
    /// Serve the events of this JSONL file, unchanged; may be repeated. A line is an event, or
    /// {"reason":…,"event":{…}} for an event that counts as not genuine.
    #[arg(long)]
    file: Vec<PathBuf>,
    /// The number of authors of the generated events.
    #[arg(long, default_value_t = 300)]
    authors: usize,
    /// Kinds of generated events [default: a mix of 0, 1, 3, 6, 7, 1984, 30931-30934].
    #[arg(long, value_delimiter = ',')]
    kinds: Vec<u16>,
    /// Make every event's JSON exactly this many bytes, at least 400 [default: a mix around 600].
    #[arg(long)]
    event_bytes: Option<usize>,
    /// The base time of generated events, in Unix seconds; a fixed value reproduces the ids
    /// [default: now].
    #[arg(long)]
    base: Option<u64>,
    /// The number of seconds before the base time over which stored events are spread.
    #[arg(long, default_value_t = 1800)]
    stored_span: u64,
    /// The number of relays that have each event.
    #[arg(long, default_value_t = 10)]
    copies: usize,
    /// With --rate: the maximum delay of an event's last copy after its first, in milliseconds.
    #[arg(long, default_value_t = 0)]
    spread_ms: u64,
    /// The share of the events that relays have from the start (0 to 1); the others are live.
    #[arg(long, default_value_t = 0.0)]
    stored: f64,
    /// New live events a second over all relays [default: as fast as the sockets accept them].
    #[arg(long)]
    rate: Option<f64>,
    /// Without --rate: send the live events this many times, to benchmark duplicates.
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// Create live events when they are sent, with a tag ["sent_us","<Unix microseconds>"].
    #[arg(long)]
    stamp: bool,
    /// Backdate a share of the live events by up to this many seconds.
    #[arg(long, value_name = "SHARE:SECONDS")]
    late: Option<ShareAndSecs>,
    /// Postdate a share of the events by up to this many seconds, as wrong clocks do.
    #[arg(long, value_name = "SHARE:SECONDS")]
    ahead: Option<ShareAndSecs>,
    /// Give one relay this many additional stored events with the same created_at; may be repeated.
    #[arg(long, value_name = "RELAY:SECONDS_AGO:EVENTS")]
    burst: Vec<Burst>,
    /// The share of the events that are also forged (0 to 1).
    #[arg(long, default_value_t = 0.0)]
    forge: f64,
    /// The share of the relays that forge (0 to 1).
    #[arg(long, default_value_t = 1.0)]
    forgers: f64,
    /// Make relays misbehave: KIND[=MS][:CHANCE[:SHARE]], may be repeated. Before each event frame
    /// (chance 0.01 by default): garbage (all kinds), invalid-json, invalid-utf8, binary,
    /// huge-string, deep-nesting, truncated-stall, truncated-drop, wrong-subscription,
    /// unknown-type, notice, closed, ping, repeat, fragment, stall[=1000], half-open, drop, close,
    /// poison, oversized. At each connection (chance 1): refuse, refuse-upgrade, never-upgrade,
    /// slow-upgrade[=1000], mute, silent, no-pongs, drip[=1], auth, auth-required, auth-late,
    /// auth-restricted, flood-pings, flood-pongs, flood-empty-text, flood-fragments,
    /// flood-empty-fragments, flood-mixed. SHARE is the share of the relays concerned.
    #[arg(long, value_name = "FAULT")]
    fault: Vec<FaultArg>,
    /// The loopback port; 0 for a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Start live traffic when every relay has a subscription, instead of at the first
    /// subscription.
    #[arg(long)]
    hold: bool,
    #[command(flatten)]
    pub behaviour: BehaviourArgs,
}

impl SimArgs {
    /// The simulation that the options describe.
    pub fn builder(&self) -> SimBuilder {
        let mut builder = Sim::builder()
            .seed(self.seed)
            .relays(self.relays)
            .authors(self.authors)
            .kinds(self.kinds.iter().copied())
            .stored_span_secs(self.stored_span)
            .copies(self.copies)
            .rounds(self.rounds)
            .spread_ms(self.spread_ms)
            .stored(self.stored)
            .forge(self.forge)
            .forgers(Who::Share(self.forgers))
            .port(self.port);
        builder = self.file.iter().fold(builder, |builder, file| builder.file(file));
        if let Some(events) = self.events {
            builder = builder.events(events);
        }
        if let Some(bytes) = self.event_bytes {
            builder = builder.sizes(Sizes::Exactly(bytes));
        }
        if let Some(base) = self.base {
            builder = builder.base(base);
        }
        if let Some(rate) = self.rate {
            builder = builder.per_second(rate);
        }
        if let Some(ShareAndSecs { share, secs }) = self.late {
            builder = builder.late(share, secs);
        }
        if let Some(ShareAndSecs { share, secs }) = self.ahead {
            builder = builder.ahead(share, secs);
        }
        for Burst { relay, secs_ago, events } in &self.burst {
            builder = builder.burst_second(*relay, *secs_ago, *events);
        }
        if self.stamp {
            builder = builder.stamp();
        }
        if self.hold {
            builder = builder.hold();
        }
        for FaultArg { faults, chance, share } in &self.fault {
            for fault in faults {
                builder = builder.fault(*fault, Who::Share(*share), *chance);
            }
        }
        self.behaviour.add_to(builder)
    }

    /// Whether live traffic waits for all relays.
    pub const fn holds(&self) -> bool {
        self.hold
    }

    pub const fn relays(&self) -> usize {
        self.relays
    }
}

/// The faults of one option.
#[derive(Debug, Clone, PartialEq)]
struct FaultArg {
    faults: Vec<Fault>,
    chance: f64,
    share: f64,
}

impl FromStr for FaultArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(':');
        let (kind, ms) = match parts.next().unwrap_or_default().split_once('=') {
            Some((kind, ms)) => {
                (kind, Some(ms.parse().map_err(|_| format!("`{ms}` is not a number of milliseconds"))?))
            }
            None => (parts_first(text), None),
        };
        let faults = faults(kind, ms).ok_or_else(|| format!("unknown fault `{kind}`"))?;
        let per_connection = faults.iter().all(|fault| fault.is_per_connection());
        let mut share = |default: f64| match parts.next() {
            None => Ok(default),
            Some(part) => share_of(part),
        };
        let chance = share(if per_connection { 1.0 } else { 0.01 })?;
        let share = share(1.0)?;
        match parts.next() {
            Some(rest) => Err(format!("`{rest}` is unexpected")),
            None => Ok(Self { faults, chance, share }),
        }
    }
}

fn parts_first(text: &str) -> &str {
    text.split(':').next().unwrap_or_default()
}

fn faults(kind: &str, ms: Option<u64>) -> Option<Vec<Fault>> {
    let time = |default| Duration::from_millis(ms.unwrap_or(default));
    let fault = match kind {
        "garbage" => return Some(Garbage::ALL.map(Fault::Garbage).to_vec()),
        "invalid-json" => Fault::Garbage(Garbage::InvalidJson),
        "invalid-utf8" => Fault::Garbage(Garbage::InvalidUtf8),
        "binary" => Fault::Garbage(Garbage::Binary),
        "huge-string" => Fault::Garbage(Garbage::HugeString),
        "deep-nesting" => Fault::Garbage(Garbage::DeepNesting),
        "truncated-stall" => Fault::Garbage(Garbage::TruncatedStall),
        "truncated-drop" => Fault::Garbage(Garbage::TruncatedDrop),
        "wrong-subscription" => Fault::Garbage(Garbage::WrongSubscription),
        "unknown-type" => Fault::Garbage(Garbage::UnknownType),
        "notice" => Fault::Notice,
        "closed" => Fault::Closed,
        "ping" => Fault::Ping,
        "repeat" => Fault::Repeat,
        "fragment" => Fault::Fragment,
        "stall" => Fault::Stall(time(1000)),
        "half-open" => Fault::HalfOpen,
        "drop" => Fault::Drop,
        "close" => Fault::Close(4_000),
        "poison" => Fault::Poison,
        "oversized" => Fault::Oversized,
        "flood-pings" => Fault::Flood(Flood::Pings),
        "flood-pongs" => Fault::Flood(Flood::Pongs),
        "flood-empty-text" => Fault::Flood(Flood::EmptyText),
        "flood-fragments" => Fault::Flood(Flood::Fragments),
        "flood-empty-fragments" => Fault::Flood(Flood::EmptyFragments),
        "flood-mixed" => Fault::Flood(Flood::Mixed),
        "refuse" => Fault::Refuse,
        "refuse-upgrade" => Fault::RefuseUpgrade,
        "never-upgrade" => Fault::NeverUpgrade,
        "slow-upgrade" => Fault::SlowUpgrade(time(1000)),
        "mute" => Fault::Mute,
        "silent" => Fault::Silent,
        "no-pongs" => Fault::NoPongs,
        "drip" => Fault::Drip(time(1)),
        "auth" => Fault::Auth,
        "auth-required" => Fault::AuthRequired,
        "auth-late" => Fault::AuthLate,
        "auth-restricted" => Fault::AuthRestricted,
        _ => return None,
    };
    Some(vec![fault])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read() {
        let read = |text: &str| text.parse::<FaultArg>();
        let stall = |ms, chance, share| {
            let faults = vec![Fault::Stall(Duration::from_millis(ms))];
            Ok(FaultArg { faults, chance, share })
        };
        assert_eq!(read("stall"), stall(1000, 0.01, 1.0));
        assert_eq!(read("stall=20:0.5"), stall(20, 0.5, 1.0));
        assert_eq!(read("stall=20:0.5:0.25"), stall(20, 0.5, 0.25));
        assert_eq!(read("refuse").map(|arg| arg.chance), Ok(1.0));
        assert_eq!(read("garbage:0.1").map(|arg| arg.faults.len()), Ok(9));
        for wrong in ["", "stal", "stall=x", "drop:2", "drop:0.1:x", "drop:0.1:0.1:0.1"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
