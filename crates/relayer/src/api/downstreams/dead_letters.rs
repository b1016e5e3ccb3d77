//! Lists, replays and drops the dead letters of a sink.

use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{NameInPath, find};
use crate::api::body::{Body, Expected, bad_body};
use crate::api::context::Context;
use crate::api::error::ApiError;
use crate::api::events::on_disk;
use crate::api::query::{DEAD_LETTERS_PARAMETERS, Query};
use crate::event_log::DeadLetter;
use crate::event_log::{Cursor, StorageError};
use crate::limits::PAGE_BYTES_MAX;
use crate::sink::LetterSelector;

/// The number of letters per page without a `limit`.
const PAGE_LETTERS_DEFAULT: usize = 100;

/// The body of a call that selects letters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct LettersBody {
    seq: Option<u64>,
    all: Option<bool>,
}

impl Expected for LettersBody {
    const EXPECTED: &'static str = "{\"seq\":N} or {\"all\":true}";
}

impl LettersBody {
    fn selector(&self) -> Result<LetterSelector, ApiError> {
        match (self.seq, self.all) {
            (Some(seq @ 1..), None) => Ok(LetterSelector::One(Cursor::from_number(seq - 1).next())),
            (None, Some(true)) => Ok(LetterSelector::All),
            _ => {
                let why = "it names neither one sequence nor all".to_owned();
                Err(bad_body(Self::EXPECTED, why))
            }
        }
    }
}

/// `GET /api/downstreams/{name}/dead-letters`: a page, oldest first.
pub(in crate::api) async fn letters(
    State(context): State<Context>,
    name: NameInPath,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ApiError> {
    let sink = find(&context, name)?;
    let query = Query::parse(&query.unwrap_or_default(), DEAD_LETTERS_PARAMETERS, context.log.id())?;
    let after = query.cursor.unwrap_or(Cursor::START);
    let limit = query.limit.unwrap_or(PAGE_LETTERS_DEFAULT);
    let letters = Arc::clone(&sink);
    let page = on_disk(move || {
        let page = letters.dead_letters.page(after.next(), limit, PAGE_BYTES_MAX)?;
        let next_cursor = page.last().map_or(after, |letter| Cursor::after(letter.entry.seq));
        let shown: Result<Vec<Value>, StorageError> = page.iter().map(shown).collect();
        Ok((shown?, next_cursor))
    });
    let (shown, next_cursor) = page.await?;
    Ok(Json(json!({ "total": sink.dead_letters.len(), "dead_letters": shown, "next_cursor": next_cursor })))
}

fn shown(letter: &DeadLetter) -> Result<Value, StorageError> {
    let envelope: Result<&RawValue, _> = serde_json::from_slice(letter.entry.envelope());
    let envelope = envelope.map_err(|error| StorageError::new("show a dead letter", error))?;
    let DeadLetter { entry, refused_at_ms, tries, reason } = letter;
    Ok(json!({
        "seq": entry.seq, "refused_at": refused_at_ms, "tries": tries, "reason": reason, "envelope": envelope,
    }))
}

/// `POST /api/downstreams/{name}/dead-letters/replay`: sends letters again. They remain dead
/// letters until the sink has them.
pub(in crate::api) async fn replay(
    State(context): State<Context>,
    name: NameInPath,
    Body(body): Body<LettersBody>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let (sink, selector) = (find(&context, name)?, body.selector()?);
    let replaying = counted(selector, sink.dead_letters.replay(selector))?;
    Ok((StatusCode::ACCEPTED, Json(json!({ "replaying": replaying }))))
}

/// `DELETE /api/downstreams/{name}/dead-letters`: drops letters.
pub(in crate::api) async fn drop_letters(
    State(context): State<Context>,
    name: NameInPath,
    Body(body): Body<LettersBody>,
) -> Result<Json<Value>, ApiError> {
    let (sink, selector) = (find(&context, name)?, body.selector()?);
    let dropped = counted(selector, on_disk(move || sink.dead_letters.drop(selector)).await?)?;
    Ok(Json(json!({ "dropped": dropped })))
}

/// Fails if the call names a letter that does not exist. A call for all letters may match none.
fn counted(selector: LetterSelector, count: usize) -> Result<usize, ApiError> {
    match (selector, count) {
        (LetterSelector::One(_), 0) => Err(ApiError::not_found(
            "dead_letter_not_found",
            "the sink has no dead letter of this sequence; it may have been sent again or dropped",
        )),
        (_, count) => Ok(count),
    }
}
