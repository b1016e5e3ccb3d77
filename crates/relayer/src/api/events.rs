//! Serves single events and pages of the log.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use wire::ClaimedId;

use super::context::Context;
use super::error::ApiError;
use super::query::{PAGE_PARAMETERS, Query, check_cursor};
use crate::event_log::query::Page;
use crate::event_log::{Cursor, Entry, EventLog, StorageError};

/// The number of events per page without a `limit`.
const PAGE_EVENTS_DEFAULT: usize = 100;

/// `GET /api/events/{id}`: the envelope of one event.
pub(super) async fn one(
    State(context): State<Context>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let Path(id) = id.map_err(|_| bad_event_id())?;
    let id: ClaimedId = id.parse().map_err(|_| bad_event_id())?;
    let log = std::sync::Arc::clone(&context.log);
    let entry = on_disk(move || log.get(&id)).await?.ok_or_else(|| {
        let message = "the log has no event with this id; it may not have arrived yet, or is no longer kept";
        ApiError::not_found("event_not_found", message)
    })?;
    Ok(json(entry.envelope().clone()))
}

fn bad_event_id() -> ApiError {
    let message = "an event id has 64 lower-case hex digits (decode note1… and nevent1… first)";
    ApiError::bad_request("bad_event_id", message)
}

/// `GET /api/events`: the envelopes of the events after a cursor.
pub(super) async fn page(
    State(context): State<Context>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let query = Query::parse(&query.unwrap_or_default(), PAGE_PARAMETERS, context.log.id())?;
    let cursor = query.cursor.unwrap_or(Cursor::START);
    check_cursor(&context.log, cursor)?;
    let log = std::sync::Arc::clone(&context.log);
    let limit = query.limit.unwrap_or(PAGE_EVENTS_DEFAULT);
    let page = on_disk(move || log.page(cursor, limit, query.selection.filters())).await?;
    // Retention may have trimmed the beginning of the page during the read.
    check_cursor(&context.log, cursor)?;
    Ok(json(body(&page, &context.log)))
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

fn json(body: impl Into<axum::body::Body>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body.into()).into_response()
}

/// Runs `ask`, which reads or writes the log, on the blocking pool.
pub(super) async fn on_disk<T: Send + 'static>(
    ask: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
) -> Result<T, ApiError> {
    let answer = tokio::task::spawn_blocking(ask).await;
    Ok(answer.map_err(|error| StorageError::new("answer a query", error))??)
}
