//! The gateway at a glance, for the live page and other tools.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};

use super::context::Context;
use super::description::errors::SESSION;
use super::description::signature::Written;
use super::description::{About, Tag};
use super::error::ApiError;
use super::event_stream::HEADERS;
use super::reading::session;
use super::serve::Peer;
use crate::overview::{Columns, Overview};
use crate::serve::{EventBody, Grant, Refused};

pub(super) const OVERVIEW: About = About::new(Tag::State, "The gateway at a glance, with warnings in words")
    .details("It is computed at most once a second.");

/// `GET /api/overview`
pub(super) async fn overview(State(context): State<Context>) -> Written<Overview> {
    Written::new(context.overview().overview().to_string())
}

pub(super) const HISTORY: About = About::new(Tag::State, "Figures of the last hour, in columns")
    .details("They are kept in memory and begin at the start of the gateway.");

/// `GET /api/overview/history`
pub(super) async fn history(State(context): State<Context>) -> Json<Columns> {
    Json(context.overview().history())
}

pub(super) const STREAM: About = About::new(Tag::State, "Streams the overview as Server-Sent Events")
    .details(
        "`overview` has the answer of `GET /api/overview`, now and every two seconds; `point` has a new point of the \
         history. `docs/API.md` explains how the stream ends.",
    )
    .content(&["text/event-stream"])
    .errors(&[SESSION, &[(StatusCode::SERVICE_UNAVAILABLE, "too_many_listeners")]]);

/// `GET /api/overview/stream`
pub(super) async fn stream(
    State(context): State<Context>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Extension(grant): Extension<Grant>,
) -> Result<Response, ApiError> {
    let session = session(&context, &grant, &peer, "/api/overview/stream")?;
    let listener = context.listeners.enter(peer.address).map_err(|refused| match refused {
        Refused::Stopping => ApiError::stopping(),
        Refused::TooMany(max) | Refused::TooManyFromAddress(max) => ApiError::unavailable(
            "too_many_listeners",
            format!(
                "{max} listeners follow the overview, as many as may; close some pages, or try again later"
            ),
        ),
    })?;
    let recorder = Arc::clone(context.overview());
    // The connection keeps its slot, and ends if the client reads nothing for a while.
    let body = EventBody::new(peer.taken, |stream| recorder.stream(stream, listener, session));
    Ok((HEADERS, Body::new(body)).into_response())
}
