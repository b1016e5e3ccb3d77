//! The points of the last hour.

use std::collections::VecDeque;

use schemars::JsonSchema;
use serde::Serialize;

use super::reading::{Interval, Rates};
use crate::limits::{OVERVIEW_POINT_EVERY, OVERVIEW_POINTS_MAX};

/// The figures of one interval of [`OVERVIEW_POINT_EVERY`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Point {
    #[serde(flatten)]
    rates: Rates,
    commit_p50_ms: Option<f64>,
    commit_p99_ms: Option<f64>,
    delivery_p50_ms: Option<f64>,
    delivery_p99_ms: Option<f64>,
    memory_bytes: Option<u64>,
    relays_connected: usize,
    clients: usize,
}

/// The gauges of a point, read at its end.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Gauges {
    pub memory_bytes: Option<u64>,
    pub relays_connected: usize,
    pub clients: usize,
}

impl Point {
    pub fn new(interval: &Interval, gauges: Gauges) -> Self {
        let (commit, delivery) = (interval.latency.commit, interval.latency.delivery);
        let Gauges { memory_bytes, relays_connected, clients } = gauges;
        Self {
            rates: interval.rates,
            commit_p50_ms: commit.p50_ms,
            commit_p99_ms: commit.p99_ms,
            delivery_p50_ms: delivery.p50_ms,
            delivery_p99_ms: delivery.p99_ms,
            memory_bytes,
            relays_connected,
            clients,
        }
    }
}

/// The newest [`OVERVIEW_POINTS_MAX`] points, for which memory is allocated once.
#[derive(Debug)]
pub(super) struct History {
    /// Oldest first; `None` for a point that was missed.
    points: VecDeque<Option<Point>>,
    /// The number of the newest point. The first is 1, and ends one interval after the start.
    newest: u64,
}

/// The points of the last hour, oldest first, in columns of equal length. A value is null if it is
/// unknown, or if the gateway could not take the point because it was stopped or too busy.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "OverviewHistory")]
pub(crate) struct Columns {
    interval_seconds: u64,
    /// The length of the columns never exceeds this.
    points_max: usize,
    /// The ends of the intervals, in Unix seconds.
    time: Vec<u64>,
    /// WebSocket messages from relays, a second.
    frames: Vec<Option<f64>>,
    /// Events that were committed to the log, a second.
    new: Vec<Option<f64>>,
    /// Copies of known events, a second.
    duplicates: Vec<Option<f64>>,
    /// Refused frames and events, a second.
    refused: Vec<Option<f64>>,
    /// Events that were delivered, a second.
    delivered: Vec<Option<f64>>,
    commit_p50_ms: Vec<Option<f64>>,
    commit_p99_ms: Vec<Option<f64>>,
    delivery_p50_ms: Vec<Option<f64>>,
    delivery_p99_ms: Vec<Option<f64>>,
    /// Resident memory.
    memory_bytes: Vec<Option<u64>>,
    relays_connected: Vec<Option<usize>>,
    /// Clients of `/ws` and of event streams.
    clients: Vec<Option<usize>>,
}

impl History {
    pub fn new() -> Self {
        Self { points: VecDeque::with_capacity(OVERVIEW_POINTS_MAX), newest: 0 }
    }

    /// Adds the point with this number. Points between the newest and this one were missed.
    pub fn record(&mut self, number: u64, point: Point) {
        let missed = number.saturating_sub(self.newest).saturating_sub(1);
        let missed = usize::try_from(missed).unwrap_or(OVERVIEW_POINTS_MAX).min(OVERVIEW_POINTS_MAX);
        (0..missed).for_each(|_| self.push(None));
        self.push(Some(point));
        self.newest = number;
    }

    fn push(&mut self, point: Option<Point>) {
        if self.points.len() == OVERVIEW_POINTS_MAX {
            self.points.pop_front();
        }
        self.points.push_back(point);
    }

    /// The number of the newest point.
    pub const fn newest(&self) -> u64 {
        self.newest
    }

    /// `end` is when the newest point ended, in Unix seconds.
    pub fn columns(&self, end: u64) -> Columns {
        let interval = OVERVIEW_POINT_EVERY.as_secs();
        let ages = (0..self.points.len() as u64).rev();
        Columns {
            interval_seconds: interval,
            points_max: OVERVIEW_POINTS_MAX,
            time: ages.map(|age| end.saturating_sub(age * interval)).collect(),
            frames: self.column(|point| Some(point.rates.frames)),
            new: self.column(|point| Some(point.rates.new)),
            duplicates: self.column(|point| Some(point.rates.duplicates)),
            refused: self.column(|point| Some(point.rates.refused)),
            delivered: self.column(|point| Some(point.rates.delivered)),
            commit_p50_ms: self.column(|point| point.commit_p50_ms),
            commit_p99_ms: self.column(|point| point.commit_p99_ms),
            delivery_p50_ms: self.column(|point| point.delivery_p50_ms),
            delivery_p99_ms: self.column(|point| point.delivery_p99_ms),
            memory_bytes: self.column(|point| point.memory_bytes),
            relays_connected: self.column(|point| Some(point.relays_connected)),
            clients: self.column(|point| Some(point.clients)),
        }
    }

    fn column<T>(&self, value: impl Fn(&Point) -> Option<T>) -> Vec<Option<T>> {
        self.points.iter().map(|point| point.as_ref().and_then(&value)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};

    use super::*;

    fn point(frames: f64) -> Point {
        let rates = Rates { frames, ..Rates::default() };
        let gauges = Gauges { memory_bytes: Some(7), relays_connected: 2, clients: 3 };
        Point::new(&Interval { rates, ..Interval::default() }, gauges)
    }

    fn shown(history: &History) -> Value {
        serde_json::to_value(history.columns(1_000_000)).unwrap()
    }

    #[test]
    fn missed_points_are_null_in_every_column() {
        let mut history = History::new();
        assert_eq!(shown(&history)["time"], json!([]));
        history.record(1, point(1.0));
        history.record(4, point(4.0));
        let shown = shown(&history);
        assert_eq!(shown["time"], json!([999_970, 999_980, 999_990, 1_000_000]));
        assert_eq!(shown["frames"], json!([1.0, null, null, 4.0]));
        assert_eq!(shown["memory_bytes"], json!([7, null, null, 7]));
        assert_eq!(shown["clients"], json!([3, null, null, 3]));
        assert_eq!(shown["commit_p99_ms"], json!([null, null, null, null]), "nothing was committed");
    }

    #[test]
    fn a_point_has_the_keys_of_the_columns() {
        let keys = |value: &Value| BTreeSet::from_iter(value.as_object().unwrap().keys().cloned());
        let mut columns = keys(&shown(&History::new()));
        for key in ["interval_seconds", "points_max", "time"] {
            assert!(columns.remove(key));
        }
        assert_eq!(keys(&serde_json::to_value(point(1.0)).unwrap()), columns);
    }

    #[test]
    fn the_history_is_an_hour_long_and_never_grows() {
        let mut history = History::new();
        let allocated = history.points.capacity();
        for number in 1..=1_000 {
            history.record(number, point(number as f64));
        }
        let shown_now = shown(&history);
        let frames = shown_now["frames"].as_array().unwrap();
        assert_eq!((frames.len(), &frames[0], &frames[359]), (360, &json!(641.0), &json!(1_000.0)));
        // The process was stopped for a week.
        history.record(61_480, point(5.0));
        let shown = shown(&history);
        let frames = shown["frames"].as_array().unwrap();
        assert_eq!((frames.len(), &frames[359]), (360, &json!(5.0)));
        assert!(frames[..359].iter().all(Value::is_null));
        assert_eq!((history.points.capacity(), history.newest()), (allocated, 61_480));
    }
}
