//! The wall clock. Nothing else in this crate reads it.
//!
//! The wall clock says when something happened, for people and in protocols that carry a time. It may be wrong, and it
//! may be set while we run, so it never measures how long something takes: durations use [`Instant`](std::time::Instant).

use std::time::{SystemTime, UNIX_EPOCH};

/// The present as the system tells it.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
pub fn system_time() -> SystemTime {
    SystemTime::now()
}

/// The present in Unix milliseconds.
pub fn unix_ms() -> u64 {
    let since_epoch = system_time().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

/// The present in Unix seconds, as events state it.
pub fn unix_secs() -> u64 {
    unix_ms() / 1_000
}
