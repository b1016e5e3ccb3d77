//! Lists the ids that were refused lately.

use axum::Json;
use axum::extract::{RawQuery, State};
use schemars::JsonSchema;
use serde::Serialize;

use super::context::Context;
use super::description::{About, Tag};
use super::error::ApiError;
use super::parameter::{Form, Parameter};
use super::query::{LIMIT, QueryError, parameters};
use crate::config::RelayUrl;
use crate::ingest::refusals::Extent;
use crate::ingest::{DropReason, Refusal};

const RELAY: Parameter = Parameter {
    name: "relay",
    code: "bad_relay",
    form: Form::Text,
    about: "Only copies from the relay with this URL.",
};

const REASON: Parameter = Parameter {
    name: "reason",
    code: "bad_reason",
    form: Form::Choice(DropReason::LABELS),
    about: "Only refusals for this reason.",
};

const PARAMETERS: &[Parameter] = &[RELAY, REASON, LIMIT];

/// The ids that were refused lately, the last one first.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Refusals")]
pub(super) struct List {
    refusals: Vec<ShownRefusal>,
    /// When the record began, in Unix milliseconds: at the start of the gateway.
    since: u64,
    /// The record has every id that was refused after this time, in Unix milliseconds, for the
    /// requested reason.
    complete_since: u64,
    /// How many ids were forgotten to make room, for the requested reason.
    forgotten: u64,
}

/// The copies with one id that were refused for one reason. They need not be genuine.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Refusal")]
pub(super) struct ShownRefusal {
    id: String,
    /// The reason, as in `events_dropped_total`.
    reason: &'static str,
    /// What the reason means.
    why: &'static str,
    /// The relays that sent the copies, at most 8, the first one first.
    relays: Vec<String>,
    /// The number of copies.
    times: u64,
    /// Unix milliseconds.
    first_at: u64,
    /// Unix milliseconds.
    last_at: u64,
}

impl From<Refusal> for ShownRefusal {
    fn from(refusal: Refusal) -> Self {
        let Refusal { id, reason, relays, times, first_ms, last_ms } = refusal;
        Self {
            id: id.to_string(),
            reason: reason.label(),
            why: reason.meaning(),
            relays: relays.iter().map(ToString::to_string).collect(),
            times,
            first_at: first_ms,
            last_at: last_ms,
        }
    }
}

pub(super) const LIST: About =
    About::new(Tag::Events, "The ids that were refused lately, the last one first")
        .details("The record is in memory and bounded: see `complete_since`.")
        .query(PARAMETERS);

/// `GET /api/refusals`
pub(super) async fn list(
    State(context): State<Context>,
    RawQuery(query): RawQuery,
) -> Result<Json<List>, ApiError> {
    let Wanted { relay, reason, limit } = Wanted::parse(&query.unwrap_or_default())?;
    // The extent is read first: an id that is forgotten afterwards may still be in the list.
    let Extent { complete_since_ms, forgotten } = context.refusals.extent(reason);
    let refusals = context.refusals.recent(relay.as_ref().map(RelayUrl::as_str), reason, limit);
    Ok(Json(List {
        refusals: refusals.into_iter().map(ShownRefusal::from).collect(),
        since: context.refusals.since_ms(),
        complete_since: complete_since_ms,
        forgotten,
    }))
}

/// The requested refusals.
struct Wanted {
    relay: Option<RelayUrl>,
    reason: Option<DropReason>,
    limit: usize,
}

impl Wanted {
    fn parse(query: &str) -> Result<Self, QueryError> {
        let mut wanted = Self { relay: None, reason: None, limit: LIMIT.default_count() };
        for (parameter, value) in parameters(query, PARAMETERS)? {
            match parameter.name {
                "relay" => wanted.relay = Some(relay(&value)?),
                "reason" => wanted.reason = Some(reason(&value)?),
                _ => wanted.limit = parameter.count(&value)?,
            }
        }
        Ok(wanted)
    }
}

fn relay(value: &str) -> Result<RelayUrl, QueryError> {
    value.parse().map_err(|_| RELAY.wrong("a relay's URL (ws:// or wss://, and a host)"))
}

fn reason(value: &str) -> Result<DropReason, QueryError> {
    let found = DropReason::ALL.iter().copied().find(|reason| reason.label() == value);
    found.ok_or_else(|| REASON.wrong(format_args!("one of {}", DropReason::LABELS.join(", "))))
}
