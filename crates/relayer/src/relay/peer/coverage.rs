//! The coverage of a relay: the span of time for which every event of the relay is proven to be in
//! the log.
//!
//! Times are `created_at` in Unix seconds, both ends inclusive, because relays are queried by
//! `created_at`. A span is proven when the relay has answered completely for the span, or was
//! connected and live during it, and when everything that the relay sent was committed or refused.
//! An unproven part of the covered span is a [`Gap`] with a reason. The *watermark* is the last
//! second before the first gap.
//!
//! While we are not connected, a relay may receive events with an older `created_at`. Each new
//! connection therefore reopens the last `[relay] overlap_secs` before the coverage's end, and the
//! watermark moves back by the same time until those seconds have been requested again.
//!
//! The coverage's end comes from our clock, and events refused by that clock as too old or too far
//! ahead count as received. Every claim therefore rests on a [`Base`] of the clock. The claims that
//! existed when live events last agreed with the clock are *vouched* for. After the clock was set,
//! only vouched claims hold, and everything later is requested again.

#[cfg(test)]
mod clock_model;
#[cfg(test)]
mod tests;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::{Base, Now};
use crate::limits::{CLOCK_AGREES_WITHIN, CLOCK_STEP_MIN, GAPS_MAX};

/// The coverage that is proven for a relay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// The covered kinds, ascending; empty for all kinds.
    kinds: Vec<u16>,
    /// The first covered second.
    from: u64,
    /// The last covered second.
    until: u64,
    /// The unproven spans: ascending, disjoint, between `from` and `until`.
    gaps: Vec<Gap>,
    /// The clock that the claims rest on; `None` in rows of versions that did not store a clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base: Option<Base>,
    /// How often the clock had been set in this process when the claims were made; `None` in a row
    /// read from the database.
    #[serde(skip)]
    steps: Option<u64>,
    /// The claims that hold even if the clock is set; `None` if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vouched: Option<Box<Vouched>>,
}

/// The claims at the time when live events last agreed with the clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Vouched {
    from: u64,
    until: u64,
    gaps: Vec<Gap>,
}

/// An unproven span.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Gap {
    /// The first second.
    pub since: u64,
    /// The last second.
    pub until: u64,
    pub reason: GapReason,
}

/// Why a span is not proven.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GapReason {
    /// The relay was not asked or has not answered yet.
    NotAsked,
    /// The span was proven, but late events may have come while we were not connected.
    MayBeLate,
    /// One second has, or may have, more events than the relay puts into one answer.
    BeyondCap {
        /// The size of the answer.
        got: u32,
    },
    /// The relay refused to answer, for this reason (shortened).
    Refused(Box<str>),
}

impl Coverage {
    /// The coverage at first contact with a relay that is live from `now` on and will be asked for
    /// events from `since` on. The coverage is empty if `since` is after `now`.
    pub fn first_contact(kinds: impl IntoIterator<Item = u16>, since: u64, now: u64) -> Self {
        let gaps = match since <= now {
            true => vec![Gap { since, until: now, reason: GapReason::NotAsked }],
            false => Vec::new(),
        };
        let from = since.min(now.saturating_add(1));
        Self { kinds: sorted(kinds), from, until: now, gaps, base: None, steps: None, vouched: None }
    }

    /// The coverage of a relay that is live from `now` on: a
    /// [`first_contact`](Self::first_contact), or the known coverage
    /// [`reconnected`](Self::reconnected).
    pub fn resumed(
        known: Option<Self>,
        kinds: impl IntoIterator<Item = u16>,
        since: u64,
        now: Now,
        overlap: u64,
    ) -> Self {
        let coverage = match known.map(|known| known.on_clock(now)) {
            None => Self::first_contact(kinds, since, now.secs()),
            Some(known) if known.is_empty() => Self::first_contact(kinds, since.min(known.from), now.secs()),
            Some(known) => {
                let mut coverage = known.of_kinds(kinds, since);
                // An undetected small clock step must not leave a hole.
                coverage.reconnected(now.secs(), overlap.max(CLOCK_STEP_MIN.as_secs()));
                coverage
            }
        };
        Self { base: Some(coverage.base.unwrap_or(now.base)), steps: Some(now.steps), ..coverage }
    }

    /// Reduces the coverage to the claims that hold on this clock: all claims if they rest on it,
    /// otherwise the vouched ones. A row without a clock holds unless its end is in the future.
    pub(crate) fn on_clock(mut self, now: Now) -> Self {
        let was_set = self.steps.is_some_and(|steps| steps != now.steps);
        self.steps = Some(now.steps);
        match self.base {
            Some(base) if base.is_same(now.base) && !was_set => return self,
            None if self.until <= now.secs() => {
                self.vouch();
            }
            Some(_) | None => {
                let (from, until, gaps) = match self.vouched.as_deref().cloned() {
                    Some(Vouched { from, until, gaps }) => (from, until, gaps),
                    None => (self.from, self.from.saturating_sub(1), Vec::new()),
                };
                (self.from, self.until, self.gaps) = (from, until, gaps);
            }
        }
        self.base = Some(now.base);
        self
    }

    /// Whether the claims rest on this clock.
    pub(crate) fn rests_on(&self, now: Now) -> bool {
        self.steps == Some(now.steps) && self.base.is_some_and(|ours| ours.is_same(now.base))
    }

    /// Records that live events agree with the clock, so the claims hold even if the clock is set
    /// later. The last minute is excluded, because clocks that agree may differ by a minute.
    pub(crate) fn vouch(&mut self) {
        let until = self.until.saturating_sub(CLOCK_AGREES_WITHIN.as_secs());
        let until = until.max(self.from.saturating_sub(1));
        let gaps = self.gaps.iter().filter(|gap| gap.since <= until);
        let gaps = gaps.map(|gap| Gap { until: gap.until.min(until), ..gap.clone() }).collect();
        self.vouched = Some(Box::new(Vouched { from: self.from, until, gaps }));
    }

    /// Whether nothing is claimed, because nothing was vouched for when the clock was set.
    pub const fn is_empty(&self) -> bool {
        self.until < self.from
    }

    /// The coverage after the requested kinds change. For a subset of the kinds, everything stays
    /// proven. If there are new kinds, nothing is proven: the relay is asked again from `since`, or
    /// from the watermark if the watermark is earlier.
    pub fn of_kinds(&self, kinds: impl IntoIterator<Item = u16>, since: u64) -> Self {
        let kinds = sorted(kinds);
        let is_part = !kinds.is_empty() && kinds.iter().all(|kind| self.kinds.binary_search(kind).is_ok());
        if self.kinds.is_empty() || kinds == self.kinds || is_part {
            return Self { kinds, ..self.clone() };
        }
        let after_watermark = self.proven_until().map_or(self.from, |proven| proven.saturating_add(1));
        // If the clock is set later, the watermark does not hold: only vouched claims do.
        let after_vouched = match self.vouched.as_deref() {
            Some(vouched) => vouched.gaps.first().map_or(vouched.until.saturating_add(1), |gap| gap.since),
            None => self.from,
        };
        let from = since.min(after_vouched);
        let vouched = Some(Box::new(Vouched { from, until: from.saturating_sub(1), gaps: Vec::new() }));
        let since = since.min(after_watermark);
        let wider = Self::first_contact(kinds, since, self.until.max(since));
        Self { base: self.base, steps: self.steps, vouched, ..wider }
    }

    /// Parses a stored row.
    ///
    /// # Errors
    /// If the row is damaged.
    pub fn from_row(row: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(row)
    }

    /// The row to store.
    pub fn to_row(&self) -> Vec<u8> {
        // Serialising numbers and strings into memory cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The first covered second.
    pub const fn from(&self) -> u64 {
        self.from
    }

    /// The last covered second.
    pub const fn until(&self) -> u64 {
        self.until
    }

    /// The watermark: everything from [`from`](Self::from) up to and including the watermark is
    /// proven. `None` if nothing is proven.
    pub fn proven_until(&self) -> Option<u64> {
        match self.gaps.first() {
            Some(gap) if gap.since <= self.from => None,
            Some(gap) => Some(gap.since - 1),
            None => Some(self.until).filter(|until| *until >= self.from),
        }
    }

    /// The gaps, oldest first.
    pub fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    /// Extends the coverage to `now` on a new connection. The time since the old end becomes a gap,
    /// and so do the last `overlap` seconds before the old end, for late events. The last covered
    /// second is always reopened, because it was not over when it was proven.
    pub(crate) fn reconnected(&mut self, now: u64, overlap: u64) {
        let last = self.until;
        self.until = last.max(now);
        self.open(last.max(self.from), self.until, &GapReason::NotAsked);
        let late_since = last.saturating_add(1).saturating_sub(overlap).max(self.from);
        self.open(late_since, last.saturating_sub(1), &GapReason::MayBeLate);
    }

    /// Turns the proven parts of a span into gaps.
    fn open(&mut self, since: u64, until: u64, reason: &GapReason) {
        let mut since = since;
        let gaps: Vec<(u64, u64)> = self.gaps.iter().map(|gap| (gap.since, gap.until)).collect();
        for (gap_since, gap_until) in gaps.into_iter().chain([(u64::MAX, u64::MAX)]) {
            let end = until.min(gap_since.saturating_sub(1));
            if since <= end {
                self.insert(Gap { since, until: end, reason: reason.clone() });
            }
            since = since.max(gap_until.saturating_add(1));
        }
    }

    /// Extends the coverage to `now`. The connection has been live since the coverage's end, so the
    /// time in between is proven.
    pub fn extend(&mut self, now: u64) {
        self.until = self.until.max(now);
    }

    /// Marks a span as proven.
    pub fn prove(&mut self, since: u64, until: u64) {
        let mut left = Vec::with_capacity(self.gaps.len() + 1);
        for gap in self.gaps.drain(..) {
            if gap.until < since || gap.since > until {
                left.push(gap);
                continue;
            }
            if gap.since < since {
                left.push(Gap { until: since - 1, ..gap.clone() });
            }
            if gap.until > until {
                left.push(Gap { since: until + 1, ..gap });
            }
        }
        self.gaps = left;
        self.bound();
    }

    /// Sets the reason of the gaps within a span. Proven parts stay proven.
    pub(crate) fn explain(&mut self, since: u64, until: u64, reason: &GapReason) {
        let overlaps: Vec<(u64, u64)> = self
            .gaps
            .iter()
            .map(|gap| (gap.since.max(since), gap.until.min(until)))
            .filter(|(since, until)| since <= until)
            .collect();
        for (since, until) in overlaps {
            self.prove(since, until);
            self.insert(Gap { since, until, reason: reason.clone() });
        }
    }

    /// Adds a gap. Its span must be proven.
    fn insert(&mut self, gap: Gap) {
        let place = self.gaps.partition_point(|other| other.since < gap.since);
        self.gaps.insert(place, gap);
        // Adjacent gaps with the same reason are merged.
        self.gaps.dedup_by(|next, gap| {
            let one = gap.until.saturating_add(1) == next.since && gap.reason == next.reason;
            if one {
                gap.until = next.until;
            }
            one
        });
        self.bound();
    }

    /// Limits the number of gaps: merges the two gaps with the least proven time between them. That
    /// time then counts as unproven.
    fn bound(&mut self) {
        while self.gaps.len() > GAPS_MAX {
            let distances = self.gaps.windows(2).enumerate().filter_map(|(place, pair)| match pair {
                [gap, next] => Some((next.since - gap.until, place)),
                _ => None,
            });
            let Some((_, place)) = distances.min() else { return };
            let next = self.gaps.remove(place + 1);
            if let Some(gap) = self.gaps.get_mut(place) {
                gap.until = next.until;
                gap.reason = GapReason::NotAsked;
            }
        }
    }
}

fn sorted(kinds: impl IntoIterator<Item = u16>) -> Vec<u16> {
    let mut kinds: Vec<u16> = kinds.into_iter().collect();
    kinds.sort_unstable();
    kinds
}
