//! A checkpoint of the log, from which `moltrade-relayer backup` makes a backup.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::context::Context;
use super::error::ApiError;
use crate::event_log::StorageError;
use crate::event_log::backup::BackupError;

impl From<BackupError> for ApiError {
    fn from(error: BackupError) -> Self {
        let (status, code) = match error {
            BackupError::Busy => (StatusCode::CONFLICT, "backup_in_progress"),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "backup_failed"),
        };
        Self::new(status, code, error.to_string())
    }
}

/// `POST /api/backup`: makes a checkpoint inside of the data folder, in place of the one before.
/// Nobody names a path, so nobody can have one written to.
pub(super) async fn make(State(context): State<Context>) -> Result<Json<Value>, ApiError> {
    context.reserve.check(0)?;
    let log = std::sync::Arc::clone(&context.log);
    let made = tokio::task::spawn_blocking(move || log.back_up()).await;
    let (folder, description) = made.map_err(|error| StorageError::new("make a checkpoint", error))??;
    let (bytes, files) = (description.bytes(), description.files.len());
    tracing::info!(head = %description.head, bytes, files, "made a checkpoint of the log for a backup");
    Ok(Json(json!({
        "folder": folder, "log": description.log, "head": description.head, "floor": description.floor,
        "made_at": description.made_at_ms, "bytes": bytes, "files": files,
    })))
}
