//! Lists and forgets the consumers of `/ws`.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use super::context::Context;
use super::error::ApiError;
use super::events::on_disk;
use crate::serve::Forgotten;

/// `GET /api/consumers`: all consumers, by name.
pub(super) async fn list(State(context): State<Context>) -> Json<Value> {
    let consumers = context.consumers.list();
    // Read after the cursors, so that it is not behind them.
    let head = context.log.head();
    let shown = consumers.into_iter().map(|(name, row)| {
        // A restored database may have a smaller head, until the consumer comes back.
        let lag = head.get().saturating_sub(row.cursor.get());
        let unused_since = (row.unused_since_ms != 0).then_some(row.unused_since_ms);
        json!({
            "name": *name, "cursor": row.cursor, "lag": lag, "connected": unused_since.is_none(),
            "unused_since": unused_since,
        })
    });
    let shown: Vec<Value> = shown.collect();
    Json(json!({ "head": head, "consumers": shown }))
}

/// `DELETE /api/consumers/{name}`: deletes the cursor. The next client with the name is a new
/// consumer.
pub(super) async fn forget(
    State(context): State<Context>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, ApiError> {
    let Path(name) = name.map_err(|_| ApiError::NoSuchConsumer)?;
    let (consumers, asked) = (context.consumers.clone(), name.clone());
    match on_disk(move || consumers.forget(&asked)).await? {
        Forgotten::Done => {
            tracing::info!(consumer = name, "a consumer was forgotten");
            Ok(Json(json!({ "forgotten": true, "name": name })))
        }
        Forgotten::Unknown => Err(ApiError::NoSuchConsumer),
        Forgotten::Connected => Err(ApiError::ConsumerConnected),
    }
}
