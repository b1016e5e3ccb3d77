//! The routes of `/api/downstreams`: states, dead letters and commands of sinks.

mod dead_letters;
mod view;

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::body::{Body, Expected};
use super::context::Context;
use super::error::ApiError;
use super::events::on_disk;
use super::query::check_cursor;
use crate::event_log::{Cursor, StorageError};
use crate::sink::{Command, CommandError, Sink};
pub(super) use dead_letters::{drop_letters, letters, replay};
use view::Shown;

type NameInPath = Result<Path<String>, PathRejection>;

/// The body of a call that moves a cursor.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SeekBody {
    cursor: u64,
}

impl Expected for SeekBody {
    const EXPECTED: &'static str = "{\"cursor\":N}";
}

/// `GET /api/downstreams`
pub(super) async fn list(State(context): State<Context>) -> Result<Json<Value>, ApiError> {
    let head = context.log.head();
    let shown = on_disk(move || {
        let shown: Result<Vec<Shown>, StorageError> =
            context.sinks.iter().map(|sink| Shown::of(sink, &context.log, head)).collect();
        shown
    });
    Ok(Json(json!({ "head": head, "downstreams": shown.await? })))
}

/// `GET /api/downstreams/{name}`
pub(super) async fn one(State(context): State<Context>, name: NameInPath) -> Result<Json<Value>, ApiError> {
    let sink = find(&context, name)?;
    shown(&context, sink).await
}

/// `POST /api/downstreams/{name}/pause`: stops delivery. The pause persists across restarts.
pub(super) async fn pause(State(context): State<Context>, name: NameInPath) -> Result<Json<Value>, ApiError> {
    apply(&context, name, Command::Pause).await
}

/// `POST /api/downstreams/{name}/resume`: continues delivery after a pause or after parking.
pub(super) async fn resume(
    State(context): State<Context>,
    name: NameInPath,
) -> Result<Json<Value>, ApiError> {
    apply(&context, name, Command::Resume).await
}

/// `POST /api/downstreams/{name}/seek`: continues delivery after another cursor.
pub(super) async fn seek(
    State(context): State<Context>,
    name: NameInPath,
    Body(SeekBody { cursor }): Body<SeekBody>,
) -> Result<Json<Value>, ApiError> {
    let cursor = Cursor::from_number(cursor);
    check_cursor(&context.log, cursor)?;
    apply(&context, name, Command::Seek(cursor)).await
}

async fn apply(context: &Context, name: NameInPath, command: Command) -> Result<Json<Value>, ApiError> {
    let sink = find(context, name)?;
    sink.command(command).await?;
    shown(context, sink).await
}

async fn shown(context: &Context, sink: Arc<Sink>) -> Result<Json<Value>, ApiError> {
    let log = Arc::clone(&context.log);
    let shown = on_disk(move || Shown::of(&sink, &log, log.head())).await?;
    Ok(Json(json!(shown)))
}

fn no_such_sink() -> ApiError {
    let message = "no sink of this name is configured; /api/downstreams lists those that are";
    ApiError::not_found("downstream_not_found", message)
}

fn find(context: &Context, name: NameInPath) -> Result<Arc<Sink>, ApiError> {
    let Path(name) = name.map_err(|_| no_such_sink())?;
    context.sinks.iter().find(|sink| *sink.name == *name).cloned().ok_or_else(no_such_sink)
}

impl From<CommandError> for ApiError {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::Stopping => Self::stopping(),
            CommandError::Storage(error) => error.into(),
        }
    }
}
