//! A histogram of durations whose counts can be read back, to compute the quantiles of an interval
//! from the counts at its start and end. Neither observing nor reading takes a lock.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// The upper bound of the first bucket. The bound of each further bucket is twice as large.
const FIRST_BOUND: Duration = Duration::from_micros(250);
/// The buckets with a bound: up to 16 s.
const BOUNDED: usize = 17;

/// The number of observations in each bucket. The last bucket has no bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts([u64; BOUNDED + 1]);

/// A histogram with buckets from 0.25 ms to 16 s. Clones share the counts.
#[derive(Debug, Clone, Default)]
pub struct LatencyHistogram(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    buckets: [AtomicU64; BOUNDED + 1],
    /// The sum of all observations, in microseconds.
    sum: AtomicU64,
}

impl LatencyHistogram {
    pub fn observe(&self, latency: Duration) {
        let count = self.0.buckets.get(bucket_of(latency)).or(self.0.buckets.last());
        if let Some(count) = count {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.0.sum.fetch_add(micros, Ordering::Relaxed);
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts(self.0.buckets.each_ref().map(|count| count.load(Ordering::Relaxed)))
    }
}

impl Counts {
    /// The observations since an earlier reading of the same histogram.
    pub fn since(&self, earlier: &Self) -> Self {
        let mut counts = *self;
        for (count, before) in counts.0.iter_mut().zip(earlier.0) {
            *count = count.saturating_sub(before);
        }
        counts
    }

    /// The number of observations.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The duration in seconds that this share of the observations does not exceed; `None` without
    /// observations. As in Prometheus, it is interpolated within a bucket, and the last bucket has
    /// the bound of the one before it.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let total = self.total();
        let rank = share * total as f64;
        let mut below = 0;
        for (bucket, count) in self.0.iter().enumerate() {
            if *count > 0 && (below + count) as f64 >= rank {
                let (from, to) = (lower_bound(bucket), upper_bound(bucket.min(BOUNDED - 1)));
                let part = (rank - below as f64) / *count as f64;
                return Some(from + (to - from) * part.clamp(0.0, 1.0));
            }
            below += count;
        }
        None
    }
}

/// The index of the first bucket whose bound is not exceeded.
fn bucket_of(latency: Duration) -> usize {
    let firsts = latency.as_nanos().div_ceil(FIRST_BOUND.as_nanos());
    match firsts.checked_sub(1).and_then(u128::checked_ilog2) {
        None => 0,
        Some(doublings) => usize::try_from(doublings + 1).unwrap_or(BOUNDED).min(BOUNDED),
    }
}

/// In seconds.
fn upper_bound(bucket: usize) -> f64 {
    FIRST_BOUND.as_secs_f64() * f64::from(1_u32 << bucket.min(31))
}

/// In seconds.
fn lower_bound(bucket: usize) -> f64 {
    bucket.checked_sub(1).map_or(0.0, upper_bound)
}

impl EncodeMetric for LatencyHistogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let counts = self.counts();
        let buckets: Vec<(f64, u64)> = counts
            .0
            .iter()
            .enumerate()
            .map(|(bucket, count)| {
                // The library writes this bound as `+Inf`.
                (if bucket < BOUNDED { upper_bound(bucket) } else { f64::INFINITY }, *count)
            })
            .collect();
        let sum = Duration::from_micros(self.0.sum.load(Ordering::Relaxed)).as_secs_f64();
        encoder.encode_histogram::<NoLabelSet>(sum, counts.total(), &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for LatencyHistogram {
    const TYPE: MetricType = MetricType::Histogram;
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
    use prometheus_client::registry::{Metric, Registry};

    use super::*;

    fn text(metric: impl Metric) -> String {
        let (mut registry, mut text) = (Registry::default(), String::new());
        registry.register("latency_seconds", "A latency", metric);
        encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn it_is_encoded_as_the_histogram_of_the_library() {
        let (ours, theirs) =
            (LatencyHistogram::default(), Histogram::new(exponential_buckets(0.000_25, 2.0, 17)));
        assert_eq!(text(ours.clone()), text(theirs.clone()));
        // Each bound, the values next to it, and more than the last bound.
        let mut micros = vec![0, 249, 250, 251, 60_000_000, 1 << 40];
        micros.extend((0..17).flat_map(|bucket| [250 << bucket, (250 << bucket) + 1]));
        for micros in micros {
            ours.observe(Duration::from_micros(micros));
            theirs.observe(Duration::from_micros(micros).as_secs_f64());
        }
        let without_sum = |text: String| {
            let (sums, rest): (Vec<_>, Vec<_>) =
                text.lines().map(str::to_owned).partition(|line| line.starts_with("latency_seconds_sum "));
            let sum: f64 = sums[0].rsplit_once(' ').unwrap().1.parse().unwrap();
            (rest, sum.round())
        };
        assert_eq!(without_sum(text(ours)), without_sum(text(theirs)));
    }

    #[test]
    fn quantiles_are_those_of_the_interval() {
        let histogram = LatencyHistogram::default();
        assert_eq!(histogram.counts().quantile(0.5), None);
        for _ in 0..1_000 {
            histogram.observe(Duration::from_secs(1));
        }
        let before = histogram.counts();
        assert_eq!(histogram.counts().since(&before).quantile(0.99), None);
        // 98 in the bucket from 1 to 2 ms, and two in the one from 64 to 128 ms.
        for micros in std::iter::repeat_n(1_500, 98).chain([100_000, 100_000]) {
            histogram.observe(Duration::from_micros(micros));
        }
        let lately = histogram.counts().since(&before);
        assert_eq!(lately.total(), 100);
        let millis = |share| (lately.quantile(share).unwrap() * 1e6).round() / 1e3;
        assert_eq!((millis(0.98), millis(0.99)), (2.0, 96.0));
        assert_eq!(millis(0.5), 1.51);
        histogram.observe(Duration::from_secs(3_600));
        assert_eq!(histogram.counts().since(&lately).quantile(1.0), Some(16.384));
    }
}
