//! The requests of `top` to the gateway.

use std::collections::BTreeMap;
use std::time::Instant;

use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::form_urlencoded::Serializer;

use crate::limits::{STATUS_ANSWER_BYTES_MAX, TOP_RELAYS_MAX};
use crate::remote::Remote;
use crate::status::{self, Answers};

/// The answers of a gateway at one time. Their texts come from relays and sinks: they are made
/// printable where they are shown.
#[derive(Debug)]
pub(super) struct Sample {
    pub at: Instant,
    pub answers: Answers,
    /// Which relays `relays` has.
    pub asked: RelayQuery,
    pub relays: Relays,
    pub consumers: Vec<Consumer>,
}

/// A part of the list of relays.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Relays {
    /// The number of relays in the states that were asked for.
    pub total: usize,
    pub relays: Vec<Relay>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Relay {
    pub url: String,
    pub status: String,
    pub reason: Option<String>,
    #[serde(default)]
    pub first: u64,
    #[serde(default)]
    pub copies: u64,
    #[serde(default)]
    pub gaps: u64,
    pub late_ms: Option<f64>,
    pub rtt_ms: Option<f64>,
    #[serde(default)]
    pub refused: BTreeMap<String, u64>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Consumer {
    pub name: String,
    pub cursor: u64,
    pub lag: u64,
    pub connected: bool,
}

#[derive(Default, Deserialize)]
struct Consumers {
    consumers: Vec<Consumer>,
}

/// The `sort` parameter for the list of relays; `None` is the order in which they were added.
pub(super) const SORTS: [Option<&str>; 7] =
    [Some("first_seen"), Some("copies"), Some("lateness"), Some("rtt"), Some("refused"), Some("url"), None];

/// Names of groups of relays, with their states as the API calls them.
pub(super) const GROUPS: [(&str, &str); 3] = [
    ("all", ""),
    ("up", "live,backfilling"),
    ("down", "connecting,backing_off,needs_authentication,refused,quarantined,stopped"),
];

/// Which part of the list of relays is asked for.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct RelayQuery {
    /// An index of [`SORTS`].
    pub sort: usize,
    pub ascending: bool,
    /// An index of [`GROUPS`].
    pub group: usize,
    pub offset: usize,
}

impl RelayQuery {
    fn path(self) -> String {
        let start = "/api/relays?";
        let mut query = Serializer::for_suffix(start.to_owned(), start.len());
        query.append_pair("limit", &TOP_RELAYS_MAX.to_string());
        query.append_pair("offset", &self.offset.to_string());
        if let Some(sort) = SORTS.get(self.sort).copied().flatten() {
            query.append_pair("sort", sort);
            query.append_pair("order", if self.ascending { "asc" } else { "desc" });
        }
        if let Some((_, states)) = GROUPS.get(self.group).filter(|(_, states)| !states.is_empty()) {
            query.append_pair("state", states);
        }
        query.finish()
    }
}

impl Sample {
    /// # Errors
    /// Why the gateway does not answer as it should.
    pub async fn ask(gateway: &Remote, query: RelayQuery) -> Result<Self, String> {
        let answers = status::ask(gateway).await?;
        let relays = get(gateway, &query.path()).await?.unwrap_or_default();
        let consumers: Consumers = get(gateway, "/api/consumers").await?.unwrap_or_default();
        let consumers = consumers.consumers;
        Ok(Self { at: Instant::now(), answers, asked: query, relays, consumers })
    }
}

/// Returns the answer; `None` if the gateway does not know the path.
async fn get<T: DeserializeOwned>(gateway: &Remote, path: &str) -> Result<Option<T>, String> {
    let answer = gateway.call(Method::GET, path, STATUS_ANSWER_BYTES_MAX).await?;
    match answer.status {
        StatusCode::NOT_FOUND => Ok(None),
        status if status.is_success() => answer.json().map(Some),
        _ => Err(answer.refusal()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_sorts_and_filters() {
        let path = |sort, ascending, group| RelayQuery { sort, ascending, group, offset: 50 }.path();
        assert_eq!(path(0, false, 0), "/api/relays?limit=200&offset=50&sort=first_seen&order=desc");
        let connected = "/api/relays?limit=200&offset=50&sort=url&order=asc&state=live%2Cbackfilling";
        assert_eq!(path(5, true, 1), connected);
        assert_eq!(path(6, true, 0), "/api/relays?limit=200&offset=50");
    }
}
