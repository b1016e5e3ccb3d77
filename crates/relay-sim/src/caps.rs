//! How many stored events a relay returns for a filter, and how it responds to requests for more.

use wire::Filter;

/// What a relay does when a filter requests or matches more events than the cap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Beyond {
    /// Returns as many events as the cap permits, and says nothing about the rest.
    #[default]
    Clamp,
    /// Refuses a filter without a limit or with one above the cap: `["CLOSED",id,"invalid: limit
    /// must be at most N"]`.
    Refuse,
    /// Refuses a filter that matches more events than the cap, whatever the filter's limit (except
    /// 0): `["CLOSED",id,"error: too many results"]`.
    TooMany,
}

/// The order in which a relay sends stored events. A cap or a limit cuts off the last ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// As NIP-01 specifies.
    #[default]
    NewestFirst,
    /// A fault: a capped answer contains the oldest events.
    OldestFirst,
    /// A fault: the order depends on the seed and not on time. Under a cap, a repeated request
    /// returns the same events.
    Unordered,
}

/// The limit on how many stored events a relay returns for a filter.
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

    /// A cap that silently truncates answers.
    pub const fn clamping(events: usize) -> Self {
        Self::new(events, Beyond::Clamp)
    }

    /// A cap that refuses filters without a limit or with one above the cap.
    pub const fn refusing(events: usize) -> Self {
        Self::new(events, Beyond::Refuse)
    }

    /// A cap that refuses filters that match more events than the cap.
    pub const fn too_many(events: usize) -> Self {
        Self::new(events, Beyond::TooMany)
    }

    /// Sets the order of the events; a capped answer contains only the first. Default
    /// [`Order::NewestFirst`].
    pub const fn order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    /// The limit applied to filters without one. Default: the cap. A refusing relay has no default
    /// and refuses filters without a limit.
    pub const fn default_limit(mut self, events: usize) -> Self {
        self.default_limit = Some(events);
        self
    }

    /// Sends `["EOSE",id,["more"]]` if the relay has more events than it sent (NIP-67).
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

    /// The `max_limit` and `default_limit` in the relay's NIP-11 document.
    pub(crate) const fn told(&self) -> (usize, Option<usize>) {
        (self.events, self.default_limit)
    }
}

/// A filter and the bounds of its answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question<'a> {
    pub filter: &'a Filter,
    /// The maximum number of events in the answer.
    pub bound: usize,
    /// Whether the bound comes from the relay's cap and not from the filter's limit.
    pub capped: bool,
    /// The number of matching events above which the request is refused.
    pub matching_max: usize,
}

impl<'a> Question<'a> {
    /// Requests all matching events, unless there are more than `matching_max`.
    pub const fn all(filter: &'a Filter, matching_max: usize) -> Self {
        Self { filter, bound: usize::MAX, capped: false, matching_max }
    }

    /// Applies a relay's cap to a filter.
    ///
    /// # Errors
    /// The reason why the relay refuses the filter.
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
