//! Readings of the counters, and the differences between two readings.

use std::time::Instant;

use schemars::JsonSchema;
use serde::Serialize;

use crate::gateway::{Parts, Totals};
use crate::telemetry::histogram::Counts;

/// The counters at one time.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    pub at: Instant,
    totals: Totals,
    commit: Counts,
    delivery: Counts,
    fanout: Counts,
}

/// Events a second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Rates {
    /// WebSocket messages from relays.
    pub frames: f64,
    /// Events that were committed to the log.
    pub new: f64,
    /// Copies of known events.
    pub duplicates: f64,
    /// Refused frames and events.
    pub refused: f64,
    /// Events that were delivered to clients of `/ws` and of event streams, to sinks and to
    /// followers, once for each of them.
    pub delivered: f64,
}

/// How long events of the interval took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Latencies {
    /// From reading an event's frame until the event is committed.
    pub commit: Latency,
    /// From reading an event's frame until the socket of a client of `/ws` or of an event stream
    /// has accepted the event.
    pub delivery: Latency,
    /// The same for followers.
    pub fanout: Latency,
}

/// Quantiles in milliseconds, interpolated between bucket bounds, each of which is twice the
/// previous one. Null without samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Latency {
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    pub samples: u64,
}

/// The differences between two readings.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Interval {
    pub seconds: f64,
    pub rates: Rates,
    pub latency: Latencies,
}

impl Reading {
    pub fn of(parts: &Parts) -> Self {
        let metrics = &parts.metrics;
        Self {
            at: Instant::now(),
            totals: Totals::of(parts),
            commit: metrics.ingest.processing_latency.counts(),
            delivery: metrics.websocket.latency.counts(),
            fanout: metrics.fanout.latency.counts(),
        }
    }

    pub fn since(&self, earlier: &Self) -> Interval {
        let seconds = self.at.saturating_duration_since(earlier.at).as_secs_f64();
        let rate = |of: fn(&Totals) -> u64| {
            let count = of(&self.totals).saturating_sub(of(&earlier.totals));
            // Readings of the same moment have no rate.
            if seconds > 0.0 { rounded(count as f64 / seconds) } else { 0.0 }
        };
        Interval {
            seconds: rounded(seconds),
            rates: Rates {
                frames: rate(|totals| totals.frames),
                new: rate(|totals| totals.new),
                duplicates: rate(|totals| totals.duplicates),
                refused: rate(|totals| totals.refused),
                delivered: rate(Totals::delivered),
            },
            latency: Latencies {
                commit: Latency::of(&self.commit.since(&earlier.commit)),
                delivery: Latency::of(&self.delivery.since(&earlier.delivery)),
                fanout: Latency::of(&self.fanout.since(&earlier.fanout)),
            },
        }
    }
}

impl Latency {
    fn of(counts: &Counts) -> Self {
        let milliseconds = |share| counts.quantile(share).map(|seconds| rounded(seconds * 1000.0));
        Self { p50_ms: milliseconds(0.5), p99_ms: milliseconds(0.99), samples: counts.total() }
    }
}

/// Rounds to three decimals.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
