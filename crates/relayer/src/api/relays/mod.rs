//! The relays: which there are, how each of them does, and what adds and removes one.

mod ranking;
mod view;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::body::{Body, Expected};
use super::context::Context;
use super::error::ApiError;
use crate::config::RelayUrl;
use crate::relay::{Added, Removed};
use ranking::Ranking;
pub use view::{Connection, Detail};

/// The body of a call that names a relay.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RelayBody {
    url: String,
}

impl Expected for RelayBody {
    const EXPECTED: &'static str = "{\"url\":\"wss://…\"}";
}

/// All relays.
pub(super) fn connections(context: &Context) -> Vec<Connection> {
    context.pool.peers().iter().map(|peer| Connection::from(&**peer)).collect()
}

/// Relays with an open connection.
pub(super) fn active(context: &Context) -> usize {
    context.pool.peers().iter().filter(|peer| peer.state().is_connected()).count()
}

/// `GET /api/relays`: all of them, or those of some states, ranked by what they do.
pub(super) async fn list(
    State(context): State<Context>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ApiError> {
    let ranking = Ranking::parse(&query.unwrap_or_default())?;
    let ranked = ranking.of(context.pool.peers());
    let relays: Vec<Connection> = ranked.shown.iter().map(|peer| Connection::from(&**peer)).collect();
    Ok(Json(json!({ "total": ranked.total, "relays": relays })))
}

/// `GET /api/relays/{url}`: one relay in full.
pub(super) async fn one(
    State(context): State<Context>,
    url: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Json<Detail>, ApiError> {
    let Path(mut url) = url.map_err(|_| ApiError::BadRelayUrl("it is not percent-encoded UTF-8"))?;
    // A URL that was not encoded leaves its query to the request.
    if let Some(query) = query {
        url.push('?');
        url.push_str(&query);
    }
    let url: RelayUrl = url.parse()?;
    let peer = context.pool.find(&url).ok_or(ApiError::NoSuchRelay)?;
    Ok(Json(Detail::from(&*peer)))
}

/// `POST /api/relays/add`: the relay is wanted from now on.
pub(super) async fn add(
    State(context): State<Context>,
    Body(RelayBody { url }): Body<RelayBody>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let url: RelayUrl = url.parse()?;
    let (status, added) = match context.pool.add(url.clone()).await? {
        Added::New => (StatusCode::CREATED, true),
        Added::AlreadyWanted => (StatusCode::OK, false),
    };
    Ok((status, Json(json!({ "url": url.as_str(), "added": added }))))
}

/// `DELETE /api/relays/remove`: the relay is wanted no more.
pub(super) async fn remove(
    State(context): State<Context>,
    Body(RelayBody { url }): Body<RelayBody>,
) -> Result<Json<Value>, ApiError> {
    let url: RelayUrl = url.parse()?;
    let removed = match context.pool.remove(&url).await? {
        Removed::Gone => true,
        Removed::NotWanted => false,
    };
    Ok(Json(json!({ "url": url.as_str(), "removed": removed })))
}
