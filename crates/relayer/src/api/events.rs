//! Serves single events and pages of the log.

use axum::Extension;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use wire::ClaimedId;

use super::context::Context;
use super::description::errors::{CURSOR, READ, SINCE};
use super::description::signature::Written;
use super::description::{About, Envelope, EventPage, Tag};
use super::error::ApiError;
use super::parameter::{Form, PathParameter};
use super::query::{PAGE_PARAMETERS, Query};
use super::start::check_cursor;
use crate::clock::unix_ms;
use crate::event_log::query::Page;
use crate::event_log::{Cursor, Entry, EventLog, StorageError};
use crate::serve::Grant;

pub(super) const ID: &[PathParameter] =
    &[PathParameter { name: "id", form: Form::EventId, about: "The id of the event." }];

pub(super) const ONE: About = About::new(Tag::Events, "One event").path(ID).errors(&[
    READ,
    &[(StatusCode::BAD_REQUEST, "bad_event_id"), (StatusCode::NOT_FOUND, "event_not_found")],
]);

/// `GET /api/events/{id}`: the envelope of one event.
pub(super) async fn one(
    State(context): State<Context>,
    Extension(grant): Extension<Grant>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Written<Envelope>, ApiError> {
    let id = event_id(id)?;
    let log = std::sync::Arc::clone(&context.log);
    let entry = on_disk(move || log.get(&id)).await?;
    // A reader cannot tell an event that it may not see from one that does not exist.
    let entry = entry.filter(|entry| grant.wants(&entry.event)).ok_or_else(|| {
        let message = "the log has no event with this id; it may not have arrived yet, or is no longer kept";
        ApiError::not_found("event_not_found", message)
    })?;
    Ok(Written::new(entry.envelope().clone()))
}

/// Parses the id in a path.
pub(super) fn event_id(id: Result<Path<String>, PathRejection>) -> Result<ClaimedId, ApiError> {
    let Path(id) = id.map_err(|_| bad_event_id())?;
    id.parse().map_err(|_| bad_event_id())
}

fn bad_event_id() -> ApiError {
    let message = "an event id has 64 lower-case hex digits (decode note1… and nevent1… first)";
    ApiError::bad_request("bad_event_id", message)
}

pub(super) const PAGE: About = About::new(Tag::Events, "A page of the events after a cursor")
    .details(
        "A page ends at `limit` events, at about 4 MiB, or after 20,000 events have been examined. You have reached \
         the end when `next_cursor` equals `head`.",
    )
    .query(PAGE_PARAMETERS)
    .errors(&[CURSOR, SINCE, READ]);

/// `GET /api/events`: the envelopes of the events after a cursor.
pub(super) async fn page(
    State(context): State<Context>,
    Extension(grant): Extension<Grant>,
    RawQuery(query): RawQuery,
) -> Result<Written<EventPage>, ApiError> {
    let query = Query::parse(&query.unwrap_or_default(), PAGE_PARAMETERS, context.log.id())?;
    let cursor = query.start(&context.log).await?.unwrap_or(Cursor::START);
    let log = std::sync::Arc::clone(&context.log);
    let (limit, selection) = (query.limit, grant.narrow(query.selection));
    let page = on_disk(move || log.page(cursor, limit, selection.filters())).await?;
    // Retention may have trimmed the beginning of the page during the read.
    check_cursor(&context.log, cursor)?;
    Ok(Written::new(body(&page, &context.log)))
}

/// Writes the JSON by hand, because envelopes are stored as JSON text.
fn body(page: &Page, log: &EventLog) -> Vec<u8> {
    let bytes: usize = page.entries.iter().map(|entry| entry.envelope().len() + 1).sum();
    let mut body = Vec::with_capacity(bytes + 100);
    body.extend_from_slice(br#"{"events":["#);
    for (index, envelope) in page.entries.iter().map(Entry::envelope).enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(envelope);
    }
    let (next_cursor, head, id) = (page.next_cursor, log.head(), log.id());
    body.extend_from_slice(
        format!(r#"],"next_cursor":{next_cursor},"head":{head},"log":"{id}"}}"#).as_bytes(),
    );
    body
}

/// Runs `ask`, which reads or writes the log, on the blocking pool.
pub(super) async fn on_disk<T: Send + 'static>(
    ask: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
) -> Result<T, ApiError> {
    let answer = tokio::task::spawn_blocking(ask).await;
    Ok(answer.map_err(|error| StorageError::new("answer a query", error))??)
}

/// How many seconds ago the first event after a cursor was received; 0 if there is none. Reads the
/// disk, which blocks.
pub(super) fn lag_seconds(log: &EventLog, cursor: Cursor, head: Cursor) -> Result<f64, StorageError> {
    let next_ms = if cursor < head { log.received_after(cursor)? } else { None };
    let lag_ms = next_ms.map_or(0, |received_ms| unix_ms().saturating_sub(received_ms));
    Ok(lag_ms as f64 / 1000.0)
}
