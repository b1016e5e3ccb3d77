//! Lists, replays and drops the dead letters of a sink.

use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::{NAME, NO_SUCH_SINK, NameInPath, find};
use crate::api::body::{Body, Expected, bad_body};
use crate::api::context::Context;
use crate::api::description::errors::{READ, WRITE};
use crate::api::description::signature::Accepted;
use crate::api::description::{About, Envelope, Tag};
use crate::api::error::ApiError;
use crate::api::events::on_disk;
use crate::api::query::{DEAD_LETTERS_PARAMETERS, Query};
use crate::event_log::DeadLetter;
use crate::event_log::{Cursor, Seq, StorageError};
use crate::limits::PAGE_BYTES_MAX;
use crate::sink::{LetterSelector, Sink};

/// Which dead letters: one of `seq` and `all`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "WhichLetters", extend("minProperties" = 1, "maxProperties" = 1))]
pub(in crate::api) struct LettersBody {
    /// The letter of this sequence.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u64", range(min = 1))]
    seq: Option<u64>,
    /// All letters.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool", extend("const" = true))]
    all: Option<bool>,
}

/// Reads a field that may be absent, but not null.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(value: D) -> Result<Option<T>, D::Error> {
    T::deserialize(value).map(Some)
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

/// A page of dead letters.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "DeadLetters")]
pub(in crate::api) struct LetterPage {
    /// The number of all dead letters of the sink.
    total: usize,
    dead_letters: Vec<ShownLetter>,
    /// The `cursor` of the next page.
    next_cursor: Cursor,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "DeadLetter")]
struct ShownLetter {
    seq: Seq,
    /// Unix milliseconds.
    refused_at: u64,
    /// The failed deliveries since the event was last sent in a larger batch.
    tries: u32,
    reason: String,
    /// Whether the letter waits to be sent again.
    replaying: bool,
    #[schemars(with = "Envelope")]
    envelope: Box<RawValue>,
}

pub(in crate::api) const LETTERS: About =
    About::new(Tag::Sinks, "The events that a sink rejected, oldest first")
        .details("A page also ends at about 4 MiB, so continue until it is empty.")
        .path(NAME)
        .query(DEAD_LETTERS_PARAMETERS)
        .errors(&[READ, NO_SUCH_SINK]);

/// `GET /api/downstreams/{name}/dead-letters`: a page, oldest first.
pub(in crate::api) async fn letters(
    State(context): State<Context>,
    name: NameInPath,
    RawQuery(query): RawQuery,
) -> Result<Json<LetterPage>, ApiError> {
    let sink = find(&context, name)?;
    let query = Query::parse(&query.unwrap_or_default(), DEAD_LETTERS_PARAMETERS, context.log.id())?;
    let after = query.cursor.unwrap_or(Cursor::START);
    let letters = Arc::clone(&sink);
    let page = on_disk(move || {
        let page = letters.dead_letters.page(after.next(), query.limit, PAGE_BYTES_MAX)?;
        let next_cursor = page.last().map_or(after, |letter| Cursor::after(letter.entry.seq));
        let shown = page.iter().map(|letter| shown(letter, &letters));
        let shown: Result<Vec<ShownLetter>, StorageError> = shown.collect();
        Ok((shown?, next_cursor))
    });
    let (dead_letters, next_cursor) = page.await?;
    Ok(Json(LetterPage { total: sink.dead_letters.len(), dead_letters, next_cursor }))
}

fn shown(letter: &DeadLetter, sink: &Sink) -> Result<ShownLetter, StorageError> {
    let envelope = serde_json::from_slice(letter.entry.envelope());
    Ok(ShownLetter {
        seq: letter.entry.seq,
        refused_at: letter.refused_at_ms,
        tries: letter.tries,
        reason: letter.reason.clone(),
        replaying: sink.dead_letters.is_replaying(letter.entry.seq),
        envelope: envelope.map_err(|error| StorageError::new("show a dead letter", error))?,
    })
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ReplayingLetters")]
pub(in crate::api) struct Replaying {
    /// How many letters are sent again.
    replaying: usize,
}

const NO_SUCH_LETTER: &[(StatusCode, &str)] = &[(StatusCode::NOT_FOUND, "dead_letter_not_found")];

pub(in crate::api) const REPLAY: About = About::new(Tag::Sinks, "Sends dead letters again")
    .details("They stay dead letters until the sink has them.")
    .path(NAME)
    .errors(&[NO_SUCH_SINK, NO_SUCH_LETTER]);

/// `POST /api/downstreams/{name}/dead-letters/replay`: sends letters again. They remain dead
/// letters until the sink has them.
pub(in crate::api) async fn replay(
    State(context): State<Context>,
    name: NameInPath,
    Body(body): Body<LettersBody>,
) -> Result<Accepted<Replaying>, ApiError> {
    let (sink, selector) = (find(&context, name)?, body.selector()?);
    let replaying = counted(selector, sink.dead_letters.replay(selector))?;
    Ok(Accepted(Replaying { replaying }))
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "DroppedLetters")]
pub(in crate::api) struct Dropped {
    /// How many letters were dropped.
    dropped: usize,
}

pub(in crate::api) const DROP: About =
    About::new(Tag::Sinks, "Drops dead letters").path(NAME).errors(&[WRITE, NO_SUCH_SINK, NO_SUCH_LETTER]);

/// `DELETE /api/downstreams/{name}/dead-letters`: drops letters.
pub(in crate::api) async fn drop_letters(
    State(context): State<Context>,
    name: NameInPath,
    Body(body): Body<LettersBody>,
) -> Result<Json<Dropped>, ApiError> {
    let (sink, selector) = (find(&context, name)?, body.selector()?);
    let dropped = counted(selector, on_disk(move || sink.dead_letters.delete(selector)).await?)?;
    Ok(Json(Dropped { dropped }))
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
