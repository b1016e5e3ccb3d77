//! Tools for declaring metrics. Each module has a struct that declares its metrics with names,
//! labels and help texts, and registers and updates them itself.

use std::fmt;
use std::ops::Index;

use enum_map::{EnumArray, EnumMap, enum_map};
use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::{MetricType, TypedMetric};

/// One metric for each value of a label. The values are the variants of an enum, so every metric
/// exists from the start.
#[derive(Debug)]
pub struct PerLabel<L: EnumArray<M>, M> {
    key: &'static str,
    metrics: EnumMap<L, M>,
}

impl<L: EnumArray<M>, M: Default> PerLabel<L, M> {
    /// Creates all metrics at zero; `key` is the name of the label.
    pub fn new(key: &'static str) -> Self {
        Self { key, metrics: enum_map! { _ => M::default() } }
    }
}

impl<L: EnumArray<M>, M: Clone> Clone for PerLabel<L, M> {
    /// The clone shares the metrics.
    fn clone(&self) -> Self {
        let metrics = EnumMap::from_fn(|value| self.metrics[value].clone());
        Self { key: self.key, metrics }
    }
}

impl<L: EnumArray<Counter>> PerLabel<L, Counter> {
    /// The sum over all values.
    pub fn total(&self) -> u64 {
        self.metrics.values().map(Counter::get).sum()
    }
}

impl<L: EnumArray<M>, M> Index<L> for PerLabel<L, M> {
    type Output = M;

    fn index(&self, value: L) -> &M {
        &self.metrics[value]
    }
}

impl<L, M> EncodeMetric for PerLabel<L, M>
where
    L: EnumArray<M> + Into<&'static str>,
    M: EncodeMetric + TypedMetric,
{
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (value, metric) in &self.metrics {
            metric.encode(encoder.encode_family(&[(self.key, value.into())])?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        M::TYPE
    }
}

/// Returns the variant of a label enum with this name.
pub fn label_value<L: EnumArray<()> + Copy + Into<&'static str>>(name: &str) -> Option<L> {
    EnumMap::<L, ()>::default().into_iter().map(|(value, ())| value).find(|value| (*value).into() == name)
}

/// Sets a gauge, capped at `i64::MAX`.
pub fn set(gauge: &Gauge, value: u64) {
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
}

/// Declares a struct of metrics. The one-line doc comment of a field is the help text of its
/// metric.
macro_rules! metrics {
    ($(#[$attribute:meta])* $vis:vis struct $Name:ident {
        $( #[doc = $help:literal] $field:ident: $Type:ty = $name:literal $(, $make:expr)?; )*
    }) => {
        $(#[$attribute])*
        #[derive(Debug)]
        $vis struct $Name {
            $( #[doc = $help] pub $field: $Type, )*
        }

        impl $Name {
            /// Registers the metrics, all at zero.
            $vis fn register(registry: &mut prometheus_client::registry::Registry) -> Self {
                $(
                    let $field: $Type = $crate::telemetry::metrics::metrics!(@make $($make)?);
                    registry.register($name, $help.trim().trim_end_matches('.'), $field.clone());
                )*
                Self { $( $field, )* }
            }
        }

        /// Creates the metrics in a registry that is discarded.
        impl Default for $Name {
            fn default() -> Self {
                Self::register(&mut prometheus_client::registry::Registry::default())
            }
        }
    };
    (@make) => { Default::default() };
    (@make $make:expr) => { $make };
}

pub(crate) use metrics;
