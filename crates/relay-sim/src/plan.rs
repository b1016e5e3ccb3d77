//! Decides before the start, from the seed only, which relay serves which item and when.

use crate::corpus::Forgery;
use crate::faults::Who;
use crate::rng::Rng;

/// How fast new events come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// As fast as the sockets accept them.
    Fast,
    /// This many new events a second over all relays. The copies of an event have different times.
    PerSecond(f64),
}

/// One copy on one relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// When the relay receives the copy: microseconds since live traffic began or, at
    /// [`Pace::Fast`], the item's position among all items.
    pub at: u64,
    /// The item's number; the numbers of forged items follow all others.
    pub item: u32,
}

/// The copies of one relay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RelayPlan {
    /// The stored copies, then the live copies in the order of time.
    pub entries: Vec<Entry>,
    /// The number of entries that are stored from the start.
    pub stored: usize,
}

/// The copies of all relays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Indexed by relay.
    pub relays: Vec<RelayPlan>,
    /// The forged items: the original item and the kind of forgery.
    pub forged: Vec<(u32, Forgery)>,
}

/// The parameters of a plan.
#[derive(Debug, Clone)]
pub struct PlanSettings<'a> {
    pub seed: u64,
    /// The number of relays that share the items.
    pub relays: usize,
    /// The relays that forge.
    pub forgers: &'a Who,
    pub items: usize,
    /// This many items, counted from the first, are stored from the start.
    pub stored: usize,
    /// The number of relays that have each item.
    pub copies: usize,
    /// The maximum delay of a copy after the item's first copy, in milliseconds.
    pub spread_ms: u64,
    /// The share of items that are also forged.
    pub forge: f64,
    /// How fast new items come.
    pub pace: Pace,
}

impl Plan {
    pub fn new(settings: &PlanSettings<'_>) -> Self {
        let forgers = settings.forgers.of(settings.seed, settings.relays);
        let mut plan = Self { relays: vec![RelayPlan::default(); settings.relays], forged: Vec::new() };
        for item in 0..settings.items {
            plan.place(settings, &forgers, item);
            if item + 1 == settings.stored {
                plan.relays.iter_mut().for_each(|relay| relay.stored = relay.entries.len());
            }
        }
        for relay in &mut plan.relays {
            // The sort is stable: a forged copy stays before a genuine one with the same time.
            if let Some(live) = relay.entries.get_mut(relay.stored..) {
                live.sort_by_key(|entry| entry.at);
            }
        }
        plan
    }

    fn place(&mut self, settings: &PlanSettings<'_>, forgers: &[bool], item: usize) {
        let rng = &mut Rng::new(&[settings.seed, 0x9_1A4, item as u64]);
        let holders = rng.distinct(settings.copies, settings.relays);
        let starts = start(settings, item);
        let mut holders: Vec<(u64, usize)> =
            holders.into_iter().map(|relay| (starts + delay(settings, item, rng), relay)).collect();
        holders.sort_unstable();
        if !rng.chance(settings.forge) {
            for (at, relay) in holders {
                self.put(relay, at, item);
            }
            return;
        }
        let forged = self.forge(settings, item);
        let everywhere = rng.chance(0.25);
        let mut preceded = false;
        for (at, relay) in holders {
            let forges = forgers.get(relay).copied().unwrap_or_default();
            let before = forges && (!preceded || everywhere || rng.chance(0.5));
            let after = forges && rng.chance(0.25);
            preceded |= before;
            if before {
                self.put(relay, at, forged + rng.below(2));
            }
            self.put(relay, at, item);
            if after {
                self.put(relay, at, forged + rng.below(2));
            }
        }
        // Also gives a forgery to a random forger, with or without a genuine copy. This is always
        // done if no forgery precedes a genuine copy, and otherwise in half of the cases.
        if !preceded || rng.chance(0.5) {
            let forgers: Vec<usize> =
                (0..).zip(forgers).filter(|(_, forges)| **forges).map(|f| f.0).collect();
            if let Some(relay) = rng.pick(&forgers) {
                let at = if preceded { starts + delay(settings, item, rng) } else { starts };
                self.put(*relay, at, forged + rng.below(2));
            }
        }
    }

    /// Sets the numbers of an item's two forgeries.
    fn forge(&mut self, settings: &PlanSettings<'_>, item: usize) -> usize {
        let number = settings.items + self.forged.len();
        self.forged.push((item as u32, Forgery::OtherContent));
        self.forged.push((item as u32, Forgery::BadSignature));
        number
    }

    fn put(&mut self, relay: usize, at: u64, item: usize) {
        if let Some(relay) = self.relays.get_mut(relay) {
            relay.entries.push(Entry { at, item: item as u32 });
        }
    }
}

/// The time of the first copy of an item.
fn start(settings: &PlanSettings<'_>, item: usize) -> u64 {
    match settings.pace {
        _ if item < settings.stored => 0,
        Pace::Fast => item as u64,
        Pace::PerSecond(rate) => ((item - settings.stored) as f64 * 1e6 / rate.max(1e-3)) as u64,
    }
}

fn delay(settings: &PlanSettings<'_>, item: usize, rng: &mut Rng) -> u64 {
    match settings.pace {
        _ if item < settings.stored => 0,
        Pace::Fast => 0,
        Pace::PerSecond(_) => rng.below(settings.spread_ms as usize * 1000 + 1) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> PlanSettings<'static> {
        PlanSettings {
            seed: 7,
            relays: 20,
            forgers: &Who::All,
            items: 500,
            stored: 200,
            copies: 5,
            spread_ms: 50,
            forge: 0.0,
            pace: Pace::PerSecond(1000.0),
        }
    }

    fn copies(plan: &Plan, items: usize) -> Vec<usize> {
        let mut copies = vec![0; items];
        for entry in plan.relays.iter().flat_map(|relay| &relay.entries) {
            if let Some(count) = copies.get_mut(entry.item as usize) {
                *count += 1;
            }
        }
        copies
    }

    #[test]
    fn every_item_has_its_copies_and_times_ascend() {
        let plan = Plan::new(&settings());
        assert_eq!(copies(&plan, 500), vec![5; 500]);
        assert_eq!(plan.relays.iter().map(|relay| relay.stored).sum::<usize>(), 200 * 5);
        for relay in &plan.relays {
            assert!(relay.entries.is_sorted_by_key(|entry| entry.at));
        }
        assert_eq!(plan, Plan::new(&settings()));
        assert_ne!(plan, Plan::new(&PlanSettings { seed: 8, ..settings() }));
    }

    #[test]
    fn a_forged_item_is_preceded_on_its_first_relay() {
        let plan = Plan::new(&PlanSettings { forge: 1.0, ..settings() });
        assert_eq!(copies(&plan, 500), vec![5; 500]);
        assert_eq!(plan.forged.len(), 1000);
        for item in 0..500 {
            let preceded = plan.relays.iter().any(|relay| {
                let is_forged = |e: &&Entry| e.item >= 500 && plan.forged[e.item as usize - 500].0 == item;
                let genuine = relay.entries.iter().position(|entry| entry.item == item);
                let forged = relay.entries.iter().position(|entry| is_forged(&entry));
                forged.zip(genuine).is_some_and(|(forged, genuine)| forged < genuine)
            });
            assert!(preceded, "{item}");
        }
    }

    #[test]
    fn only_forgers_forge() {
        let forgers = Who::These(vec![3]);
        let plan = Plan::new(&PlanSettings { forge: 0.5, forgers: &forgers, ..settings() });
        for (number, relay) in plan.relays.iter().enumerate() {
            assert_eq!(relay.entries.iter().any(|entry| entry.item >= 500), number == 3);
        }
    }
}
