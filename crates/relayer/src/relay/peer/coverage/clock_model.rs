//! A model of one relay, one gateway, and a clock that is set at any point. Everything that is
//! proven must be in the log.
//!
//! The relay receives one event per second, dated by the true time. The gateway runs a scenario
//! with the real [`Coverage`] and [`Clock`], and refuses events that its clock calls too old or too
//! far ahead. Each run sets a wrong time before one step of the scenario and corrects the time
//! before a later step.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::Coverage;
use crate::clock::{Clock, ManualClock};

/// How far first contact reaches back.
const BACKFILL_SECS: u64 = 50_000;
/// The limits of admission.
const FUTURE_SECS: u64 = 900;
const AGE_SECS: u64 = 20_000;
/// Smaller than any clock step, so that the overlap cannot hide an error.
const OVERLAP_SECS: u64 = 0;

#[derive(Debug, Clone, Copy)]
enum Act {
    /// Connects, subscribes, and requests all gaps.
    Connect,
    /// The first half of `Connect`; `Repair` is the second half.
    Subscribe,
    Repair,
    /// Lets this many seconds pass.
    Live(u64),
    /// Sends a ping, which `Pong` answers.
    Ping,
    Pong,
    Lose,
    /// Restarts the process.
    Restart,
    /// Restarts the machine.
    Reboot,
}

use Act::{Connect, Live, Lose, Ping, Pong, Reboot, Repair, Restart, Subscribe};

const SCENARIO: &[Act] = &[
    Connect,
    Live(65),
    Ping,
    Pong,
    Live(65),
    Ping,
    Live(3),
    Pong,
    Lose,
    Live(40),
    Subscribe,
    Live(5),
    Repair,
    Live(65),
    Ping,
    Pong,
    Restart,
    Live(20),
    Connect,
    Live(70),
    Ping,
    Pong,
    Lose,
    Live(30),
    Reboot,
    Live(10),
    Connect,
    Live(30),
    Ping,
    Pong,
    Lose,
    Live(30),
    Connect,
];

struct World {
    manual_clock: ManualClock,
    clock: Clock,
    /// The clock's error in seconds.
    wrong: i64,
    relay: BTreeSet<u64>,
    log: BTreeSet<u64>,
    /// The proven coverage. The database has the same.
    coverage: Option<Coverage>,
    is_connected: bool,
    /// Whether everything that was requested has arrived, so that pongs prove time.
    is_live: bool,
    ping: Option<crate::clock::Now>,
    /// The clock steps that the connection knows of.
    steps: u64,
}

impl World {
    fn new() -> Self {
        let (clock, manual_clock) = Clock::manual();
        let now = clock.unix_secs();
        let relay = (now - 200..=now).collect();
        let (log, coverage) = (BTreeSet::new(), None);
        let (is_connected, is_live, ping, steps, wrong) = (false, false, None, 0, 0);
        Self { manual_clock, clock, wrong, relay, log, coverage, is_connected, is_live, ping, steps }
    }

    fn true_secs(&self) -> u64 {
        self.clock.unix_secs().saturating_add_signed(-self.wrong)
    }

    /// Changes the clock's error. First reads the clock, as the process does once per second, so
    /// that an earlier step is noticed.
    fn set(&mut self, wrong: i64) {
        self.clock.now();
        self.manual_clock.step_secs(wrong - self.wrong);
        self.wrong = wrong;
    }

    /// The gateway receives an event.
    fn receive(&mut self, created_at: u64) {
        let now = self.clock.unix_secs();
        if created_at <= now + FUTURE_SECS && created_at >= now - AGE_SECS {
            self.log.insert(created_at);
        }
    }

    fn act(&mut self, act: Act) {
        match act {
            Connect => {
                self.act(Subscribe);
                self.act(Repair);
            }
            Subscribe => {
                let now = self.clock.now();
                let since = now.secs().saturating_sub(BACKFILL_SECS);
                self.coverage = Some(Coverage::resumed(self.coverage.take(), [], since, now, OVERLAP_SECS));
                (self.is_connected, self.is_live, self.ping) = (true, false, None);
                self.steps = *self.clock.steps().borrow();
            }
            Repair if self.is_connected => {
                let Some(mut coverage) = self.coverage.clone() else { return };
                for gap in coverage.gaps().to_vec() {
                    let until = if gap.until == coverage.until() { u64::MAX } else { gap.until };
                    let held: Vec<u64> = self.relay.range(gap.since..=until).copied().collect();
                    held.into_iter().for_each(|second| self.receive(second));
                    coverage.prove(gap.since, until);
                }
                (self.coverage, self.is_live) = (Some(coverage), true);
            }
            Live(seconds) => {
                for _ in 0..seconds {
                    self.manual_clock.pass(Duration::from_secs(1));
                    self.tick();
                }
            }
            Ping if self.is_connected => self.ping = Some(self.clock.now()),
            Pong if self.is_live => {
                let Some(ping) = self.ping.take() else { return };
                let is_vouched = self.clock.agrees() == Some(true) && self.clock.now().steps == ping.steps;
                if let Some(coverage) = &mut self.coverage
                    && coverage.rests_on(ping)
                {
                    coverage.extend(ping.secs().saturating_sub(1));
                    if is_vouched {
                        coverage.vouch();
                    }
                }
            }
            Lose => (self.is_connected, self.is_live) = (false, false),
            Restart | Reboot => {
                self.act(Lose);
                if matches!(act, Reboot) {
                    self.manual_clock.reboot();
                }
                self.clock = self.manual_clock.clock();
                let row = self.coverage.take().map(|coverage| coverage.to_row());
                let coverage = row.map(|row| Coverage::from_row(&row).unwrap());
                self.coverage = coverage.map(|coverage| coverage.on_clock(self.clock.now()));
            }
            Repair | Ping | Pong => {}
        }
    }

    /// The relay receives an event, and the connection notices clock steps.
    fn tick(&mut self) {
        let second = self.true_secs();
        self.relay.insert(second);
        if self.is_connected {
            self.receive(second);
            let now = self.clock.now().ms;
            self.clock.note_live_event(&Arc::from("wss://relay"), second, now);
            if self.steps != *self.clock.steps().borrow() {
                self.act(Connect);
            }
        }
    }

    /// With a correct clock, every claim must be true, except for the current second, which is not
    /// over.
    fn check(&self, what: &str) {
        let Some(coverage) = self.coverage.clone() else { return };
        let coverage = coverage.on_clock(self.clock.now());
        if coverage.is_empty() {
            return;
        }
        let until = coverage.until().min(self.true_secs() - 1);
        assert!(coverage.until() <= self.true_secs() + 1, "{what}: the future is claimed");
        for second in self.relay.range(coverage.from()..=until.max(coverage.from())) {
            let is_gap = coverage.gaps().iter().any(|gap| (gap.since..=gap.until).contains(second));
            let is_claimed = *second <= until && !is_gap;
            assert!(!is_claimed || self.log.contains(second), "{what}: {second} is claimed and missing");
        }
    }
}

#[test]
fn invariant_6_whenever_the_clock_is_set_nothing_untrue_is_claimed() {
    for wrong in [6, 1_800, 90_000] {
        for wrong in [wrong, -wrong] {
            for first in 0..SCENARIO.len() {
                for second in (first + 1..first + 5).chain([SCENARIO.len()]) {
                    let what = format!("wrong by {wrong} s before act {first}, right before act {second}");
                    let mut world = World::new();
                    for (index, act) in SCENARIO.iter().enumerate() {
                        if index == first {
                            world.set(wrong);
                        }
                        if index == second {
                            world.set(0);
                        }
                        world.act(*act);
                        if world.wrong == 0 {
                            world.check(&what);
                        }
                    }
                    world.set(0);
                    world.act(Live(1));
                    world.act(Lose);
                    world.act(Connect);
                    world.check(&what);
                    let coverage = world.coverage.as_ref().expect("contact");
                    assert_eq!(coverage.gaps(), [], "{what}");
                    assert!(coverage.until() + 1 >= world.true_secs(), "{what}: it goes on");
                }
            }
        }
    }
}
