//! How a relay behaves: its budget of offences, and for how long it is quarantined when that is used up.
//!
//! The budget is a bucket that fills with each bad signature or broken frame and empties evenly, so
//! a relay that passes on a forgery now and then stays, and one that is broken or hostile goes. It
//! empties with the events that the relay sends, too: a relay is judged by its share of bad frames,
//! because one that carries a million events carries more of what others have forged than one that
//! carries a thousand. Nothing of it survives the process: a restart is a second chance.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::ingest::DropReason;
use crate::limits::{EVENTS_AN_OFFENCE, QUARANTINE_FORGOTTEN_AFTER, QUARANTINE_MAX, QUARANTINE_MIN};

const HOUR: Duration = Duration::from_secs(3600);

/// A relay's budget of offences.
#[derive(Debug)]
pub struct Offences {
    /// How many an hour are let pass; `None` for any number.
    offences_an_hour_max: Option<u32>,
    record: Mutex<Record>,
    /// Whether the budget is used up, for those who look often.
    is_over: AtomicBool,
}

#[derive(Debug, Default)]
struct Record {
    /// Offences in the bucket.
    level: f64,
    /// When the level was right.
    at: Option<Instant>,
    /// How many events the relay had sent then.
    events: u64,
    /// The offence that made it full.
    last: Option<DropReason>,
    /// How often it was quarantined, and when that last began.
    quarantines: u32,
    quarantined: Option<Instant>,
    /// When the present quarantine ends.
    until: Option<Instant>,
}

impl Offences {
    /// A clean record.
    pub fn new(offences_an_hour_max: Option<u32>) -> Self {
        Self { offences_an_hour_max, record: Mutex::default(), is_over: AtomicBool::new(false) }
    }

    /// Notes an offence, if the reason is one, of a relay that has sent so many events so far.
    pub fn note(&self, reason: DropReason, events: u64, now: Instant) {
        let Some(max) = self.offences_an_hour_max.filter(|_| reason.is_offence()) else { return };
        let mut record = self.record.lock();
        if record.until.is_some_and(|until| now < until) {
            return; // It was sent before the quarantine, and is found now.
        }
        let emptied = record.at.map_or(0.0, |at| {
            let by_time =
                now.saturating_duration_since(at).as_secs_f64() / HOUR.as_secs_f64() * f64::from(max);
            by_time + events.saturating_sub(record.events) as f64 / EVENTS_AN_OFFENCE as f64
        });
        record.level = (record.level - emptied).max(0.0) + 1.0;
        (record.at, record.events) = (Some(now), events);
        if record.level > f64::from(max) {
            record.last = Some(reason);
            self.is_over.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the budget is used up. It costs one load.
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Begins a quarantine: for how long, and for what. The record is clean after it.
    pub fn quarantine(&self, now: Instant) -> (Duration, Option<DropReason>) {
        let mut record = self.record.lock();
        let is_forgotten = record
            .quarantined
            .is_none_or(|before| now.saturating_duration_since(before) >= QUARANTINE_FORGOTTEN_AFTER);
        let before = if is_forgotten { 0 } else { record.quarantines };
        let time = QUARANTINE_MIN.saturating_mul(2_u32.saturating_pow(before)).min(QUARANTINE_MAX);
        let last = record.last.take();
        *record = Record {
            quarantines: before.saturating_add(1),
            quarantined: Some(now),
            until: now.checked_add(time),
            ..Record::default()
        };
        self.is_over.store(false, Ordering::Relaxed);
        (time, last)
    }

    /// How often it was quarantined lately.
    pub fn quarantines(&self) -> u32 {
        self.record.lock().quarantines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_fills_and_empties() {
        let (offences, start) = (Offences::new(Some(10)), Instant::now());
        for _ in 0..10 {
            offences.note(DropReason::BadSignature, 0, start);
            offences.note(DropReason::TooOld, 0, start);
        }
        assert!(!offences.is_over(), "ten are let pass, and old events are no offence");
        for minute in 1..=100 {
            offences.note(DropReason::MalformedFrame, 0, start + Duration::from_secs(360 * minute));
        }
        assert!(!offences.is_over(), "as many an hour as are let pass");
        offences.note(DropReason::MalformedFrame, 0, start + Duration::from_secs(36_000));
        assert!(offences.is_over());
    }

    #[test]
    fn a_relay_is_judged_by_its_share_of_bad_frames() {
        let start = Instant::now();
        let offend = |every: u64| {
            let offences = Offences::new(Some(10));
            (1..=1_000).for_each(|times| offences.note(DropReason::BadSignature, every * times, start));
            offences.is_over()
        };
        assert!(!offend(EVENTS_AN_OFFENCE), "a thousand forgeries among a million events");
        assert!(offend(EVENTS_AN_OFFENCE / 2), "two in so many");
    }

    #[test]
    fn quarantine_grows_and_is_forgotten() {
        let (offences, start) = (Offences::new(Some(1)), Instant::now());
        let offend = |at| (0..2).for_each(|_| offences.note(DropReason::IdMismatch, 0, at));
        offend(start);
        assert_eq!(offences.quarantine(start), (QUARANTINE_MIN, Some(DropReason::IdMismatch)));
        offend(start);
        assert!(!offences.is_over(), "what is found late was sent before");
        assert_eq!(offences.quarantine(start).0, QUARANTINE_MIN * 2);
        for _ in 0..40 {
            offences.quarantine(start);
        }
        assert_eq!(offences.quarantine(start).0, QUARANTINE_MAX);
        assert_eq!(offences.quarantine(start + QUARANTINE_FORGOTTEN_AFTER).0, QUARANTINE_MIN);
    }

    #[test]
    fn without_a_budget_nothing_is_held_against_a_relay() {
        let offences = Offences::new(None);
        (0..1_000).for_each(|_| offences.note(DropReason::BadSignature, 0, Instant::now()));
        assert!(!offences.is_over());
    }
}
