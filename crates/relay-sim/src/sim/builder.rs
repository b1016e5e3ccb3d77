//! The description of a simulation, with its defaults, and the start.

use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::corpus::{Generator, Item, JsonlError, Sizes, Slot, read_jsonl};
use crate::faults::{Fault, FaultRule, Garbage, Who};
use crate::plan::{Pace, Plan, PlanSettings, RelayPlan};
use crate::relay::Relay;
use crate::sim::{Sim, server};
use crate::world::{Dates, World};

/// Why a simulation did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The port cannot be listened on.
    #[error("cannot listen on 127.0.0.1:{port}: {error}")]
    Listen {
        /// The port.
        port: u16,
        /// What the system says.
        error: std::io::Error,
    },
    /// An event file cannot be served.
    #[error(transparent)]
    File(#[from] JsonlError),
    /// A number is out of its bounds.
    #[error("{0}")]
    Value(String),
    /// Making the events failed.
    #[error("the events could not be made: {0}")]
    Corpus(tokio::task::JoinError),
}

/// What to simulate. The same values give the same events, copies and misbehaviour.
#[derive(Debug, Clone)]
pub struct SimBuilder {
    seed: u64,
    relays: usize,
    scripted: usize,
    events: Option<usize>,
    files: Vec<PathBuf>,
    authors: usize,
    kinds: Vec<u16>,
    sizes: Sizes,
    base: Option<u64>,
    stored_span_secs: u64,
    copies: usize,
    spread_ms: u64,
    stored: f64,
    pace: Pace,
    rounds: usize,
    stamp: bool,
    cap: Option<usize>,
    forge: f64,
    forgers: Who,
    faults: Vec<FaultRule>,
    port: u16,
    hold: bool,
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
            stored: 0.0,
            pace: Pace::Fast,
            rounds: 1,
            stamp: false,
            cap: None,
            forge: 0.0,
            forgers: Who::All,
            faults: Vec::new(),
            port: 0,
            hold: false,
        }
    }
}

impl SimBuilder {
    /// What everything follows from. Default 1.
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// How many relays share the events. Default 0: only scripted ones.
    pub const fn relays(mut self, relays: usize) -> Self {
        self.relays = relays;
        self
    }

    /// How many relays follow after them that have only what [`Sim::publish`] and its like give them.
    pub const fn scripted(mut self, relays: usize) -> Self {
        self.scripted = relays;
        self
    }

    /// How many events are generated. Default 1,000, or 0 if there are files or no relays.
    pub const fn events(mut self, events: usize) -> Self {
        self.events = Some(events);
        self
    }

    /// Serves a JSONL file's events, before the generated ones, as the text that they are. A line may be
    /// `{"reason":…,"event":{…}}`: then the event counts as not genuine.
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.files.push(path.into());
        self
    }

    /// How many authors write. Default 300.
    pub const fn authors(mut self, authors: usize) -> Self {
        self.authors = authors;
        self
    }

    /// The kinds of generated events, each as frequent as the others. Default: a mix of 0, 1, 3, 6, 7,
    /// 1984 and 30931 to 30934.
    pub fn kinds(mut self, kinds: impl IntoIterator<Item = u16>) -> Self {
        self.kinds = kinds.into_iter().collect();
        self
    }

    /// How long generated events are. Default [`Sizes::Mixed`].
    pub const fn sizes(mut self, sizes: Sizes) -> Self {
        self.sizes = sizes;
        self
    }

    /// The time in Unix seconds that generated events are near: stored ones are up to
    /// [`stored_span_secs`](Self::stored_span_secs) older, live ones as much later as they are sent.
    /// Default: now; set it to get the same ids again.
    pub const fn base(mut self, unix_secs: u64) -> Self {
        self.base = Some(unix_secs);
        self
    }

    /// Over what time stored events are spread. Default an hour.
    pub const fn stored_span_secs(mut self, secs: u64) -> Self {
        self.stored_span_secs = secs;
        self
    }

    /// On how many relays each event is (at most on all). Default 3.
    pub const fn copies(mut self, copies: usize) -> Self {
        self.copies = copies;
        self
    }

    /// How much later than the first the last copy of a live event may come, with a pace of so many a
    /// second. Default 0.
    pub const fn spread_ms(mut self, ms: u64) -> Self {
        self.spread_ms = ms;
        self
    }

    /// What share of the events relays hold from the start, `0.0..=1.0`. Default 0: all come live.
    pub const fn stored(mut self, share: f64) -> Self {
        self.stored = share;
        self
    }

    /// How fast live events come. Default [`Pace::Fast`].
    pub const fn pace(mut self, pace: Pace) -> Self {
        self.pace = pace;
        self
    }

    /// So many new events a second; short for [`Pace::PerSecond`].
    pub const fn per_second(self, rate: f64) -> Self {
        self.pace(Pace::PerSecond(rate))
    }

    /// At [`Pace::Fast`], every relay sends its live events so many times, from the first to the last and
    /// again: endless duplicates from a corpus that fits caches, for benches. Default 1.
    pub const fn rounds(mut self, rounds: usize) -> Self {
        self.rounds = rounds;
        self
    }

    /// Makes live events when they are sent, dated then, with a tag `["sent_us","<Unix microseconds>"]`.
    /// Their ids differ from run to run.
    pub const fn stamp(mut self) -> Self {
        self.stamp = true;
        self
    }

    /// The most stored events that a relay answers a filter with. Default: no bound.
    pub const fn cap(mut self, events: usize) -> Self {
        self.cap = Some(events);
        self
    }

    /// What share of the events is forged too, `0.0..=1.0`. On the first of its relays that forges, a
    /// forged copy comes before the genuine one; further ones come before, after, and from relays that
    /// do not have the event.
    pub const fn forge(mut self, share: f64) -> Self {
        self.forge = share;
        self
    }

    /// Which relays forge. Default all.
    pub fn forgers(mut self, who: Who) -> Self {
        self.forgers = who;
        self
    }

    /// Lets some relays misbehave, with this probability before each event frame or, for faults of whole
    /// connections, at each connection.
    pub fn fault(mut self, fault: Fault, who: Who, chance: f64) -> Self {
        self.faults.push(FaultRule { fault, who, chance });
        self
    }

    /// Every sort of garbage, each with this probability before each event frame.
    pub fn garbage(self, who: &Who, chance: f64) -> Self {
        Garbage::ALL
            .into_iter()
            .fold(self, |this, sort| this.fault(Fault::Garbage(sort), who.clone(), chance))
    }

    /// The loopback port. Default 0: any that is free.
    pub const fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Live traffic begins with [`Sim::go`] instead of the first REQ.
    pub const fn hold(mut self) -> Self {
        self.hold = true;
        self
    }

    /// Makes the events, on all cores, and begins to listen.
    ///
    /// # Errors
    /// When a value is out of bounds, a file cannot be served, or the port cannot be listened on.
    pub async fn start(self) -> Result<Sim, StartError> {
        self.check()?;
        let port = self.port;
        let listener = server::listen(port).map_err(|error| StartError::Listen { port, error })?;
        let address = listener.local_addr().map_err(|error| StartError::Listen { port, error })?;
        let world = tokio::task::spawn_blocking(move || self.world()).await.map_err(StartError::Corpus)??;
        let world = Arc::new(world);
        let server = Some(tokio::spawn(server::accept(listener, Arc::clone(&world))));
        Ok(Sim { world, address, server, places: OnceLock::new(), published: Default::default() })
    }

    fn check(&self) -> Result<(), StartError> {
        let wrong = |what: String| Err(StartError::Value(what));
        let chances = self.faults.iter().map(|rule| ("chance of a fault", rule.chance));
        for (name, share) in chances.chain([("stored share", self.stored), ("forged share", self.forge)]) {
            if !(0.0..=1.0).contains(&share) {
                return wrong(format!("the {name} must be between 0 and 1, not {share}"));
            }
        }
        match self.pace {
            Pace::PerSecond(rate) if !(0.001..=1e7).contains(&rate) => {
                wrong(format!("the rate must be between 0.001 and 10,000,000 events a second, not {rate}"))
            }
            _ if matches!(self.sizes, Sizes::Exactly(bytes) if bytes < 400) => {
                wrong("an event of an exact size has at least 400 bytes".to_owned())
            }
            _ if self.rounds == 0 || self.rounds > 1 && self.pace != Pace::Fast => {
                wrong("rounds must be 1, or more when events go as fast as sockets take them".to_owned())
            }
            _ if self.relays + self.scripted == 0 => wrong("there must be at least one relay".to_owned()),
            _ => Ok(()),
        }
    }

    fn generated(&self) -> usize {
        let default = if self.files.is_empty() && self.relays > 0 { 1000 } else { 0 };
        self.events.unwrap_or(default)
    }

    fn world(self) -> Result<World, StartError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let base = self.base.unwrap_or(now);
        let mut items = Vec::new();
        for file in &self.files {
            items.extend(read_jsonl(file, base)?);
        }
        let (from_files, originals) = (items.len(), items.len() + self.generated());
        let stored = (self.stored * originals as f64).round() as usize;
        let dates = Dates {
            base,
            stored_span_secs: self.stored_span_secs,
            stored: stored.saturating_sub(from_files),
            pace: self.pace,
        };
        let plan = self.plan(originals, stored);
        let generator = Generator::new(self.seed, self.authors, &self.kinds, self.sizes);
        let ahead = if self.stamp { dates.stored } else { self.generated() };
        let times: Vec<u64> = (0..ahead).map(|number| dates.created_at(number)).collect();
        items.extend(generator.events(&times).into_iter().map(Item::genuine));
        let mut slots: Vec<Slot> = items.into_iter().map(Slot::filled).collect();
        slots.resize_with(originals + plan.forged.len(), Slot::default);
        let genuine = |slot: &Slot| slot.get().is_none_or(|item| item.genuine_id().is_some());
        let unsent = match self.relays.min(self.copies) {
            0 => 0,
            _ => slots.iter().take(originals).filter(|slot| genuine(slot)).count(),
        };
        Ok(World {
            seed: self.seed,
            pace: self.pace,
            cap: self.cap,
            hold: self.hold,
            stamp: self.stamp,
            dates,
            generator,
            from_files,
            originals,
            forged: plan.forged,
            slots,
            unsent: AtomicUsize::new(unsent),
            live_since: OnceLock::new(),
            relays: self.relays_of(plan.relays),
        })
    }

    fn plan(&self, items: usize, stored: usize) -> Plan {
        Plan::new(&PlanSettings {
            seed: self.seed,
            relays: self.relays,
            forgers: &self.forgers,
            items,
            stored,
            copies: self.copies,
            spread_ms: self.spread_ms,
            forge: self.forge,
            pace: self.pace,
        })
    }

    fn relays_of(&self, plans: Vec<RelayPlan>) -> Vec<Relay> {
        let planned = plans.len();
        let chosen = self.faults.iter().map(|rule| (rule, rule.who.of(self.seed, planned)));
        let chosen: Vec<_> = chosen.collect();
        let scripted = (0..self.scripted).map(|_| RelayPlan::default());
        let relay = |(number, plan)| {
            let faults = chosen.iter().filter(|(_, who)| who.get(number) == Some(&true));
            let faults = faults.map(|(rule, _)| (rule.fault, rule.chance)).collect();
            Relay::new(number, plan, self.rounds, faults)
        };
        plans.into_iter().chain(scripted).enumerate().map(relay).collect()
    }
}
