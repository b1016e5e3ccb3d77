//! Filters and sorts `/api/relays` by the parameters of its query string.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use strum::{EnumString, VariantNames};

use crate::api::parameter::{Form, Parameter};
use crate::api::query::{QueryError, parameters};
use crate::relay::{Peer, StateName};

/// The maximum of `[relay] max_connections`.
const RELAYS_MAX: usize = 100_000;

const SORT: Parameter = Parameter {
    name: "sort",
    code: "bad_sort",
    form: Form::Choice(Sort::VARIANTS),
    about: "The order; by default the one in which the relays were added.",
};

const ORDER: Parameter = Parameter {
    name: "order",
    code: "bad_order",
    form: Form::Choice(&["asc", "desc"]),
    about: "The direction; by default `asc`.",
};

const STATE: Parameter = Parameter {
    name: "state",
    code: "bad_state",
    form: Form::Choices(StateName::VARIANTS),
    about: "Only relays in these states.",
};

const HAS: Parameter = Parameter {
    name: "has",
    code: "bad_has",
    form: Form::Choices(Trait::VARIANTS),
    about: "Only relays with all of these.",
};

const SEARCH: Parameter = Parameter {
    name: "search",
    code: "bad_search",
    form: Form::Text,
    about: "Only relays whose URL contains this text of at most 200 characters, in upper or lower case.",
};

/// The maximum length of `search` in characters.
const SEARCH_CHARS_MAX: usize = 200;

const LIMIT: Parameter = Parameter {
    name: "limit",
    code: "bad_limit",
    form: Form::Count { least: 1, most: RELAYS_MAX, default: None },
    about: "The maximum number of relays; by default all.",
};

const OFFSET: Parameter = Parameter {
    name: "offset",
    code: "bad_offset",
    form: Form::Count { least: 0, most: RELAYS_MAX, default: Some(0) },
    about: "How many relays to skip.",
};

/// The parameters of `/api/relays`.
pub(super) const PARAMETERS: &[Parameter] = &[SORT, ORDER, STATE, HAS, SEARCH, LIMIT, OFFSET];

#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "snake_case")]
enum Sort {
    Url,
    State,
    Events,
    FirstSeen,
    FirstShare,
    Copies,
    Frames,
    Bytes,
    Refused,
    Forgeries,
    Offences,
    Reconnects,
    Rtt,
    Uptime,
    Lateness,
    ProvenUntil,
    Gaps,
}

/// A condition that the list of relays can be filtered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "snake_case")]
enum Trait {
    Silent,
    Gaps,
    Offences,
    RateLimited,
}

impl Trait {
    fn is_of(self, peer: &Peer) -> bool {
        match self {
            Self::Silent => peer.is_silent(),
            Self::Gaps => gaps(peer).is_some_and(|gaps| gaps > 0),
            Self::Offences => peer.stats.offences() > 0,
            Self::RateLimited => peer.stats.rate_limited.get() > 0,
        }
    }
}

fn gaps(peer: &Peer) -> Option<u64> {
    peer.coverage().map(|coverage| coverage.gaps().len() as u64)
}

impl Sort {
    /// Returns the value to sort by; `None` if the value is unknown for this relay.
    fn figure(self, peer: &Peer) -> Option<u64> {
        let stats = &peer.stats;
        Some(match self {
            Self::Url => return None,
            Self::State => peer.state_name() as u64,
            Self::Events => stats.events.get(),
            Self::FirstSeen => stats.first.get(),
            Self::FirstShare => {
                let first = stats.first.get();
                first.saturating_mul(1_000_000).checked_div(first.saturating_add(stats.copies.get()))?
            }
            Self::Copies => stats.copies.get(),
            Self::Frames => stats.frames.get(),
            Self::Bytes => stats.bytes.get(),
            Self::Refused => stats.refused_total(),
            Self::Forgeries => stats.forgeries(),
            Self::Offences => stats.offences(),
            Self::Reconnects => stats.connections.get().saturating_sub(1),
            Self::Rtt => micros(peer.rtt()?),
            Self::Uptime => micros(peer.uptime()),
            Self::Lateness => (stats.lateness_ms()? * 1000.0) as u64,
            Self::ProvenUntil => peer.coverage()?.proven_until()?,
            Self::Gaps => gaps(peer)?,
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
    traits: Vec<Trait>,
    /// In lower case.
    search: Option<String>,
    limit: Option<usize>,
    offset: usize,
}

#[derive(Debug)]
pub(super) struct Ranked {
    /// The number of relays before limit and offset are applied.
    pub(super) total: usize,
    /// The number of relays in each state before the filter by state is applied.
    pub(super) states: BTreeMap<&'static str, usize>,
    pub(super) shown: Vec<Arc<Peer>>,
}

impl Ranking {
    /// Parses a query string without the leading `?`.
    ///
    /// # Errors
    /// When a parameter is unknown, repeated or malformed.
    pub(super) fn parse(query: &str) -> Result<Self, QueryError> {
        let mut read = Self::default();
        for (parameter, value) in parameters(query, PARAMETERS)? {
            match parameter.name {
                "sort" => read.sort = Some(sort(&value)?),
                "order" => read.descending = descending(&value)?,
                "state" => read.states = Some(states(&value)?),
                "has" => read.traits = traits(&value)?,
                "search" => read.search = Some(search(&value)?),
                "limit" => read.limit = Some(parameter.count(&value)?),
                _ => read.offset = parameter.count(&value)?,
            }
        }
        Ok(read)
    }

    /// Filters and sorts relays. Equal relays stay in the order in which they were added; relays
    /// with unknown values always come last.
    pub(super) fn of(&self, mut peers: Vec<Arc<Peer>>) -> Ranked {
        let mut states: BTreeMap<&'static str, usize> =
            StateName::VARIANTS.iter().map(|name| (*name, 0)).collect();
        peers.retain(|peer| {
            let sought =
                self.search.as_deref().is_none_or(|text| peer.url.as_str().to_lowercase().contains(text));
            if !sought || !self.traits.iter().all(|one| one.is_of(peer)) {
                return false;
            }
            let name: &'static str = peer.state_name().into();
            states.entry(name).and_modify(|count| *count += 1);
            self.states.as_ref().is_none_or(|wanted| wanted.contains(&name))
        });
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
        Ranked { total, states, shown }
    }
}

fn sort(value: &str) -> Result<Sort, QueryError> {
    value.parse().map_err(|_| SORT.wrong(format_args!("one of {}", Sort::VARIANTS.join(", "))))
}

fn descending(value: &str) -> Result<bool, QueryError> {
    match value {
        "asc" => Ok(false),
        "desc" => Ok(true),
        _ => Err(ORDER.wrong("`asc` or `desc`")),
    }
}

fn states(value: &str) -> Result<Vec<&'static str>, QueryError> {
    let labels = StateName::VARIANTS;
    let state = |value| labels.iter().copied().find(|label| *label == value);
    let states: Option<Vec<&'static str>> = value.split(',').map(state).collect();
    states.ok_or_else(|| STATE.wrong(format_args!("a list of states, of {}", labels.join(", "))))
}

fn traits(value: &str) -> Result<Vec<Trait>, QueryError> {
    let traits: Result<Vec<Trait>, _> = value.split(',').map(str::parse).collect();
    traits.map_err(|_| HAS.wrong(format_args!("a list of {}", Trait::VARIANTS.join(", "))))
}

fn search(value: &str) -> Result<String, QueryError> {
    match value.chars().count() {
        1..=SEARCH_CHARS_MAX => Ok(value.to_lowercase()),
        _ => Err(SEARCH.wrong(format_args!("a text of 1 to {SEARCH_CHARS_MAX} characters"))),
    }
}
