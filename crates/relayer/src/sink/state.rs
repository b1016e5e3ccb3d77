//! One sink as the API and the metrics show it: state, cursor, counters and last error.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use schemars::JsonSchema;
use serde::Serialize;
use strum::{EnumDiscriminants, EnumIter, IntoStaticStr};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::command::{Command, CommandError, PendingCommand};
use super::dead_letters::DeadLetters;
use super::metrics::{SinkLabel, SinkMetrics};
use super::rate::Rate;
use crate::clock::unix_ms;
use crate::event_log::{Cursor, EventLog, Seq, StorageError};
use crate::limits::{COMMANDS_WAITING_MAX, LIVE_LAG_MAX, LOST_RANGES_KEPT};
use crate::receiver::Selection;

/// The state of a sink.
#[derive(EnumDiscriminants, Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "status", rename_all = "snake_case")]
#[strum_discriminants(
    name(SinkStatus),
    derive(EnumIter, IntoStaticStr),
    strum(serialize_all = "snake_case"),
    doc = "A [`SinkState`] without its data."
)]
pub enum SinkState {
    /// Relayer is connecting to the sink.
    Connecting,
    /// The sink gets events as they are committed.
    Live {
        /// Unix milliseconds.
        since_ms: u64,
    },
    /// The sink gets events that it missed.
    CatchingUp {
        /// Unix milliseconds.
        since_ms: u64,
    },
    /// The sink cannot be reached or did not accept events. Relayer tries again.
    Retrying {
        /// Unix milliseconds.
        until_ms: u64,
        /// Why Relayer has to try again.
        reason: String,
    },
    /// The sink no longer exists or refuses everything. The sink gets nothing until an operator
    /// resumes it.
    Parked {
        /// Unix milliseconds.
        since_ms: u64,
        /// Why the sink is parked.
        reason: String,
    },
    /// An operator paused the sink.
    Paused {
        /// Unix milliseconds.
        since_ms: u64,
    },
    /// The gateway is stopping, or a reload ends the sink.
    Stopped,
}

impl SinkState {
    /// The name of the state in metrics, which is also the `status` in the API.
    pub fn label(&self) -> &'static str {
        SinkStatus::from(self).into()
    }
}

/// Sequences that retention trimmed before the sink had them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LostRange {
    pub first: Seq,
    pub last: Cursor,
}

#[derive(Debug)]
pub struct Sink {
    /// The sink's name in the configuration.
    pub name: Arc<str>,
    /// `tcp` or `http`.
    pub kind: &'static str,
    /// The sink's address, without secrets.
    pub address: Arc<str>,
    /// The events that the sink wants.
    pub selection: Selection,
    /// Connections after the first.
    pub reconnects: Counter,
    /// Connections that were closed for a wrong or missing acknowledgement.
    pub ack_errors: Counter,
    /// Requests that failed and are repeated.
    pub retries: Counter,
    /// Sequences that retention trimmed before the sink had them.
    pub lost: Counter,
    /// Events delivered, repeats included.
    pub delivered: Counter,
    /// Events that the sink refused.
    pub dead_letters: Arc<DeadLetters>,
    commands: mpsc::Sender<PendingCommand>,
    state: Mutex<SinkState>,
    /// The sink has everything up to this sequence.
    cursor: AtomicU64,
    /// The cursor in the database.
    saved_cursor: AtomicU64,
    last_error: Mutex<Option<String>>,
    lost_ranges: Mutex<VecDeque<LostRange>>,
    started: Instant,
    rate: Mutex<Rate>,
}

impl Sink {
    /// Creates a sink that continues after a cursor, and the receiver of its commands.
    pub(super) fn new(
        name: Arc<str>,
        kind: &'static str,
        address: &str,
        selection: Selection,
        cursor: Cursor,
        log: &Arc<EventLog>,
        metrics: &SinkMetrics,
    ) -> Result<(Self, mpsc::Receiver<PendingCommand>), StorageError> {
        let label = SinkLabel::new(&name);
        let (commands, receiver) = mpsc::channel(COMMANDS_WAITING_MAX);
        let sink = Self {
            kind,
            address: address.into(),
            selection,
            delivered: metrics.delivered.get_or_create_owned(&label),
            reconnects: metrics.reconnects.get_or_create_owned(&label),
            ack_errors: metrics.ack_errors.get_or_create_owned(&label),
            retries: metrics.retries.get_or_create_owned(&label),
            lost: metrics.lost.get_or_create_owned(&label),
            dead_letters: Arc::new(DeadLetters::open(&name, log, metrics)?),
            commands,
            state: Mutex::new(SinkState::Connecting),
            cursor: AtomicU64::new(cursor.get()),
            saved_cursor: AtomicU64::new(cursor.get()),
            last_error: Mutex::new(None),
            lost_ranges: Mutex::default(),
            started: Instant::now(),
            rate: Mutex::default(),
            name,
        };
        Ok((sink, receiver))
    }

    /// Takes over the dead letters and the lost ranges of the sink that this one replaces.
    /// Otherwise, a reload would forget which letters were to be sent again.
    pub(super) fn replacing(self, previous: &Self) -> Self {
        Self {
            dead_letters: Arc::clone(&previous.dead_letters),
            lost_ranges: Mutex::new(previous.lost_ranges.lock().clone()),
            ..self
        }
    }

    pub fn state(&self) -> SinkState {
        self.state.lock().clone()
    }

    /// The cursor up to which the sink has everything.
    pub fn cursor(&self) -> Cursor {
        Cursor::from_number(self.cursor.load(Ordering::Relaxed))
    }

    /// The cursor in the database. If the gateway crashes, delivery continues after this cursor.
    pub fn saved_cursor(&self) -> Cursor {
        Cursor::from_number(self.saved_cursor.load(Ordering::Relaxed))
    }

    /// The last error since the start of the gateway.
    pub fn last_error(&self) -> Option<String> {
        self.last_error.lock().clone()
    }

    /// The most recent ranges that the sink lost since the start of the gateway.
    pub fn lost_ranges(&self) -> Vec<LostRange> {
        self.lost_ranges.lock().iter().copied().collect()
    }

    /// Delivered events per second, averaged over the last minute.
    pub fn rate(&self) -> f64 {
        self.rate.lock().per_second(self.started.elapsed())
    }

    /// Sends a command to the sink's worker, and waits until the command is applied.
    ///
    /// # Errors
    /// When the gateway is stopping or the disk is full; then nothing has changed.
    pub async fn command(&self, command: Command) -> Result<(), CommandError> {
        PendingCommand::send(&self.commands, command).await
    }

    pub(super) fn count_delivered(&self, count: u64) {
        if count > 0 {
            self.delivered.inc_by(count);
            self.rate.lock().add(count, self.started.elapsed());
        }
    }

    pub(super) fn set_state(&self, state: SinkState) {
        if let SinkState::Retrying { reason, .. } | SinkState::Parked { reason, .. } = &state {
            *self.last_error.lock() = Some(reason.clone());
        }
        let mut present = self.state.lock();
        match (&*present, &state) {
            // Keeps the time at which the sink entered the state.
            (SinkState::Paused { .. }, SinkState::Paused { .. })
            | (SinkState::Parked { .. }, SinkState::Parked { .. }) => {}
            _ => *present = state,
        }
    }

    /// Switches to catching up above a lag of [`LIVE_LAG_MAX`], and to live at no lag.
    pub(super) fn show_lag(&self, lag: u64) {
        let mut state = self.state.lock();
        let since_ms = unix_ms();
        match &*state {
            SinkState::Live { .. } if lag > LIVE_LAG_MAX => *state = SinkState::CatchingUp { since_ms },
            SinkState::CatchingUp { .. } if lag == 0 => *state = SinkState::Live { since_ms },
            _ => {}
        }
    }

    pub(super) fn set_retrying(&self, rest: Duration, reason: String) {
        let milliseconds = u64::try_from(rest.as_millis()).unwrap_or(u64::MAX);
        self.set_state(SinkState::Retrying { until_ms: unix_ms().saturating_add(milliseconds), reason });
    }

    pub(super) fn set_saved_cursor(&self, cursor: Cursor) {
        self.saved_cursor.store(cursor.get(), Ordering::Relaxed);
    }

    pub(super) fn set_cursor(&self, cursor: Cursor) {
        self.cursor.store(cursor.get(), Ordering::Relaxed);
    }

    /// Records that retention trimmed these sequences before the sink had them.
    pub(super) fn lose(&self, first: Seq, last: Cursor) {
        let mut ranges = self.lost_ranges.lock();
        // A connection may encounter the same range again if an earlier connection broke before
        // delivering the events in front of the range.
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
            name: "sink_events_lost",
            sink = &*self.name,
            first = first.get(),
            last = last.get(),
            "retention trimmed events before the sink had them; the sink will not get them"
        );
    }
}
