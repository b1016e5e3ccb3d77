//! Checks that deliveries to a consumer are complete, unique, genuine and in order.

use std::collections::{HashMap, HashSet};
use std::fmt;

use bytes::Bytes;
use serde::Serialize;
use wire::{ClaimedId, UnverifiedEvent, VerifiedEvent, Verifier, VerifyError};

use crate::consumer::Delivery;

/// The maximum number of faults stored in full; further faults are only counted.
const FAULTS_KEPT: usize = 100;

/// What is wrong with a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrong {
    NotAnEvent(wire::ParseError),
    /// An event that does not verify.
    NotGenuine(VerifyError),
    /// An event whose id was delivered before.
    Doubled(ClaimedId),
    /// A genuine event that is not expected.
    Unexpected(ClaimedId),
    /// The sequence number is not greater than the previous one.
    SeqNotAscending {
        /// The previous number.
        before: u64,
        seq: u64,
    },
    /// Sequence numbers between `before` and this one are missing.
    SeqGap {
        /// The previous number.
        before: u64,
        seq: u64,
    },
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnEvent(error) => write!(f, "no event: {error}"),
            Self::NotGenuine(error) => write!(f, "not genuine: {error}"),
            Self::Doubled(id) => write!(f, "delivered twice: {id}"),
            Self::Unexpected(id) => write!(f, "genuine, but nobody expects it: {id}"),
            Self::SeqNotAscending { before, seq } => write!(f, "sequence {seq} after {before}"),
            Self::SeqGap { before, seq } => write!(f, "sequence {seq} after {before}: a gap"),
        }
    }
}

/// Checks one consumer's deliveries in order.
#[derive(Debug)]
pub struct Checker {
    verifier: Verifier,
    /// Expected events with their texts, if known.
    expected: Option<HashMap<ClaimedId, Option<Bytes>>>,
    expected_count: Option<usize>,
    gaps_allowed: bool,
    first_seq: Option<u64>,
    last_seq: Option<u64>,
    last_created_at: Option<u64>,
    seen: HashSet<ClaimedId>,
    /// The number of expected events that were delivered.
    matched: usize,
    wrong: Vec<Wrong>,
    verdict: Verdict,
    latencies_us: Vec<u32>,
}

impl Default for Checker {
    fn default() -> Self {
        Self::new()
    }
}

impl Checker {
    /// A checker without expected events.
    pub fn new() -> Self {
        Self {
            verifier: Verifier::new(),
            expected: None,
            expected_count: None,
            gaps_allowed: false,
            first_seq: None,
            last_seq: None,
            last_created_at: None,
            seen: HashSet::new(),
            matched: 0,
            wrong: Vec::new(),
            verdict: Verdict::default(),
            latencies_us: Vec::new(),
        }
    }

    /// Expects exactly these events. An event delivered with the expected bytes is not verified
    /// again.
    pub fn expect(mut self, events: impl IntoIterator<Item = VerifiedEvent>) -> Self {
        let events = events.into_iter().map(|event| (event.id().into(), Some(event.json().clone())));
        self.expected.get_or_insert_default().extend(events);
        self
    }

    /// Expects exactly the events with these ids.
    pub fn expect_ids(mut self, ids: impl IntoIterator<Item = impl Into<ClaimedId>>) -> Self {
        let ids = ids.into_iter().map(|id| (id.into(), None));
        self.expected.get_or_insert_default().extend(ids);
        self
    }

    /// Expects this many different events.
    pub const fn expect_count(mut self, events: usize) -> Self {
        self.expected_count = Some(events);
        self
    }

    /// Permits gaps between sequence numbers, as a filter causes them. The numbers must still
    /// ascend.
    pub const fn allow_gaps(mut self) -> Self {
        self.gaps_allowed = true;
        self
    }

    /// The first sequence number must follow this cursor.
    pub const fn after_cursor(mut self, cursor: u64) -> Self {
        self.last_seq = Some(cursor);
        self
    }

    /// Checks a delivery.
    ///
    /// # Errors
    /// The first fault of this delivery. The verdict counts all faults.
    pub fn check(&mut self, delivery: &Delivery) -> Result<(), Wrong> {
        self.verdict.deliveries += 1;
        self.verdict.bytes += delivery.message_bytes as u64;
        let order = delivery.seq.map_or(Ok(()), |seq| self.check_seq(seq));
        let event = self.check_event(&delivery.event);
        for wrong in [&order, &event].into_iter().filter_map(|checked| checked.as_ref().err()) {
            self.verdict.count(wrong);
            if self.wrong.len() < FAULTS_KEPT {
                self.wrong.push(wrong.clone());
            }
        }
        order.and(event)
    }

    fn check_seq(&mut self, seq: u64) -> Result<(), Wrong> {
        self.first_seq.get_or_insert(seq);
        match self.last_seq {
            // `last_seq` stays the greatest number, so one misplaced number counts as one fault.
            Some(before) if seq <= before => Err(Wrong::SeqNotAscending { before, seq }),
            before => {
                self.last_seq = Some(seq);
                match before {
                    Some(before) if seq > before + 1 && !self.gaps_allowed => {
                        Err(Wrong::SeqGap { before, seq })
                    }
                    _ => Ok(()),
                }
            }
        }
    }

    fn check_event(&mut self, text: &Bytes) -> Result<(), Wrong> {
        let event = UnverifiedEvent::parse(text).map_err(Wrong::NotAnEvent)?;
        let id = event.id;
        let expected = self.expected.as_ref().map(|expected| expected.get(&id));
        if !matches!(expected, Some(Some(Some(known))) if known == text) {
            self.verifier.verify(&event).map_err(Wrong::NotGenuine)?;
        }
        if self.last_created_at.is_some_and(|before| event.created_at < before) {
            self.verdict.descents += 1;
        }
        self.last_created_at = Some(event.created_at);
        if !self.seen.insert(id) {
            return Err(Wrong::Doubled(id));
        }
        match expected {
            Some(None) => return Err(Wrong::Unexpected(id)),
            Some(Some(_)) => self.matched += 1,
            None => {}
        }
        Ok(())
    }

    /// Records the latency from a relay's first copy to the delivery.
    pub fn note_latency_us(&mut self, latency_us: u64) {
        self.latencies_us.push(latency_us.try_into().unwrap_or(u32::MAX));
    }

    /// Whether all expected events were delivered; `false` without expected events.
    pub fn is_complete(&self) -> bool {
        match (&self.expected, self.expected_count) {
            (None, None) => false,
            (expected, count) => {
                expected.as_ref().is_none_or(|expected| self.matched == expected.len())
                    && count.is_none_or(|count| self.seen.len() >= count)
            }
        }
    }

    /// The number of checked deliveries.
    pub const fn deliveries(&self) -> u64 {
        self.verdict.deliveries
    }

    /// The first hundred faults.
    pub fn wrong(&self) -> &[Wrong] {
        &self.wrong
    }

    /// The expected ids that were not delivered.
    pub fn missing(&self) -> Vec<ClaimedId> {
        let expected = self.expected.iter().flat_map(HashMap::keys);
        expected.filter(|id| !self.seen.contains(*id)).copied().collect()
    }

    /// The verdict so far.
    pub fn verdict(&self) -> Verdict {
        let missing = self.missing().len() as u64;
        let short = self.expected_count.map_or(0, |count| count.saturating_sub(self.seen.len()) as u64);
        let excess = self.expected_count.map_or(0, |count| self.seen.len().saturating_sub(count) as u64);
        Verdict {
            distinct: self.seen.len() as u64,
            missing: missing.max(short),
            unexpected: self.verdict.unexpected.max(excess),
            first_seq: self.first_seq,
            last_seq: self.first_seq.and(self.last_seq),
            latency: Latency::of(&self.latencies_us),
            ..self.verdict.clone()
        }
    }
}

/// The outcome of a check.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Verdict {
    pub deliveries: u64,
    /// The bytes of all deliveries.
    pub bytes: u64,
    /// Different genuine events.
    pub distinct: u64,
    /// Expected events that were not delivered.
    pub missing: u64,
    /// Repeated events.
    pub doubled: u64,
    /// Deliveries that do not verify or are not events.
    pub not_genuine: u64,
    /// Genuine events that are not expected.
    pub unexpected: u64,
    /// Sequence numbers that do not ascend.
    pub not_ascending: u64,
    /// Gaps in the sequence, each of one number or more.
    pub gaps: u64,
    /// How often an event's `created_at` is earlier than the previous event's. Not a fault: one
    /// descent can occur between two batches, so the count must be less than the number of batches.
    pub descents: u64,
    pub first_seq: Option<u64>,
    /// The greatest sequence number.
    pub last_seq: Option<u64>,
    /// The time from a relay's first copy to the delivery, if both times are known.
    pub latency: Option<Latency>,
}

impl Verdict {
    /// Whether nothing is wrong.
    pub const fn passed(&self) -> bool {
        self.missing == 0
            && self.doubled == 0
            && self.not_genuine == 0
            && self.unexpected == 0
            && self.not_ascending == 0
            && self.gaps == 0
    }

    fn count(&mut self, wrong: &Wrong) {
        *match wrong {
            Wrong::NotAnEvent(_) | Wrong::NotGenuine(_) => &mut self.not_genuine,
            Wrong::Doubled(_) => &mut self.doubled,
            Wrong::Unexpected(_) => &mut self.unexpected,
            Wrong::SeqNotAscending { .. } => &mut self.not_ascending,
            Wrong::SeqGap { .. } => &mut self.gaps,
        } += 1;
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = if self.passed() { "PASSED" } else { "FAILED" };
        write!(f, "{outcome}: {} deliveries, {} different events; ", self.deliveries, self.distinct)?;
        write!(f, "missing {}, doubled {}, not genuine {}, ", self.missing, self.doubled, self.not_genuine)?;
        write!(f, "unexpected {}, not ascending {}, ", self.unexpected, self.not_ascending)?;
        write!(f, "gaps {}; created_at descends {} times", self.gaps, self.descents)
    }
}

/// Latencies in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Latency {
    /// The number of measured events.
    pub count: usize,
    pub p50_us: u32,
    pub p99_us: u32,
    pub max_us: u32,
}

impl Latency {
    fn of(latencies_us: &[u32]) -> Option<Self> {
        let mut sorted = latencies_us.to_vec();
        sorted.sort_unstable();
        let rank = |share: f64| {
            let rank = (share * sorted.len() as f64).ceil() as usize;
            sorted.get(rank.saturating_sub(1)).copied()
        };
        Some(Self { count: sorted.len(), p50_us: rank(0.5)?, p99_us: rank(0.99)?, max_us: rank(1.0)? })
    }
}
