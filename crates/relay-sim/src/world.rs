//! The shared state of all relays: the items and the clock of the live traffic.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::corpus::{Forgery, Generator, Item, Slot, forge};
use crate::plan::Pace;
use crate::relay::{Held, Relay};
use crate::rng::Rng;

/// Unix time in microseconds.
pub(crate) fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_micros() as u64)
}

/// A share of the generated events, and the maximum deviation of their dates in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Shift {
    /// The share, `0.0..=1.0`.
    pub share: f64,
    pub secs_max: u64,
}

/// The dates of generated events.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dates {
    pub seed: u64,
    /// Unix seconds. Stored events are older; live events have this time or a later one.
    pub base: u64,
    /// The seconds before `base` over which stored events are spread.
    pub stored_span_secs: u64,
    /// The number of generated events that are stored.
    pub stored: usize,
    pub pace: Pace,
    /// Live events that are backdated.
    pub late: Shift,
    /// Events whose authors' clocks are ahead.
    pub ahead: Shift,
}

impl Dates {
    /// The `created_at` of the generated event with this number.
    pub fn created_at(&self, number: usize) -> u64 {
        self.shifted(number, self.appears_at(number))
    }

    /// The `created_at` of the event with this number if the event appears at this time.
    pub fn shifted(&self, number: usize, time: u64) -> u64 {
        let rng = &mut Rng::new(&[self.seed, 0x1A7E, number as u64]);
        let draw = rng.unit();
        let mut by = |shift: Shift| rng.between(1, shift.secs_max as usize) as u64;
        if draw < self.ahead.share {
            time.saturating_add(by(self.ahead))
        } else if draw < self.ahead.share + self.late.share && number >= self.stored {
            time.saturating_sub(by(self.late))
        } else {
            time
        }
    }

    fn appears_at(&self, number: usize) -> u64 {
        if number < self.stored {
            let age = self.stored_span_secs as u128 * (self.stored - number) as u128 / self.stored as u128;
            return self.base.saturating_sub(age as u64);
        }
        match self.pace {
            Pace::Fast => self.base,
            Pace::PerSecond(rate) => self.base + ((number - self.stored) as f64 / rate.max(1e-3)) as u64,
        }
    }
}

/// A number that rises and falls, together with its maximum.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    pub now: AtomicUsize,
    pub peak: AtomicUsize,
}

impl Gauge {
    /// Increments the number. Dropping the guard decrements it.
    pub fn up(&self) -> Up<'_> {
        let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
        self.peak.fetch_max(now, Ordering::Relaxed);
        Up(self)
    }
}

/// See [`Gauge::up`].
#[derive(Debug)]
pub(crate) struct Up<'a>(&'a Gauge);

impl Drop for Up<'_> {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Debug)]
pub(crate) struct World {
    pub seed: u64,
    pub pace: Pace,
    /// Whether live traffic waits for a signal.
    pub hold: bool,
    /// Whether live events are created when they are sent, with the time of sending as their date
    /// and in a tag.
    pub stamp: bool,
    pub dates: Dates,
    pub generator: Generator,
    /// The number of items from files, which precede the generated ones.
    pub from_files: usize,
    /// The number of items that are not forged; the forged ones follow.
    pub originals: usize,
    /// The number of events generated in addition to the planned ones.
    pub made_later: AtomicUsize,
    pub forged: Vec<(u32, Forgery)>,
    pub slots: Vec<Slot>,
    /// Genuine items that no relay has written yet.
    pub unsent: AtomicUsize,
    pub live_since: OnceLock<Instant>,
    pub dialling: Gauge,
    pub relays: Vec<Relay>,
}

impl World {
    /// The item with this number, created now if necessary.
    pub fn item(&self, number: usize) -> Option<&Item> {
        let slot = self.slots.get(number)?;
        if let Some(item) = slot.get() {
            return Some(item);
        }
        if number < self.originals {
            return Some(slot.get_or_make(|| self.make(number - self.from_files.min(number))));
        }
        let (original, forgery) = self.forged.get(number - self.originals)?;
        let original = self.item(*original as usize)?;
        Some(slot.get_or_make(|| forge(&original.claims, *forgery)))
    }

    /// The item of a stored event.
    pub fn held<'a>(&'a self, held: &'a Held) -> Option<&'a Item> {
        match held {
            Held::Planned(number) => self.item(*number as usize),
            Held::Injected(item) => Some(item),
        }
    }

    fn make(&self, generated: usize) -> Item {
        let event = if self.stamp && generated >= self.dates.stored {
            let now = now_us();
            self.generator.event(generated, self.dates.shifted(generated, now / 1_000_000), Some(now))
        } else {
            self.generator.event(generated, self.dates.created_at(generated), None)
        };
        Item::genuine(event)
    }

    /// Records that a copy of a planned item is written. Returns `true` for the first copy of a
    /// genuine item.
    pub fn note_sent(&self, number: usize, now_us: u64) -> bool {
        let first =
            number < self.originals && self.slots.get(number).is_some_and(|slot| slot.note_sent(now_us));
        let genuine = first && self.item(number).is_some_and(|item| item.genuine_id().is_some());
        if genuine {
            self.unsent.fetch_sub(1, Ordering::Relaxed);
        }
        genuine
    }

    /// The time since live traffic began; `None` before the start.
    pub fn live_for(&self) -> Option<Duration> {
        self.live_since.get().map(Instant::elapsed)
    }

    /// Starts live traffic, if it has not begun.
    pub fn go(&self) {
        if self.live_since.set(Instant::now()).is_ok() {
            self.relays.iter().for_each(|relay| relay.control.send_modify(|_| {}));
        }
    }
}
