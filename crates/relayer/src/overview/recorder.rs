//! Takes the points of the history, and computes the overview on request.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{Interval as Ticks, MissedTickBehavior, interval_at};

use super::figures::Figures;
use super::history::{Columns, Gauges, History, Point};
use super::reading::Reading;
use super::view::{Overview, Times};
use crate::clock::unix_ms;
use crate::gateway::Parts;
use crate::limits::{OVERVIEW_EVERY, OVERVIEW_FRESH, OVERVIEW_POINT_EVERY};
use crate::serve::{Client, EventStream, Session};
use crate::telemetry::resident_bytes;

/// The history, and the newest overview, which all callers share.
#[derive(Debug)]
pub(crate) struct Recorder {
    parts: Arc<Parts>,
    started: Instant,
    started_at_ms: u64,
    state: Mutex<State>,
    /// The newest point. Nobody receives it unless there are listeners.
    newest: watch::Sender<Option<TimedPoint>>,
}

#[derive(Debug)]
struct State {
    history: History,
    /// The readings at the ends of the newest two points.
    recorded: [Reading; 2],
    shown: Option<Shown>,
}

/// The newest overview.
#[derive(Debug)]
struct Shown {
    reading: Reading,
    json: Arc<str>,
}

/// A point of the history, as event streams send it.
#[derive(Debug, Clone, Copy, Serialize)]
struct TimedPoint {
    /// The end of the point, in Unix seconds.
    time: u64,
    #[serde(flatten)]
    point: Point,
}

impl Recorder {
    /// The gateway counts as started now.
    pub fn new(parts: &Arc<Parts>) -> Self {
        let reading = Reading::of(parts);
        Self {
            parts: Arc::clone(parts),
            started: reading.at,
            started_at_ms: unix_ms(),
            state: Mutex::new(State {
                history: History::new(),
                recorded: [reading.clone(), reading],
                shown: None,
            }),
            newest: watch::Sender::new(None),
        }
    }

    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    pub const fn started_at_ms(&self) -> u64 {
        self.started_at_ms
    }

    /// Takes a point at the end of each interval, until the future is dropped.
    pub async fn run(self: Arc<Self>) {
        let mut ticks = self.ticks(OVERVIEW_POINT_EVERY);
        // The first tick is that of the start.
        ticks.tick().await;
        loop {
            ticks.tick().await;
            self.record();
        }
    }

    /// Ticks now, and then at the multiples of `period` since the start, so that all listeners
    /// compute the overview at the same time.
    fn ticks(&self, period: Duration) -> Ticks {
        let mut ticks = interval_at(self.started.into(), period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        ticks
    }

    fn record(&self) {
        let reading = Reading::of(&self.parts);
        let peers = self.parts.pool.peers();
        let gauges = Gauges {
            memory_bytes: resident_bytes(),
            relays_connected: peers.iter().filter(|peer| peer.is_connected()).count(),
            clients: self.parts.clients.connected(),
        };
        let mut state = self.state.lock();
        let [_, before] = &state.recorded;
        let point = Point::new(&reading.since(before), gauges);
        // If points were missed, this one covers the time since the newest.
        let passed = reading.at.saturating_duration_since(self.started).as_secs();
        state.history.record(passed / OVERVIEW_POINT_EVERY.as_secs(), point);
        let [before, newest] = &mut state.recorded;
        *before = std::mem::replace(newest, reading);
        let time = self.end_of_newest(&state.history);
        drop(state);
        self.newest.send_replace(Some(TimedPoint { time, point }));
    }

    /// When the newest point ended, in Unix seconds.
    fn end_of_newest(&self, history: &History) -> u64 {
        let end = Duration::from_secs(history.newest() * OVERVIEW_POINT_EVERY.as_secs());
        let age = self.uptime().saturating_sub(end);
        let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        (unix_ms().saturating_sub(age_ms) + 500) / 1_000
    }

    pub fn history(&self) -> Columns {
        let state = self.state.lock();
        state.history.columns(self.end_of_newest(&state.history))
    }

    /// The overview as JSON, computed now unless it is fresh.
    pub fn overview(&self) -> Arc<str> {
        let mut state = self.state.lock();
        if let Some(shown) = state.shown.as_ref().filter(|shown| shown.reading.at.elapsed() < OVERVIEW_FRESH)
        {
            return Arc::clone(&shown.json);
        }
        self.parts.metrics.process.overviews_computed.inc();
        let reading = Reading::of(&self.parts);
        let figures = Figures::of(&self.parts, reading.since(state.earlier_than(&reading)));
        let times =
            Times { at: unix_ms(), started_at: self.started_at_ms, uptime_seconds: self.uptime().as_secs() };
        let json: Arc<str> = json(&Overview::new(&figures, times)).into();
        state.shown = Some(Shown { reading, json: Arc::clone(&json) });
        json
    }

    /// Sends the overview and new points until the gateway stops, the token ends or the listener
    /// leaves.
    pub async fn stream(
        self: Arc<Self>,
        mut stream: EventStream,
        mut listener: Client,
        mut session: Session,
    ) {
        let is_revoked = tokio::select! {
            () = listener.stopping() => false,
            () = session.revoked() => true,
            () = self.send(&mut stream) => false,
        };
        if is_revoked { stream.revoke().await } else { stream.stop().await }
    }

    async fn send(&self, stream: &mut EventStream) {
        let (mut points, mut ticks) = (self.newest.subscribe(), self.ticks(OVERVIEW_EVERY));
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    // A slow listener skips overviews, and always gets the current one.
                    stream.passed_on().await;
                    stream.send("overview", &self.overview());
                }
                Ok(()) = points.changed() => {
                    stream.passed_on().await;
                    let point = *points.borrow_and_update();
                    if let Some(point) = point {
                        stream.send("point", &json(&point));
                    }
                }
            }
        }
    }
}

impl State {
    /// The newest reading that is old enough for rates, or else the oldest that is kept.
    fn earlier_than(&self, reading: &Reading) -> &Reading {
        let [oldest, newest] = &self.recorded;
        let shown = self.shown.as_ref().map(|shown| &shown.reading);
        let is_old = |earlier: &&Reading| reading.at.duration_since(earlier.at) >= OVERVIEW_FRESH;
        let candidates = shown.into_iter().chain([newest]);
        candidates.filter(is_old).max_by_key(|earlier| earlier.at).unwrap_or(oldest)
    }
}

/// Writing these types as JSON cannot fail.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
