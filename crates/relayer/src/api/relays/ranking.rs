//! Filters and sorts `/api/relays` by the parameters of its query string.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use strum::VariantNames;

use crate::api::query::{QueryError, count, parameters};
use crate::relay::{Peer, StateName};

/// The parameters of `/api/relays`.
const PARAMETERS: &[&str] = &["sort", "order", "state", "limit", "offset"];

/// The maximum of `[relay] max_connections`.
const RELAYS_MAX: usize = 100_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Url,
    FirstSeen,
    Copies,
    Frames,
    Bytes,
    Refused,
    Forgeries,
    Reconnects,
    Rtt,
    Uptime,
    Lateness,
}

impl Sort {
    const NAMES: [(&str, Self); 11] = [
        ("url", Self::Url),
        ("first_seen", Self::FirstSeen),
        ("copies", Self::Copies),
        ("frames", Self::Frames),
        ("bytes", Self::Bytes),
        ("refused", Self::Refused),
        ("forgeries", Self::Forgeries),
        ("reconnects", Self::Reconnects),
        ("rtt", Self::Rtt),
        ("uptime", Self::Uptime),
        ("lateness", Self::Lateness),
    ];

    fn parse(value: &str) -> Result<Self, QueryError> {
        let named = Self::NAMES.iter().find(|(name, _)| *name == value);
        let expected = || format!("one of {}", Self::NAMES.map(|(name, _)| name).join(", "));
        named.map(|(_, sort)| *sort).ok_or_else(|| QueryError::value("sort", "bad_sort", expected()))
    }

    /// Returns the value to sort by; `None` if the value is unknown for this relay.
    fn figure(self, peer: &Peer) -> Option<u64> {
        let stats = &peer.stats;
        Some(match self {
            Self::Url => return None,
            Self::FirstSeen => stats.first.get(),
            Self::Copies => stats.copies.get(),
            Self::Frames => stats.frames.get(),
            Self::Bytes => stats.bytes.get(),
            Self::Refused => stats.refused_total(),
            Self::Forgeries => stats.forgeries(),
            Self::Reconnects => stats.connections.get().saturating_sub(1),
            Self::Rtt => micros(peer.rtt()?),
            Self::Uptime => micros(peer.uptime()),
            Self::Lateness => (stats.lateness_ms()? * 1000.0) as u64,
        })
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ranking {
    /// `None` keeps the order in which the relays were added.
    sort: Option<Sort>,
    descending: bool,
    /// `None` means all states.
    states: Option<Vec<&'static str>>,
    limit: Option<usize>,
    offset: usize,
}

#[derive(Debug)]
pub(super) struct Ranked {
    /// The number of relays before limit and offset are applied.
    pub(super) total: usize,
    pub(super) shown: Vec<Arc<Peer>>,
}

impl Ranking {
    /// Parses a query string without the leading `?`.
    ///
    /// # Errors
    /// When a parameter is unknown, repeated or malformed.
    pub(super) fn parse(query: &str) -> Result<Self, QueryError> {
        let mut read = Self::default();
        for (name, value) in parameters(query, PARAMETERS)? {
            match name {
                "sort" => read.sort = Some(Sort::parse(&value)?),
                "order" => read.descending = descending(&value)?,
                "state" => read.states = Some(states(&value)?),
                "limit" => read.limit = Some(count("limit", "bad_limit", &value, 1..=RELAYS_MAX)?),
                _ => read.offset = count("offset", "bad_offset", &value, 0..=RELAYS_MAX)?,
            }
        }
        Ok(read)
    }

    /// Filters and sorts relays. Equal relays stay in the order in which they were added; relays
    /// with unknown values always come last.
    pub(super) fn of(&self, mut peers: Vec<Arc<Peer>>) -> Ranked {
        if let Some(states) = &self.states {
            peers.retain(|peer| states.contains(&peer.state().label()));
        }
        let total = peers.len();
        let turned = |order: Ordering| if self.descending { order.reverse() } else { order };
        let mut shown = match self.sort {
            None => {
                if self.descending {
                    peers.reverse();
                }
                peers
            }
            Some(Sort::Url) => {
                peers.sort_by(|one, other| turned(one.url.cmp(&other.url)));
                peers
            }
            Some(sort) => {
                // Each value is read once, because values may change while we sort.
                let mut figures: Vec<(Option<u64>, Arc<Peer>)> =
                    peers.into_iter().map(|peer| (sort.figure(&peer), peer)).collect();
                figures.sort_by(|(one, _), (other, _)| match (one, other) {
                    (Some(one), Some(other)) => turned(one.cmp(other)),
                    (one, other) => one.is_none().cmp(&other.is_none()),
                });
                figures.into_iter().map(|(_, peer)| peer).collect()
            }
        };
        shown.drain(..self.offset.min(shown.len()));
        shown.truncate(self.limit.unwrap_or(usize::MAX));
        Ranked { total, shown }
    }
}

fn descending(value: &str) -> Result<bool, QueryError> {
    match value {
        "asc" => Ok(false),
        "desc" => Ok(true),
        _ => Err(QueryError::value("order", "bad_order", "`asc` or `desc`")),
    }
}

fn states(value: &str) -> Result<Vec<&'static str>, QueryError> {
    let labels = StateName::VARIANTS;
    let state = |value| labels.iter().copied().find(|label| *label == value);
    let states: Option<Vec<&'static str>> = value.split(',').map(state).collect();
    let expected = || format!("a list of states, of {}", labels.join(", "));
    states.ok_or_else(|| QueryError::value("state", "bad_state", expected()))
}
