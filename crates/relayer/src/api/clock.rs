//! What the operator says of the clock.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::context::Context;

/// `POST /api/clock/confirm`: the clock is right, so what is old by it may be deleted.
pub(super) async fn confirm(State(context): State<Context>) -> Json<Value> {
    Json(json!({ "was_in_doubt": context.log.clock().confirm() }))
}
