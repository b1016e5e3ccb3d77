//! Where reading starts: `cursor`, `since`, and the `Last-Event-ID` of a browser that reconnects.

use std::sync::Arc;

use axum::http::{HeaderName, HeaderValue, StatusCode};

use super::error::{ApiError, Details};
use super::events::on_disk;
use super::query::{self, Query, QueryError, cursor};
use crate::event_log::query::CursorError;
use crate::event_log::{Cursor, EventLog, LogId, Seq};
use crate::limits::CLOCK_AGREES_WITHIN;
use crate::serve::StartPosition;

/// The header in which a browser that reconnects to an event stream sends the last id.
pub(super) const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

impl Query {
    /// Returns the cursor to start after, from `cursor` or `since`; `None` without either. Unless
    /// there is a consumer, which may have a stored cursor, delivery can start there.
    pub(super) async fn start(&self, log: &Arc<EventLog>) -> Result<Option<Cursor>, ApiError> {
        if let Some(since) = self.since {
            return since_cursor(log, since).await.map(Some);
        }
        if let Some(cursor) = self.cursor.filter(|_| self.consumer.is_none()) {
            check_cursor(log, cursor)?;
        }
        Ok(self.cursor)
    }

    /// Returns where the consumer starts. `head` is the head of the log at the time of the
    /// connection.
    pub(crate) fn start_position(&self, head: Cursor) -> StartPosition {
        match (self.seek, self.cursor) {
            (Some(cursor), _) => StartPosition::Seek(cursor),
            (None, Some(cursor)) => StartPosition::After(cursor),
            (None, None) => StartPosition::Now(head),
        }
    }
}

/// Checks that delivery can continue after a cursor. Cursor 0 always means the oldest event.
///
/// # Errors
/// When the next event is trimmed, or the cursor is beyond the newest sequence.
pub(super) fn check_cursor(log: &EventLog, cursor: Cursor) -> Result<(), ApiError> {
    Ok(log.check_cursor(cursor)?)
}

/// Returns the cursor before the first event received at a time (Unix seconds) or later.
///
/// # Errors
/// When the time is in the future, or RocksDB fails.
async fn since_cursor(log: &Arc<EventLog>, since: u64) -> Result<Cursor, ApiError> {
    let (at_ms, now_ms) = (since.saturating_mul(1_000), log.clock().unix_ms());
    // A client's clock may be a little ahead of ours.
    let latest_ms = now_ms.saturating_add(CLOCK_AGREES_WITHIN.as_secs() * 1_000);
    if at_ms > latest_ms {
        let message = format!(
            "`since` is {since}, which is in the future: the gateway's clock says {}; give a Unix time in seconds, \
             or no `since` for new events",
            now_ms / 1_000
        );
        return Err(ApiError::bad_request("since_ahead", message));
    }
    let log = Arc::clone(log);
    on_disk(move || log.cursor_before_time(at_ms)).await
}

/// Returns the cursor in the `Last-Event-ID` header, if there is one.
///
/// # Errors
/// When it is not one cursor of this log.
pub(super) fn last_event_id<'a>(
    mut values: impl Iterator<Item = &'a HeaderValue>,
    log: LogId,
) -> Result<Option<Cursor>, QueryError> {
    let Some(value) = values.next() else { return Ok(None) };
    let value = if values.next().is_none() { value.to_str().unwrap_or_default() } else { "" };
    cursor(&query::LAST_EVENT_ID, value, log).map(Some)
}

impl From<CursorError> for ApiError {
    fn from(error: CursorError) -> Self {
        match error {
            CursorError::TooOld { cursor, oldest, newest } => {
                let resume = Cursor::before(oldest);
                let message = format!(
                    "the events after cursor {cursor} are no longer kept; go on with cursor {resume} to skip what was \
                     trimmed, or with cursor=0 for all that is kept"
                );
                Self::too_old(message, oldest, newest)
            }
            CursorError::Ahead { cursor, newest } => {
                let message = format!(
                    "cursor {cursor} is beyond the newest sequence, {newest}; use the last sequence that you handled \
                     (has the gateway lost its database?)"
                );
                Self::bad_request("cursor_ahead", message)
            }
        }
    }
}

impl ApiError {
    /// Creates the error for a cursor whose next events have been trimmed.
    pub(super) fn too_old(message: String, oldest: Seq, newest: Cursor) -> Self {
        Self::new(StatusCode::GONE, "cursor_too_old", message).with(Details {
            oldest: Some(oldest),
            newest: Some(newest),
            ..Details::default()
        })
    }
}
