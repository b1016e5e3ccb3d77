//! What is known of one sink: how it stands, how far it is, what happened to it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::letters::Letters;
use super::order::{Command, NotObeyed, Order};
use super::rate::Rate;
use crate::clock::unix_ms;
use crate::event_log::{Cursor, EventLog, Seq, StorageError};
use crate::limits::{LIVE_LAG_MAX, LOST_RANGES_KEPT, ORDERS_WAITING_MAX};
use crate::telemetry::Metrics;

/// How a sink stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum SinkState {
    /// A connection is being made.
    Connecting,
    /// It is sent events as they are committed.
    Live {
        /// Unix milliseconds.
        since_ms: u64,
    },
    /// It is sent what it missed.
    CatchingUp {
        /// Unix milliseconds.
        since_ms: u64,
    },
    /// It was not reached, or could not take what it was sent. It is tried again.
    Retrying {
        /// Unix milliseconds.
        until_ms: u64,
        /// Why.
        reason: String,
    },
    /// It said that it is gone, or refused everything. It is left alone until somebody resumes it.
    Parked {
        /// Unix milliseconds.
        since_ms: u64,
        /// Why.
        reason: String,
    },
    /// An operator has paused it.
    Paused {
        /// Unix milliseconds.
        since_ms: u64,
    },
    /// The gateway is stopping.
    Stopped,
}

impl SinkState {
    /// The names of the states.
    pub const LABELS: [&str; 7] =
        ["connecting", "live", "catching_up", "retrying", "parked", "paused", "stopped"];

    /// The state's name.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Live { .. } => "live",
            Self::CatchingUp { .. } => "catching_up",
            Self::Retrying { .. } => "retrying",
            Self::Parked { .. } => "parked",
            Self::Paused { .. } => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// Sequences that a sink was not sent because retention had taken them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LostRange {
    /// The first of them.
    pub first: Seq,
    /// The last of them.
    pub last: Cursor,
}

/// A sink.
#[derive(Debug)]
pub struct Sink {
    /// What it is called.
    pub name: Arc<str>,
    /// Its sort: `tcp` or `http`.
    pub kind: &'static str,
    /// Where it is, as it may be shown.
    pub address: Arc<str>,
    /// Connections after the first.
    pub reconnects: Counter,
    /// Connections that were closed for what it acknowledged.
    pub ack_errors: Counter,
    /// Requests that were answered so that they are repeated, or not at all.
    pub retries: Counter,
    /// Sequences that retention took before it had them.
    pub lost: Counter,
    /// Events that it has.
    pub delivered: Counter,
    /// What it refused.
    pub letters: Letters,
    orders: mpsc::Sender<Order>,
    state: Mutex<SinkState>,
    /// Up to where it has everything.
    cursor: AtomicU64,
    /// The same, as it is in the database.
    saved: AtomicU64,
    last_error: Mutex<Option<String>>,
    lost_ranges: Mutex<VecDeque<LostRange>>,
    began: Instant,
    rate: Mutex<Rate>,
}

impl Sink {
    /// A sink that goes on at a cursor, and who is told the operator's orders.
    ///
    /// # Errors
    /// When RocksDB fails.
    pub fn new(
        name: Arc<str>,
        kind: &'static str,
        address: &str,
        cursor: Cursor,
        log: &Arc<EventLog>,
        metrics: &Metrics,
    ) -> Result<(Self, mpsc::Receiver<Order>), StorageError> {
        let label = metrics.sink_label(&name);
        let (orders, told) = mpsc::channel(ORDERS_WAITING_MAX);
        let sink = Self {
            kind,
            address: address.into(),
            delivered: metrics.downstream_delivered.get_or_create_owned(&label),
            reconnects: metrics.downstream_reconnects.get_or_create_owned(&label),
            ack_errors: metrics.downstream_ack_errors.get_or_create_owned(&label),
            retries: metrics.downstream_retries.get_or_create_owned(&label),
            lost: metrics.downstream_lost.get_or_create_owned(&label),
            letters: Letters::of(&name, log, metrics)?,
            orders,
            state: Mutex::new(SinkState::Connecting),
            cursor: AtomicU64::new(cursor.get()),
            saved: AtomicU64::new(cursor.get()),
            last_error: Mutex::new(None),
            lost_ranges: Mutex::default(),
            began: Instant::now(),
            rate: Mutex::default(),
            name,
        };
        Ok((sink, told))
    }

    /// How it stands.
    pub fn state(&self) -> SinkState {
        self.state.lock().clone()
    }

    /// Up to where it has everything.
    pub fn cursor(&self) -> Cursor {
        Cursor::from_number(self.cursor.load(Ordering::Relaxed))
    }

    /// Up to where it has everything, as it is in the database: where it would go on after a crash.
    pub fn saved_cursor(&self) -> Cursor {
        Cursor::from_number(self.saved.load(Ordering::Relaxed))
    }

    /// What went wrong last, since the start.
    pub fn last_error(&self) -> Option<String> {
        self.last_error.lock().clone()
    }

    /// What was lost to it last, since the start.
    pub fn lost_ranges(&self) -> Vec<LostRange> {
        self.lost_ranges.lock().iter().copied().collect()
    }

    /// Events a second that it got, as of the last minute.
    pub fn rate(&self) -> f64 {
        self.rate.lock().per_second(self.began.elapsed())
    }

    /// Tells it what to do, and waits until it does.
    ///
    /// # Errors
    /// When the gateway stops.
    pub async fn order(&self, command: Command) -> Result<(), NotObeyed> {
        Order::send(&self.orders, command).await
    }

    /// Notes that it has so many events more.
    pub(super) fn count_delivered(&self, count: u64) {
        if count > 0 {
            self.delivered.inc_by(count);
            self.rate.lock().add(count, self.began.elapsed());
        }
    }

    pub(super) fn set_state(&self, state: SinkState) {
        if let SinkState::Retrying { reason, .. } | SinkState::Parked { reason, .. } = &state {
            *self.last_error.lock() = Some(reason.clone());
        }
        let mut present = self.state.lock();
        match (&*present, &state) {
            // It is still so, since when it was.
            (SinkState::Paused { .. }, SinkState::Paused { .. })
            | (SinkState::Parked { .. }, SinkState::Parked { .. }) => {}
            _ => *present = state,
        }
    }

    /// Shows whether it is live, as far as it is behind. It takes more to stop being so than to become it.
    pub(super) fn show_lag(&self, lag: u64) {
        let mut state = self.state.lock();
        let since_ms = unix_ms();
        match &*state {
            SinkState::Live { .. } if lag > LIVE_LAG_MAX => *state = SinkState::CatchingUp { since_ms },
            SinkState::CatchingUp { .. } if lag == 0 => *state = SinkState::Live { since_ms },
            _ => {}
        }
    }

    /// It is left alone for so long.
    pub(super) fn rests(&self, rest: Duration, reason: String) {
        let milliseconds = u64::try_from(rest.as_millis()).unwrap_or(u64::MAX);
        self.set_state(SinkState::Retrying { until_ms: unix_ms().saturating_add(milliseconds), reason });
    }

    pub(super) fn set_saved_cursor(&self, cursor: Cursor) {
        self.saved.store(cursor.get(), Ordering::Relaxed);
    }

    pub(super) fn set_cursor(&self, cursor: Cursor) {
        self.cursor.store(cursor.get(), Ordering::Relaxed);
    }

    /// It does not get these: retention has taken them.
    pub(super) fn lose(&self, first: Seq, last: Cursor) {
        let mut ranges = self.lost_ranges.lock();
        // A connection that broke before the sink had what comes before it meets the same range again.
        let first = ranges.back().map_or(first, |known| first.max(known.last.next()));
        if Cursor::after(first) > last {
            return;
        }
        self.lost.inc_by(last.next().get() - first.get());
        ranges.push_back(LostRange { first, last });
        if ranges.len() > LOST_RANGES_KEPT {
            ranges.pop_front();
        }
        drop(ranges);
        tracing::error!(
            sink = &*self.name,
            %first,
            %last,
            "retention has trimmed events that the sink did not have yet: it does not get them"
        );
    }
}
