//! Heartbeats tell a receiver of rare events that the connection is alive, and how far the log was
//! examined for it. Otherwise its cursor would get older until retention trims what follows.

use std::time::Duration;

use tokio::time::Instant;

use crate::clock::unix_ms;
use crate::event_log::Cursor;

/// When the next heartbeat of one receiver is due: when nothing was sent for an interval.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    interval: Duration,
    due: Instant,
}

impl Heartbeat {
    /// The first one is due after one interval.
    pub(crate) fn every(interval: Duration) -> Self {
        Self { interval, due: Instant::now() + interval }
    }

    /// Records that something was sent.
    pub(crate) fn sent(&mut self) {
        self.due = Instant::now() + self.interval;
    }

    pub(crate) const fn due(&self) -> Instant {
        self.due
    }

    /// Returns the JSON of a heartbeat: everything up to `seq` was sent or skipped.
    pub(crate) fn json(seq: Cursor) -> String {
        format!(r#"{{"heartbeat":{{"seq":{seq},"time":{}}}}}"#, unix_ms())
    }
}
