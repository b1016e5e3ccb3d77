//! How much of what is stored a relay answers a filter with, and what it says to those who ask for more.

use wire::Filter;

/// What a relay does when more is asked for, or more is there, than its cap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Beyond {
    /// It answers with as many as the cap allows and says nothing about the rest.
    #[default]
    Clamp,
    /// It refuses a filter that has no limit, or one above the cap:
    /// `["CLOSED",id,"invalid: limit must be at most N"]`.
    Refuse,
    /// It refuses a filter that more events match than the cap allows, whatever its limit (but 0):
    /// `["CLOSED",id,"error: too many results"]`.
    TooMany,
}

/// In what order a relay sends stored events, which is also the order in which a cap or a limit cuts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// As NIP-01 has it.
    #[default]
    NewestFirst,
    /// A fault: of a capped answer the oldest events are sent.
    OldestFirst,
    /// A fault: an order that follows from the seed and has nothing to do with time. The same question
    /// gets the same part of a capped answer.
    Unordered,
}

/// How many stored events a relay answers a filter with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cap {
    events: usize,
    beyond: Beyond,
    order: Order,
    default_limit: Option<usize>,
    says_more: bool,
}

impl Cap {
    const fn new(events: usize, beyond: Beyond) -> Self {
        Self { events, beyond, order: Order::NewestFirst, default_limit: None, says_more: false }
    }

    /// A cap that silently cuts answers.
    pub const fn clamping(events: usize) -> Self {
        Self::new(events, Beyond::Clamp)
    }

    /// A cap that refuses filters with a greater limit, or none.
    pub const fn refusing(events: usize) -> Self {
        Self::new(events, Beyond::Refuse)
    }

    /// A cap that refuses filters that more events match.
    pub const fn too_many(events: usize) -> Self {
        Self::new(events, Beyond::TooMany)
    }

    /// What is sent first, and so what a capped answer keeps. Default [`Order::NewestFirst`].
    pub const fn order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    /// The limit of a filter that has none. Default: that of the cap; a refusing relay has no default
    /// and takes no such filters.
    pub const fn default_limit(mut self, events: usize) -> Self {
        self.default_limit = Some(events);
        self
    }

    /// Says `["EOSE",id,["more"]]` when it has more than it sent (NIP-67).
    pub const fn says_more(mut self) -> Self {
        self.says_more = true;
        self
    }

    /// See [`says_more`](Self::says_more).
    pub(crate) const fn hints(&self) -> bool {
        self.says_more
    }

    /// See [`order`](Self::order).
    pub(crate) const fn sends(&self) -> Order {
        self.order
    }

    /// The `max_limit` and `default_limit` that NIP-11 tells.
    pub(crate) const fn told(&self) -> (usize, Option<usize>) {
        (self.events, self.default_limit)
    }
}

/// A filter, and how many stored events answer it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question<'a> {
    pub filter: &'a Filter,
    /// The most events of the answer.
    pub bound: usize,
    /// Whether the bound is the relay's and not the filter's.
    pub capped: bool,
    /// The question is refused if more events than this match.
    pub matching_max: usize,
}

impl<'a> Question<'a> {
    /// Asks for everything that matches, unless that is more than this.
    pub const fn all(filter: &'a Filter, matching_max: usize) -> Self {
        Self { filter, bound: usize::MAX, capped: false, matching_max }
    }

    /// What a relay with this cap makes of a filter.
    ///
    /// # Errors
    /// The reason for which it refuses the filter.
    pub fn new(filter: &'a Filter, cap: Option<&Cap>) -> Result<Self, String> {
        let asked = filter.limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let mut question =
            Self { filter, bound: asked.unwrap_or(usize::MAX), capped: false, matching_max: usize::MAX };
        let Some(cap) = cap else { return Ok(question) };
        let wanted = asked.or(cap.default_limit);
        question.bound = wanted.unwrap_or(usize::MAX);
        match cap.beyond {
            Beyond::Refuse if wanted.is_none_or(|wanted| wanted > cap.events) => {
                return Err(format!("invalid: limit must be at most {}", cap.events));
            }
            Beyond::TooMany if asked != Some(0) => question.matching_max = cap.events,
            Beyond::Clamp => question.bound = question.bound.min(cap.events),
            Beyond::Refuse | Beyond::TooMany => {}
        }
        question.capped = question.bound < asked.unwrap_or(usize::MAX);
        Ok(question)
    }
}
