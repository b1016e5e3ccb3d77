//! Lists, shows, adds and removes relays.

mod ranking;
mod view;

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::body::{Body, Expected};
use super::context::Context;
use super::description::errors::WRITE;
use super::description::signature::Created;
use super::description::{About, Tag};
use super::error::ApiError;
use super::parameter::{Form, PathParameter};
use crate::config::{InvalidUrl, RelayUrl};
use crate::net::ConnectError;
use crate::relay::{Added, DialError, PoolError, Removed};
use ranking::{PARAMETERS, Ranking};
pub use view::Connection;
pub(crate) use view::Detail;

/// The body of a call that names a relay.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "RelayUrl")]
#[serde(deny_unknown_fields)]
pub(super) struct RelayBody {
    /// `ws://` or `wss://`, and a host.
    #[schemars(regex(pattern = "^[wW][sS]{1,2}://"))]
    url: String,
}

impl Expected for RelayBody {
    const EXPECTED: &'static str = "{\"url\":\"wss://…\"}";
}

pub(super) fn connections(context: &Context) -> Vec<Connection> {
    context.pool.peers().iter().map(|peer| Connection::from(&**peer)).collect()
}

/// The number of relays with an open connection.
pub(super) fn active(context: &Context) -> usize {
    context.pool.peers().iter().filter(|peer| peer.state().is_connected()).count()
}

/// The relays that match.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Relays")]
pub(super) struct List {
    /// How many match, regardless of `limit` and `offset`.
    total: usize,
    /// How many match in each state, regardless of `state`, `limit` and `offset`.
    states: BTreeMap<&'static str, usize>,
    relays: Vec<Connection>,
}

pub(super) const LIST: About = About::new(Tag::Relays, "The relays, in a chosen order").query(PARAMETERS);

/// `GET /api/relays`: lists relays, filtered by state and sorted.
pub(super) async fn list(
    State(context): State<Context>,
    RawQuery(query): RawQuery,
) -> Result<Json<List>, ApiError> {
    let ranking = Ranking::parse(&query.unwrap_or_default())?;
    let ranked = ranking.of(context.pool.peers());
    let relays = ranked.shown.iter().map(|peer| Connection::from(&**peer)).collect();
    Ok(Json(List { total: ranked.total, states: ranked.states, relays }))
}

pub(super) const ONE: About = About::new(Tag::Relays, "All details of one relay")
    .path(&[PathParameter { name: "url", form: Form::Text, about: "The relay's URL, percent-encoded." }])
    .errors(&[&[(StatusCode::BAD_REQUEST, "bad_relay_url"), (StatusCode::NOT_FOUND, "relay_not_found")]]);

/// `GET /api/relays/{url}`: the details of one relay.
pub(super) async fn one(
    State(context): State<Context>,
    url: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Json<Detail>, ApiError> {
    let Path(mut url) = url.map_err(|_| bad_relay_url("it is not percent-encoded UTF-8"))?;
    // If the URL in the path was not encoded, the URL's query arrives as the query of the request.
    if let Some(query) = query {
        url.push('?');
        url.push_str(&query);
    }
    let url: RelayUrl = url.parse()?;
    let peer = context.pool.find(&url).ok_or_else(|| {
        let message =
            "this relay is not in the list; /api/relays shows the list, and POST /api/relays/add adds a relay";
        ApiError::not_found("relay_not_found", message)
    })?;
    Ok(Json(Detail::from(&*peer)))
}

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct AddedRelay {
    /// The normalised URL.
    url: String,
    /// Whether the relay is new.
    added: bool,
}

pub(super) const ADD: About =
    About::new(Tag::Relays, "Adds a relay").details("The change persists across restarts.").errors(&[
        WRITE,
        &[
            (StatusCode::BAD_REQUEST, "bad_relay_url"),
            (StatusCode::BAD_REQUEST, "unresolvable_host"),
            (StatusCode::BAD_REQUEST, "address_not_public"),
            (StatusCode::BAD_REQUEST, "relay_is_this_gateway"),
            (StatusCode::CONFLICT, "pool_full"),
        ],
    ]);

/// `POST /api/relays/add`
pub(super) async fn add(
    State(context): State<Context>,
    Body(RelayBody { url }): Body<RelayBody>,
) -> Result<Created<AddedRelay>, ApiError> {
    let url: RelayUrl = url.parse()?;
    let added = match context.pool.add(url.clone()).await? {
        Added::New => true,
        Added::AlreadyWanted => false,
    };
    Ok(Created { is_new: added, body: AddedRelay { url: url.to_string(), added } })
}

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct RemovedRelay {
    /// The normalised URL.
    url: String,
    /// Whether the relay was in the list.
    removed: bool,
}

pub(super) const REMOVE: About = About::new(Tag::Relays, "Removes a relay")
    .details("The change persists across restarts. Events that the relay delivered stay in the log.")
    .errors(&[WRITE, &[(StatusCode::BAD_REQUEST, "bad_relay_url")]]);

/// `DELETE /api/relays/remove`
pub(super) async fn remove(
    State(context): State<Context>,
    Body(RelayBody { url }): Body<RelayBody>,
) -> Result<Json<RemovedRelay>, ApiError> {
    let url: RelayUrl = url.parse()?;
    let removed = match context.pool.remove(&url).await? {
        Removed::Gone => true,
        Removed::NotWanted => false,
    };
    Ok(Json(RemovedRelay { url: url.to_string(), removed }))
}

fn bad_relay_url(why: &str) -> ApiError {
    let message = format!("`url` must be a relay's URL (ws:// or wss://, and a host): {why}");
    ApiError::bad_request("bad_relay_url", message)
}

impl From<InvalidUrl> for ApiError {
    fn from(error: InvalidUrl) -> Self {
        bad_relay_url(error.reason())
    }
}

impl From<PoolError> for ApiError {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Full { max } => Self::new(
                StatusCode::CONFLICT,
                "pool_full",
                format!(
                    "{max} relays are wanted, and [relay] max_connections allows no more; remove one or raise it"
                ),
            ),
            PoolError::Dial(error) => {
                let code = match error {
                    DialError::Connect(ConnectError::NotPublic { .. }) => "address_not_public",
                    DialError::Ourselves => "relay_is_this_gateway",
                    _ => "unresolvable_host",
                };
                Self::bad_request(code, error.to_string())
            }
            PoolError::Storage(error) => error.into(),
            PoolError::Stopping => Self::stopping(),
        }
    }
}
