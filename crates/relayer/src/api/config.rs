//! Reading the configuration again.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::context::Context;
use super::error::ApiError;
use crate::config::{ConfigErrors, Place, Problem};
use crate::control::ReloadError;
use crate::limits::PROBLEMS_SHOWN_MAX;

impl From<ReloadError> for ApiError {
    fn from(error: ReloadError) -> Self {
        let errors = match error {
            ReloadError::Config(errors) => errors,
            ReloadError::Pool(error) => return error.into(),
        };
        let count = errors.problems().len();
        let first = errors.problems().first().map(ToString::to_string).unwrap_or_default();
        let message = format!(
            "the configuration is wrong, and the old one stays in effect; mend it and reload ({count} in all; the \
             first: {first})"
        );
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "bad_config", message).with("problems", problems(&errors))
    }
}

/// `POST /api/config/reload`: reads file and environment again, and applies what differs.
pub(super) async fn reload(State(context): State<Context>) -> Result<Json<Value>, ApiError> {
    let reloaded = context.control().reload().await?;
    Ok(Json(json!({
        "relays_added": reloaded.relays_added,
        "relays_removed": reloaded.relays_removed,
        "filters_changed": reloaded.filters_changed,
        "needs_restart": reloaded.needs_restart,
    })))
}

/// The problems of a configuration, for programs.
fn problems(errors: &ConfigErrors) -> Vec<Value> {
    errors.problems().iter().take(PROBLEMS_SHOWN_MAX).map(problem).collect()
}

fn problem(problem: &Problem) -> Value {
    let mut told = json!({ "key": problem.key, "message": problem.what });
    let place = match &problem.place {
        Place::Default => json!({}),
        Place::File { path, line: 0, .. } => json!({ "file": path.display().to_string() }),
        Place::File { path, line, column } => {
            json!({ "file": path.display().to_string(), "line": line, "column": column })
        }
        Place::Environment(name) => json!({ "variable": name }),
    };
    if let (Value::Object(told), Value::Object(place)) = (&mut told, place) {
        told.extend(place);
    }
    told
}
