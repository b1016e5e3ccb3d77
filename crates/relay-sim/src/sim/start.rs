//! Starts a simulation from its description: checks the values, creates the events, and gives
//! relays their rules.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use wire::VerifiedEvent;

use crate::corpus::{Generator, Item, JsonlError, Sizes, Slot, read_jsonl};
use crate::door::Door;
use crate::faults::Who;
use crate::plan::{Pace, Plan, PlanSettings, RelayPlan};
use crate::policy::{Policy, Rule};
use crate::relay::Relay;
use crate::sim::builder::Burst;
use crate::sim::publish::make_more;
use crate::sim::server::{self, Reception};
use crate::sim::{Sim, SimBuilder};
use crate::tls::{Authority, TlsError};
use crate::world::{Dates, Gauge, World};

/// Why a simulation did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Listening on the port failed.
    #[error("cannot listen on {address}: {error}")]
    Listen { address: SocketAddr, error: std::io::Error },
    /// An event file cannot be served.
    #[error(transparent)]
    File(#[from] JsonlError),
    /// A number is out of bounds.
    #[error("{0}")]
    Value(String),
    /// TLS is unavailable.
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
    /// Creating the events failed.
    #[error("the events could not be created: {0}")]
    Corpus(tokio::task::JoinError),
}

impl SimBuilder {
    /// Creates the events on all cores, and starts to listen.
    ///
    /// # Errors
    /// When a value is out of bounds, a file cannot be served, or the port cannot be listened on.
    pub async fn start(self) -> Result<Sim, StartError> {
        self.check()?;
        let loopback: IpAddr =
            if self.ipv6 { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() };
        let open = |port| {
            let listener = server::listen(SocketAddr::new(loopback, port));
            let address = listener.and_then(|listener| Ok((listener.local_addr()?, listener)));
            address.map_err(|error| StartError::Listen { address: SocketAddr::new(loopback, port), error })
        };
        let (address, listener) = open(self.port)?;
        let authority = self.tls.then(Authority::new).transpose()?;
        let made = tokio::task::spawn_blocking(move || {
            let bursts = self.bursts.clone();
            let world = self.world()?;
            let published = burst(&world, &bursts);
            Ok::<_, StartError>((world, published))
        });
        let (world, published) = made.await.map_err(StartError::Corpus)??;
        let world = Arc::new(world);
        let reception = |door| match (door, &authority) {
            (Door::Deaf, _) => Ok(Reception::None),
            (_, None) => Ok(Reception::Plain),
            (Door::Open, Some(authority)) => authority.server(None).map(Reception::Tls),
            (Door::Bad(bad), Some(authority)) => authority.server(Some(bad)).map(Reception::Tls),
        };
        let serve =
            |listener, how: Reception| tokio::spawn(server::accept(listener, how, Arc::clone(&world)));
        let mut servers = vec![serve(listener, reception(Door::Open)?)];
        let mut doors = vec![(Door::Open, address)];
        for relay in &world.relays {
            let door = relay.policy.door;
            if doors.iter().all(|(open, _)| *open != door) {
                let (address, listener) = open(0)?;
                servers.push(serve(listener, reception(door)?));
                doors.push((door, address));
            }
        }
        let ca_pem = authority.map(|authority| authority.pem());
        let places = OnceLock::new();
        Ok(Sim { world, address, doors, ca_pem, servers, places, published: published.into() })
    }

    fn check(&self) -> Result<(), StartError> {
        let wrong = |what: String| Err(StartError::Value(what));
        let chances = self.faults.iter().map(|rule| ("chance of a fault", rule.chance));
        let shares = [
            ("stored share", self.stored),
            ("forged share", self.forge),
            ("share of late events", self.late.share),
            ("share of authors whose clocks are ahead", self.ahead.share),
            ("share of events with shifted dates", self.late.share + self.ahead.share),
        ];
        for (name, share) in chances.chain(shares) {
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
            _ if self.bursts.iter().any(|burst| burst.relay >= self.relays + self.scripted) => {
                wrong("a burst must be of a relay that there is".to_owned())
            }
            _ if !self.tls && self.rules.iter().any(|(_, rule)| matches!(rule, Rule::Door(Door::Bad(_)))) => {
                wrong("relays have certificates, good or bad, with TLS only".to_owned())
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
            seed: self.seed,
            base,
            stored_span_secs: self.stored_span_secs,
            stored: stored.saturating_sub(from_files),
            pace: self.pace,
            late: self.late,
            ahead: self.ahead,
        };
        let plan = self.plan(originals, stored);
        let generator = Generator::new(self.seed, self.authors, &self.kinds, self.sizes);
        let ahead = if self.stamp { dates.stored } else { self.generated() };
        let times: Vec<u64> = (0..ahead).map(|number| dates.created_at(number)).collect();
        items.extend(generator.events(0, &times).into_iter().map(Item::genuine));
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
            hold: self.hold,
            stamp: self.stamp,
            dates,
            generator,
            from_files,
            originals,
            made_later: AtomicUsize::new(0),
            forged: plan.forged,
            slots,
            unsent: AtomicUsize::new(unsent),
            live_since: OnceLock::new(),
            dialling: Gauge::default(),
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
        let (sharing, all) = (plans.len(), plans.len() + self.scripted);
        // A share refers to the unscripted relays, so adding scripted relays does not change the
        // selection.
        let chosen = |who: &Who| match who {
            Who::Share(_) if sharing > 0 => who.of(self.seed, sharing),
            _ => who.of(self.seed, all),
        };
        let faults: Vec<_> = self.faults.iter().map(|rule| (rule, chosen(&rule.who))).collect();
        let rules: Vec<_> = self.rules.iter().map(|(who, rule)| (rule, chosen(who))).collect();
        let scripted = (0..self.scripted).map(|_| RelayPlan::default());
        let relay = |(number, plan)| {
            let faults = faults.iter().filter(|(_, who)| who.get(number) == Some(&true));
            let faults = faults.map(|(rule, _)| (rule.fault, rule.chance)).collect();
            let mut policy = Policy::default();
            let rules = rules.iter().filter(|(_, who)| who.get(number) == Some(&true));
            rules.for_each(|(rule, _)| policy.follow(rule));
            Relay::new(number, plan, self.rounds, faults, policy)
        };
        plans.into_iter().chain(scripted).enumerate().map(relay).collect()
    }
}

/// Gives relays their bursts, and returns the events of the bursts.
fn burst(world: &World, bursts: &[Burst]) -> Vec<VerifiedEvent> {
    let events = bursts.iter().flat_map(|Burst { relay, secs_ago, events }| {
        let second = world.dates.base.saturating_sub(*secs_ago);
        make_more(world, &[*relay], 1, &vec![second; *events])
    });
    events.collect()
}
