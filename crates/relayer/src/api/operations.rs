//! Commands of the operator to the running gateway: reload the configuration, make a checkpoint for
//! a backup, confirm the clock.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use super::context::Context;
use super::description::errors::{READ, WRITE};
use super::description::{About, Tag};
use super::error::{ApiError, Details};
use crate::config::{ConfigErrors, Place, Problem};
use crate::control::{ReloadError, Reloaded};
use crate::event_log::backup::BackupError;
use crate::event_log::{Cursor, LogId, Seq, StorageError};
use crate::limits::PROBLEMS_SHOWN_MAX;
use crate::sink::ApplyError;

pub(super) const RELOAD: About = About::new(Tag::Operator, "Reloads the configuration")
    .details(
        "Adds, changes and removes relays and sinks, and replaces filters, limits and tokens. Everything that did not \
         change keeps its connections. `needs_restart` lists the changes that take effect after a restart. An invalid \
         configuration changes nothing.",
    )
    .errors(&[WRITE, &[(StatusCode::UNPROCESSABLE_ENTITY, "bad_config"), (StatusCode::CONFLICT, "pool_full")]]);

/// `POST /api/config/reload`: loads the file again and applies the differences.
pub(super) async fn reload(State(context): State<Context>) -> Result<Json<Reloaded>, ApiError> {
    Ok(Json(context.control().reload().await?))
}

/// A problem of the configuration, and where it is.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Problem")]
pub(super) struct ShownProblem {
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
    /// The environment variable.
    #[serde(skip_serializing_if = "Option::is_none")]
    variable: Option<String>,
    key: Option<String>,
    message: String,
}

impl From<&Problem> for ShownProblem {
    fn from(problem: &Problem) -> Self {
        let mut shown = Self {
            file: None,
            line: None,
            column: None,
            variable: None,
            key: problem.key.clone(),
            message: problem.what.clone(),
        };
        match &problem.place {
            Place::Default => {}
            Place::File { path, line: 0, .. } => shown.file = Some(path.display().to_string()),
            Place::File { path, line, column } => {
                shown.file = Some(path.display().to_string());
                (shown.line, shown.column) = (Some(*line), Some(*column));
            }
            Place::Environment(name) => shown.variable = Some(name.clone()),
        }
        shown
    }
}

fn problems(errors: &ConfigErrors) -> Vec<ShownProblem> {
    errors.problems().iter().take(PROBLEMS_SHOWN_MAX).map(ShownProblem::from).collect()
}

/// A checkpoint of the log.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Checkpoint {
    folder: String,
    log: LogId,
    head: Cursor,
    floor: Seq,
    /// Unix milliseconds.
    made_at: u64,
    bytes: u64,
    files: usize,
}

pub(super) const BACK_UP: About = About::new(Tag::Operator, "Makes a checkpoint of the log")
    .details("`moltrade-relayer backup` makes this call and copies the files. A checkpoint replaces the previous one.")
    .errors(&[
        READ,
        &[
            (StatusCode::CONFLICT, "backup_in_progress"),
            (StatusCode::INSUFFICIENT_STORAGE, "disk_full"),
            (StatusCode::INTERNAL_SERVER_ERROR, "backup_failed"),
        ],
    ]);

/// `POST /api/backup`: makes a checkpoint inside the data folder and deletes the previous
/// checkpoint. The request contains no path, so a caller cannot choose where the gateway writes.
pub(super) async fn back_up(State(context): State<Context>) -> Result<Json<Checkpoint>, ApiError> {
    context.reserve.check(0)?;
    let log = Arc::clone(&context.log);
    let made = tokio::task::spawn_blocking(move || log.back_up()).await;
    let (folder, description) = made.map_err(|error| StorageError::new("make a checkpoint", error))??;
    let (bytes, files) = (description.bytes(), description.files.len());
    tracing::info!(
        name: "checkpoint_made",
        head = description.head.get(), bytes, files, "made a checkpoint of the log for a backup"
    );
    Ok(Json(Checkpoint {
        folder: folder.display().to_string(),
        log: description.log,
        head: description.head,
        floor: description.floor,
        made_at: description.made_at_ms,
        bytes,
        files,
    }))
}

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ConfirmedClock {
    /// Whether the clock was in doubt until now.
    was_in_doubt: bool,
}

pub(super) const CONFIRM_CLOCK: About = About::new(Tag::Operator, "Confirms that the clock is right")
    .details("While the clock is in doubt, nothing is deleted because of its age.");

/// `POST /api/clock/confirm`: records that the operator has checked the clock, so deletion by age
/// resumes.
pub(super) async fn confirm_clock(State(context): State<Context>) -> Json<ConfirmedClock> {
    Json(ConfirmedClock { was_in_doubt: context.log.clock().confirm() })
}

impl From<ReloadError> for ApiError {
    fn from(error: ReloadError) -> Self {
        let errors = match error {
            ReloadError::Config(errors) => errors,
            ReloadError::Descriptors(error) => return unusable(&error),
            ReloadError::SinkSetup(error) => return unusable(&error),
            ReloadError::Pool(error) => return error.into(),
            ReloadError::Sinks(ApplyError::Stopping) => return Self::stopping(),
            ReloadError::Sinks(ApplyError::Storage(error)) => return error.into(),
        };
        let count = errors.problems().len();
        let first = errors.problems().first().map(ToString::to_string).unwrap_or_default();
        let message = format!(
            "the configuration is invalid, and the old one stays in effect; fix it and reload ({count} in all; the \
             first: {first})"
        );
        let details = Details { problems: Some(problems(&errors)), ..Details::default() };
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "bad_config", message).with(details)
    }
}

/// The error of a configuration whose values are valid but cannot be used on this machine.
fn unusable(error: &dyn std::error::Error) -> ApiError {
    let message = format!("the configuration cannot be used, and the old one stays in effect: {error}");
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "bad_config", message)
}

impl From<BackupError> for ApiError {
    fn from(error: BackupError) -> Self {
        let (status, code) = match error {
            BackupError::Busy => (StatusCode::CONFLICT, "backup_in_progress"),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "backup_failed"),
        };
        Self::new(status, code, error.to_string())
    }
}
