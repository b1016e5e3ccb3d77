//! How one relay treats its clients, according to the builder's rules.

use crate::caps::Cap;
use crate::door::Door;
use crate::endings::{Doubt, Ending};
use crate::information::Information;
use crate::limits::{Limits, RateLimit, Refusal};
use crate::reconciliation::Negentropy;

/// A relay's deterministic behaviour, valid or not. Random behaviour is a [`Fault`](crate::Fault).
#[derive(Debug, Clone, Default)]
pub(crate) struct Policy {
    pub door: Door,
    pub cap: Option<Cap>,
    pub limits: Limits,
    pub negentropy: Negentropy,
    pub information: Information,
    pub refusal: Option<Refusal>,
    pub ending: Option<Ending>,
    pub doubt: Option<Doubt>,
    pub rate_limit: Option<RateLimit>,
    /// Whether a newer published event replaces older ones with the same address.
    pub replaces: bool,
}

/// One rule. A later rule replaces an earlier one of the same kind.
#[derive(Debug, Clone)]
pub(crate) enum Rule {
    Door(Door),
    Cap(Cap),
    Limits(Limits),
    Negentropy(Negentropy),
    Information(Information),
    Refusal(Refusal),
    Ending(Ending),
    Doubt(Doubt),
    RateLimit(RateLimit),
    Replaces,
}

impl Policy {
    /// Applies a rule.
    pub fn follow(&mut self, rule: &Rule) {
        match rule {
            Rule::Door(door) => self.door = *door,
            Rule::Cap(cap) => self.cap = Some(*cap),
            Rule::Limits(limits) => self.limits = limits.clone(),
            Rule::Negentropy(negentropy) => self.negentropy = negentropy.clone(),
            Rule::Information(information) => self.information = information.clone(),
            Rule::Refusal(refusal) => self.refusal = Some(refusal.clone()),
            Rule::Ending(ending) => self.ending = Some(ending.clone()),
            Rule::Doubt(doubt) => self.doubt = Some(doubt.clone()),
            Rule::RateLimit(limit) => self.rate_limit = Some(limit.clone()),
            Rule::Replaces => self.replaces = true,
        }
    }
}
