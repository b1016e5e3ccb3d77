//! The displayed figures: the latest answers, and rates computed from the previous ones.

use std::collections::{HashMap, VecDeque};

use super::sample::Sample;
use crate::limits::TOP_HISTORY;
use crate::status::{Figures, Sink};

/// A rate's name, and its counter.
type Rate = (&'static str, fn(&Figures) -> u64);

pub(super) const RATES: [Rate; 5] = [
    ("frames", |figures| figures.get("frames_received_total")),
    ("new", |figures| figures.get("events_processed_total")),
    ("copies", |figures| figures.sum("duplicates_filtered_total", "layer")),
    ("refused", |figures| figures.sum("events_dropped_total", "reason")),
    ("delivered", |figures| {
        let sinks = figures.sum("downstream_delivered_events_total", "sink");
        let clients = figures.get("websocket_messages_total");
        sinks.saturating_add(clients).saturating_add(figures.get("fanout_messages_total"))
    }),
];

/// The names and histograms of the displayed quantiles.
const LATENCIES: [(&str, &str); 2] =
    [("commit", "processing_latency_seconds_bucket"), ("client", "delivery_latency_seconds_bucket")];

#[derive(Debug, Default)]
pub(super) struct Model {
    /// The gateway's URL.
    pub url: String,
    pub latest: Option<Sample>,
    /// Why the last call failed.
    pub trouble: Option<String>,
    /// A second; `None` until there are two samples of one run of the gateway.
    pub rates: Option<[f64; RATES.len()]>,
    /// Newest last.
    pub history: [VecDeque<f64>; RATES.len()],
    /// New events a second, by relay.
    pub relay_rates: HashMap<String, f64>,
    /// Events a second, by sink.
    pub sink_rates: HashMap<String, f64>,
    /// Sequences a second, by consumer.
    pub consumer_rates: HashMap<String, f64>,
    /// The name, and the 50th and the 99th percentile in seconds since the sample before.
    pub latencies: Vec<(&'static str, f64, f64)>,
}

impl Model {
    pub fn new(url: String) -> Self {
        Self { url, ..Self::default() }
    }

    pub fn update(&mut self, sample: Result<Sample, String>) {
        let sample = match sample {
            Ok(sample) => sample,
            Err(why) => {
                self.trouble = Some(why);
                return;
            }
        };
        self.trouble = None;
        match self.latest.take() {
            Some(before) => self.compare(&before, &sample),
            None => self.forget(),
        }
        self.latest = Some(sample);
    }

    fn forget(&mut self) {
        self.rates = None;
        self.latencies.clear();
        self.relay_rates.clear();
        self.sink_rates.clear();
        self.consumer_rates.clear();
    }

    fn compare(&mut self, before: &Sample, now: &Sample) {
        let seconds = now.at.saturating_duration_since(before.at).as_secs_f64();
        let (old, new) = (&before.answers.figures, &now.answers.figures);
        let has_restarted = RATES.iter().any(|(_, counter)| counter(new) < counter(old))
            || now.answers.log != before.answers.log;
        if seconds <= 0.0 || has_restarted {
            return self.forget();
        }
        let rate = |before: u64, now: u64| now.saturating_sub(before) as f64 / seconds;
        let rates = RATES.map(|(_, counter)| rate(counter(old), counter(new)));
        for (history, rate) in self.history.iter_mut().zip(rates) {
            if history.len() == TOP_HISTORY {
                history.pop_front();
            }
            history.push_back(rate);
        }
        self.rates = Some(rates);
        self.latencies = LATENCIES
            .iter()
            .filter_map(|(name, histogram)| {
                let buckets = buckets(old, new, histogram);
                Some((*name, quantile(&buckets, 0.5)?, quantile(&buckets, 0.99)?))
            })
            .collect();
        let relays = |sample: &Sample| {
            sample.relays.relays.iter().map(|relay| (relay.url.clone(), relay.first)).collect()
        };
        let sinks = |sample: &Sample| {
            sample
                .answers
                .sinks
                .iter()
                .map(|Sink { name, delivered, .. }| (name.clone(), *delivered))
                .collect()
        };
        let consumers = |sample: &Sample| {
            sample.consumers.iter().map(|consumer| (consumer.name.clone(), consumer.cursor)).collect()
        };
        self.relay_rates = differences(relays(before), relays(now), rate);
        self.sink_rates = differences(sinks(before), sinks(now), rate);
        self.consumer_rates = differences(consumers(before), consumers(now), rate);
    }
}

fn differences(
    before: HashMap<String, u64>,
    now: HashMap<String, u64>,
    rate: impl Fn(u64, u64) -> f64,
) -> HashMap<String, f64> {
    let both = now.into_iter().filter_map(|(name, now)| Some((before.get(&name).copied()?, name, now)));
    both.map(|(before, name, now)| (name, rate(before, now))).collect()
}

/// The upper bounds of a histogram's buckets, in rising order, and how many samples below each were
/// added between two answers.
fn buckets(old: &Figures, new: &Figures, histogram: &str) -> Vec<(f64, u64)> {
    let before: HashMap<&str, u64> = old.by_label(histogram, "le").collect();
    let added = new.by_label(histogram, "le").filter_map(|(bound, count)| {
        Some((bound.parse().ok()?, count.saturating_sub(before.get(bound).copied().unwrap_or(0))))
    });
    let mut buckets: Vec<(f64, u64)> = added.collect();
    buckets.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    buckets
}

/// The quantile, interpolated within its bucket as Prometheus does; `None` without samples.
fn quantile(buckets: &[(f64, u64)], q: f64) -> Option<f64> {
    let (_, total) = *buckets.last()?;
    let rank = q * total as f64;
    let (mut lower, mut below) = (0.0, 0);
    for (bound, count) in buckets.iter().copied().filter(|_| total > 0) {
        if count as f64 >= rank {
            let share = (rank - below as f64) / count.saturating_sub(below).max(1) as f64;
            return Some(if bound.is_finite() { lower + (bound - lower) * share } else { lower });
        }
        (lower, below) = (bound, count);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_prometheus() {
        let buckets = [(0.001, 50), (0.01, 90), (0.1, 100), (f64::INFINITY, 100)];
        let near = |q, expected: f64| {
            let found = quantile(&buckets, q).expect("there are samples");
            assert!((found - expected).abs() < 1e-9, "{q}: {found}");
        };
        near(0.5, 0.001);
        near(0.7, 0.0055);
        near(0.99, 0.091);
        let slow = [(0.001, 0), (f64::INFINITY, 3)];
        assert_eq!(quantile(&slow, 0.5), Some(0.001));
        assert_eq!(quantile(&[(0.001, 0), (f64::INFINITY, 0)], 0.5), None);
        assert_eq!(quantile(&[], 0.5), None);
    }
}
