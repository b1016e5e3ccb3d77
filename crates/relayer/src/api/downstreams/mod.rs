//! The routes of `/api/downstreams`: states, dead letters and commands of sinks.

mod dead_letters;
mod view;

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::body::{Body, Expected};
use super::context::Context;
use super::description::errors::{CURSOR, READ, WRITE};
use super::description::{About, Tag};
use super::error::ApiError;
use super::events::on_disk;
use super::parameter::{Form, PathParameter};
use super::start::check_cursor;
use crate::event_log::{Cursor, StorageError};
use crate::sink::{Command, CommandError, Sink};
pub(super) use dead_letters::{DROP, LETTERS, REPLAY, drop_letters, letters, replay};
use view::Shown;

type NameInPath = Result<Path<String>, PathRejection>;

const NAME: &[PathParameter] =
    &[PathParameter { name: "name", form: Form::Text, about: "The name of the sink, percent-encoded." }];

/// The error of a path that names no sink.
const NO_SUCH_SINK: &[(StatusCode, &str)] = &[(StatusCode::NOT_FOUND, "downstream_not_found")];

/// The body of a call that moves a cursor.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Seek")]
pub(super) struct SeekBody {
    /// The sequence after which delivery continues; 0 means the oldest event.
    cursor: u64,
}

impl Expected for SeekBody {
    const EXPECTED: &'static str = "{\"cursor\":N}";
}

/// The sinks, in the order of the configuration.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Sinks")]
pub(super) struct List {
    /// The newest sequence.
    head: Cursor,
    downstreams: Vec<Shown>,
}

pub(super) const LIST: About = About::new(Tag::Sinks, "The state and progress of all sinks").errors(&[READ]);

/// `GET /api/downstreams`
pub(super) async fn list(State(context): State<Context>) -> Result<Json<List>, ApiError> {
    let head = context.log.head();
    let shown = on_disk(move || {
        let shown: Result<Vec<Shown>, StorageError> =
            context.sinks.list().iter().map(|sink| Shown::of(sink, &context.log, head)).collect();
        shown
    });
    Ok(Json(List { head, downstreams: shown.await? }))
}

pub(super) const ONE: About =
    About::new(Tag::Sinks, "The state and progress of one sink").path(NAME).errors(&[READ, NO_SUCH_SINK]);

/// `GET /api/downstreams/{name}`
pub(super) async fn one(State(context): State<Context>, name: NameInPath) -> Result<Json<Shown>, ApiError> {
    let sink = find(&context, name)?;
    shown(&context, sink).await
}

pub(super) const PAUSE: About = About::new(Tag::Sinks, "Stops delivery to a sink")
    .details("The sink stays paused after a restart.")
    .path(NAME)
    .errors(&[WRITE, NO_SUCH_SINK]);

/// `POST /api/downstreams/{name}/pause`: stops delivery. The pause persists across restarts.
pub(super) async fn pause(State(context): State<Context>, name: NameInPath) -> Result<Json<Shown>, ApiError> {
    apply(&context, name, Command::Pause).await
}

pub(super) const RESUME: About =
    About::new(Tag::Sinks, "Continues delivery to a sink").path(NAME).errors(&[WRITE, NO_SUCH_SINK]);

/// `POST /api/downstreams/{name}/resume`: continues delivery after a pause or after parking.
pub(super) async fn resume(
    State(context): State<Context>,
    name: NameInPath,
) -> Result<Json<Shown>, ApiError> {
    apply(&context, name, Command::Resume).await
}

pub(super) const SEEK: About =
    About::new(Tag::Sinks, "Moves the cursor of a sink").path(NAME).errors(&[CURSOR, WRITE, NO_SUCH_SINK]);

/// `POST /api/downstreams/{name}/seek`: continues delivery after another cursor.
pub(super) async fn seek(
    State(context): State<Context>,
    name: NameInPath,
    Body(SeekBody { cursor }): Body<SeekBody>,
) -> Result<Json<Shown>, ApiError> {
    let cursor = Cursor::from_number(cursor);
    check_cursor(&context.log, cursor)?;
    apply(&context, name, Command::Seek(cursor)).await
}

async fn apply(context: &Context, name: NameInPath, command: Command) -> Result<Json<Shown>, ApiError> {
    let sink = find(context, name)?;
    sink.command(command).await?;
    shown(context, sink).await
}

async fn shown(context: &Context, sink: Arc<Sink>) -> Result<Json<Shown>, ApiError> {
    let log = Arc::clone(&context.log);
    on_disk(move || Shown::of(&sink, &log, log.head())).await.map(Json)
}

fn no_such_sink() -> ApiError {
    let message = "no sink of this name is configured; /api/downstreams lists those that are";
    ApiError::not_found("downstream_not_found", message)
}

fn find(context: &Context, name: NameInPath) -> Result<Arc<Sink>, ApiError> {
    let Path(name) = name.map_err(|_| no_such_sink())?;
    context.sinks.list().into_iter().find(|sink| *sink.name == *name).ok_or_else(no_such_sink)
}

impl From<CommandError> for ApiError {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::Stopping => Self::stopping(),
            CommandError::Storage(error) => error.into(),
        }
    }
}
