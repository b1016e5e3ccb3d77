//! Commands of the operator to the running gateway: reload the configuration, make a checkpoint for
//! a backup, confirm the clock.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::context::Context;
use super::error::ApiError;
use crate::config::{ConfigErrors, Place, Problem};
use crate::control::ReloadError;
use crate::event_log::StorageError;
use crate::event_log::backup::BackupError;
use crate::limits::PROBLEMS_SHOWN_MAX;

/// `POST /api/config/reload`: loads the file again and applies the differences.
pub(super) async fn reload(State(context): State<Context>) -> Result<Json<Value>, ApiError> {
    let reloaded = context.control().reload().await?;
    Ok(Json(json!({
        "relays_added": reloaded.relays_added,
        "relays_removed": reloaded.relays_removed,
        "filters_changed": reloaded.filters_changed,
        "needs_restart": reloaded.needs_restart,
    })))
}

fn problems(errors: &ConfigErrors) -> Vec<Value> {
    errors.problems().iter().take(PROBLEMS_SHOWN_MAX).map(problem).collect()
}

fn problem(problem: &Problem) -> Value {
    let mut shown = json!({ "key": problem.key, "message": problem.what });
    let place = match &problem.place {
        Place::Default => json!({}),
        Place::File { path, line: 0, .. } => json!({ "file": path.display().to_string() }),
        Place::File { path, line, column } => {
            json!({ "file": path.display().to_string(), "line": line, "column": column })
        }
        Place::Environment(name) => json!({ "variable": name }),
    };
    if let (Value::Object(shown), Value::Object(place)) = (&mut shown, place) {
        shown.extend(place);
    }
    shown
}

/// `POST /api/backup`: makes a checkpoint inside the data folder and deletes the previous
/// checkpoint. The request contains no path, so a caller cannot choose where the gateway writes.
pub(super) async fn back_up(State(context): State<Context>) -> Result<Json<Value>, ApiError> {
    context.reserve.check(0)?;
    let log = Arc::clone(&context.log);
    let made = tokio::task::spawn_blocking(move || log.back_up()).await;
    let (folder, description) = made.map_err(|error| StorageError::new("make a checkpoint", error))??;
    let (bytes, files) = (description.bytes(), description.files.len());
    tracing::info!(
        name: "checkpoint_made",
        head = description.head.get(), bytes, files, "made a checkpoint of the log for a backup"
    );
    Ok(Json(json!({
        "folder": folder, "log": description.log, "head": description.head, "floor": description.floor,
        "made_at": description.made_at_ms, "bytes": bytes, "files": files,
    })))
}

/// `POST /api/clock/confirm`: records that the operator has checked the clock, so deletion by age
/// resumes.
pub(super) async fn confirm_clock(State(context): State<Context>) -> Json<Value> {
    Json(json!({ "was_in_doubt": context.log.clock().confirm() }))
}

impl From<ReloadError> for ApiError {
    fn from(error: ReloadError) -> Self {
        let errors = match error {
            ReloadError::Config(errors) => errors,
            ReloadError::Pool(error) => return error.into(),
        };
        let count = errors.problems().len();
        let first = errors.problems().first().map(ToString::to_string).unwrap_or_default();
        let message = format!(
            "the configuration is invalid, and the old one stays in effect; fix it and reload ({count} in all; the \
             first: {first})"
        );
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "bad_config", message).with("problems", problems(&errors))
    }
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
