//! The offence budget of a relay, and the quarantine when it is exhausted.
//!
//! The budget is a leaky bucket: each bad signature or broken frame adds to the bucket, and the
//! bucket drains evenly, so a relay that passes on an occasional forgery stays connected. The
//! bucket also drains with the events that the relay sends, because a relay that carries more
//! events also passes on more forgeries. The budget is not stored: a restart clears it.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::ingest::DropReason;
use crate::limits::{EVENTS_AN_OFFENCE, QUARANTINE_FORGOTTEN_AFTER, QUARANTINE_MAX, QUARANTINE_MIN};

const HOUR: Duration = Duration::from_secs(3600);

/// A relay's offence budget.
#[derive(Debug)]
pub struct Offences {
    /// Offences per hour that are tolerated; 0 for no limit.
    offences_an_hour_max: AtomicU32,
    record: Mutex<Record>,
    /// Whether the budget is exhausted, readable without the lock.
    is_over: AtomicBool,
}

#[derive(Debug, Default)]
struct Record {
    /// The number of offences in the bucket.
    level: f64,
    /// When the level was computed.
    at: Option<Instant>,
    /// The number of events that the relay had sent when the level was computed.
    events: u64,
    /// The offence that exhausted the budget.
    last: Option<DropReason>,
    /// The number of recent quarantines, and when the last one began.
    quarantines: u32,
    quarantined: Option<Instant>,
    /// When the current quarantine ends.
    until: Option<Instant>,
}

impl Offences {
    /// An unused budget.
    pub fn new(offences_an_hour_max: Option<u32>) -> Self {
        let offences_an_hour_max = AtomicU32::new(offences_an_hour_max.unwrap_or(0));
        Self { offences_an_hour_max, record: Mutex::default(), is_over: AtomicBool::new(false) }
    }

    /// Sets the number of offences per hour that are tolerated from now on; `None` for no limit.
    pub(crate) fn set_max(&self, offences_an_hour_max: Option<u32>) {
        self.offences_an_hour_max.store(offences_an_hour_max.unwrap_or(0), Ordering::Relaxed);
    }

    /// Counts a refusal if it is an offence. `events` is the number of events that the relay has
    /// sent so far.
    pub(crate) fn note(&self, reason: DropReason, events: u64, now: Instant) {
        let max = self.offences_an_hour_max.load(Ordering::Relaxed);
        if max == 0 || !reason.is_offence() {
            return;
        }
        let mut record = self.record.lock();
        if record.until.is_some_and(|until| now < until) {
            return; // The offence preceded the quarantine.
        }
        let drained = record.at.map_or(0.0, |at| {
            let by_time =
                now.saturating_duration_since(at).as_secs_f64() / HOUR.as_secs_f64() * f64::from(max);
            by_time + events.saturating_sub(record.events) as f64 / EVENTS_AN_OFFENCE as f64
        });
        record.level = (record.level - drained).max(0.0) + 1.0;
        (record.at, record.events) = (Some(now), events);
        if record.level > f64::from(max) {
            record.last = Some(reason);
            self.is_over.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the budget is exhausted. This costs one load.
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Begins a quarantine and clears the budget. Returns the quarantine's duration and the offence
    /// that exhausted the budget.
    pub(crate) fn quarantine(&self, now: Instant) -> (Duration, Option<DropReason>) {
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

    /// The number of recent quarantines.
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
        assert!(!offences.is_over(), "ten are tolerated, and old events are no offence");
        for minute in 1..=100 {
            offences.note(DropReason::MalformedFrame, 0, start + Duration::from_secs(360 * minute));
        }
        assert!(!offences.is_over(), "the tolerated rate");
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
        assert!(offend(EVENTS_AN_OFFENCE / 2), "twice that share");
    }

    #[test]
    fn quarantine_grows_and_is_forgotten() {
        let (offences, start) = (Offences::new(Some(1)), Instant::now());
        let offend = |at| (0..2).for_each(|_| offences.note(DropReason::IdMismatch, 0, at));
        offend(start);
        assert_eq!(offences.quarantine(start), (QUARANTINE_MIN, Some(DropReason::IdMismatch)));
        offend(start);
        assert!(!offences.is_over(), "it was sent before the quarantine");
        assert_eq!(offences.quarantine(start).0, QUARANTINE_MIN * 2);
        for _ in 0..40 {
            offences.quarantine(start);
        }
        assert_eq!(offences.quarantine(start).0, QUARANTINE_MAX);
        assert_eq!(offences.quarantine(start + QUARANTINE_FORGOTTEN_AFTER).0, QUARANTINE_MIN);
    }

    #[test]
    fn another_limit_applies_to_the_next_offence() {
        let (offences, now) = (Offences::new(None), Instant::now());
        let offend = || offences.note(DropReason::BadSignature, 0, now);
        (0..5).for_each(|_| offend());
        offences.set_max(Some(1));
        offend();
        assert!(!offences.is_over());
        offend();
        assert!(offences.is_over());
    }

    #[test]
    fn without_a_limit_offences_have_no_effect() {
        let offences = Offences::new(None);
        (0..1_000).for_each(|_| offences.note(DropReason::BadSignature, 0, Instant::now()));
        assert!(!offences.is_over());
    }
}
