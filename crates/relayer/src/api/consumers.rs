//! Lists and deletes the consumers of `/ws`.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use super::context::Context;
use super::description::errors::{READ, WRITE};
use super::description::{About, Tag};
use super::error::ApiError;
use super::events::{lag_seconds, on_disk};
use super::parameter::{Form, PathParameter};
use crate::event_log::Cursor;
use crate::serve::{EnterError, Forgotten};

fn no_such_consumer() -> ApiError {
    let message = "there is no consumer with this name; /api/consumers lists all";
    ApiError::not_found("consumer_not_found", message)
}

/// The consumers of `/ws`, by name.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ShownConsumers {
    /// The newest sequence.
    head: Cursor,
    consumers: Vec<ShownConsumer>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Consumer")]
struct ShownConsumer {
    name: String,
    /// The last acknowledged sequence.
    cursor: Cursor,
    /// The number of sequences from `cursor` to `head`.
    lag: u64,
    /// The age of the oldest event after the cursor.
    lag_seconds: f64,
    connected: bool,
    /// Unix milliseconds; null while a client is connected.
    unused_since: Option<u64>,
}

pub(super) const LIST: About = About::new(Tag::Events, "The named consumers of /ws").errors(&[READ]);

/// `GET /api/consumers`: all consumers, by name.
pub(super) async fn list(State(context): State<Context>) -> Result<Json<ShownConsumers>, ApiError> {
    let consumers = context.consumers.list();
    // The head is read after the cursors, so that no cursor is above the head.
    let head = context.log.head();
    let shown = on_disk(move || {
        let shown = consumers.into_iter().map(|(name, row)| {
            let unused_since = (row.unused_since_ms != 0).then_some(row.unused_since_ms);
            Ok(ShownConsumer {
                name: name.to_string(),
                cursor: row.cursor,
                // The head of a restored database may be lower than the cursor until the consumer
                // reconnects.
                lag: head.get().saturating_sub(row.cursor.get()),
                lag_seconds: lag_seconds(&context.log, row.cursor, head)?,
                connected: unused_since.is_none(),
                unused_since,
            })
        });
        shown.collect()
    });
    Ok(Json(ShownConsumers { head, consumers: shown.await? }))
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ForgottenConsumer")]
pub(super) struct ForgottenName {
    forgotten: bool,
    name: String,
}

pub(super) const FORGET: About = About::new(Tag::Events, "Deletes the cursor of a consumer")
    .details("The next client with this name is a new consumer.")
    .path(&[PathParameter { name: "name", form: Form::Text, about: "The name of the consumer." }])
    .errors(&[
        WRITE,
        &[(StatusCode::NOT_FOUND, "consumer_not_found"), (StatusCode::CONFLICT, "consumer_connected")],
    ]);

/// `DELETE /api/consumers/{name}`: deletes the cursor. The next client with that name is a new
/// consumer.
pub(super) async fn forget(
    State(context): State<Context>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<ForgottenName>, ApiError> {
    let Path(name) = name.map_err(|_| no_such_consumer())?;
    let (consumers, asked) = (context.consumers.clone(), name.clone());
    match on_disk(move || consumers.forget(&asked)).await? {
        Forgotten::Done => {
            tracing::info!(name: "consumer_deleted", consumer = name, "the operator deleted a consumer");
            Ok(Json(ForgottenName { forgotten: true, name }))
        }
        Forgotten::Unknown => Err(no_such_consumer()),
        Forgotten::Connected => Err(ApiError::new(
            StatusCode::CONFLICT,
            "consumer_connected",
            "a client is connected as this consumer; close the connection first",
        )),
    }
}

impl From<EnterError> for ApiError {
    fn from(error: EnterError) -> Self {
        match error {
            EnterError::Cursor(error) => error.into(),
            EnterError::Trimmed { name, cursor, oldest, newest } => {
                let resume = Cursor::before(oldest);
                let message = format!(
                    "the consumer {name} is at cursor {cursor}, and the events after it are no longer kept; move it \
                     with seek={resume} to skip what was trimmed, or with seek=0 to the oldest event"
                );
                Self::too_old(message, oldest, newest)
            }
            EnterError::TooMany(max) => Self::unavailable(
                "too_many_consumers",
                format!(
                    "the cursors of {max} consumers are kept, and [output] max_consumers (for /fanout: [fanout] \
                     max_consumers) allows no more; raise it, or delete some of /ws with DELETE /api/consumers/{{name}}"
                ),
            ),
            EnterError::TooManyShared(max) => Self::new(
                StatusCode::CONFLICT,
                "too_many_consumers_of_follower",
                format!(
                    "the cursors of {max} consumers of yours are kept, which is the maximum for a follower; use one of \
                     their names, or wait until unused ones are forgotten ([output] keep_unused_hours)"
                ),
            ),
            EnterError::Busy => Self::unavailable(
                "consumer_busy",
                "another connection with this consumer's name has not ended yet, or is newer than yours; try again later",
            ),
            EnterError::Storage(error) => error.into(),
        }
    }
}
