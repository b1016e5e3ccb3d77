//! Rules of the description: how relays treat their clients.
//!
//! For each relay, a later rule replaces an earlier one of the same kind.

use crate::caps::Cap;
use crate::door::{Certificate, Door};
use crate::endings::{Doubt, Ending};
use crate::faults::Who;
use crate::information::Information;
use crate::limits::{Limits, RateLimit, Refusal};
use crate::policy::Rule;
use crate::reconciliation::Negentropy;
use crate::sim::SimBuilder;

impl SimBuilder {
    fn rule(mut self, who: Who, rule: Rule) -> Self {
        self.rules.push((who, rule));
        self
    }

    /// Caps the stored events in an answer of any relay; short for [`caps`](Self::caps) with all
    /// relays and [`Cap::clamping`]. Default: no bound.
    pub fn cap(self, events: usize) -> Self {
        self.caps(Who::All, Cap::clamping(events))
    }

    /// Makes some relays accept TCP connections and never read from them, so that neither a TLS
    /// handshake nor an upgrade begins. Deaf relays have their own port.
    pub fn deaf(self, who: Who) -> Self {
        self.rule(who, Rule::Door(Door::Deaf))
    }

    /// Gives some relays a certificate that no client should accept, on a separate port. Needs
    /// [`tls`](Self::tls).
    pub fn certificates(self, who: Who, bad: Certificate) -> Self {
        self.rule(who, Rule::Door(Door::Bad(bad)))
    }

    /// Caps the answers of some relays. Their NIP-11 documents state the cap as `max_limit`, unless
    /// [`information`](Self::information) says otherwise.
    pub fn caps(self, who: Who, cap: Cap) -> Self {
        self.rule(who, Rule::Cap(cap))
    }

    /// Limits the subscriptions and filters of some relays.
    pub fn limits(self, who: Who, limits: Limits) -> Self {
        self.rule(who, Rule::Limits(limits))
    }

    /// How some relays support NIP-77. Default: they refuse NEG-OPEN with NEG-ERR.
    pub fn negentropy(self, who: Who, negentropy: Negentropy) -> Self {
        self.rule(who, Rule::Negentropy(negentropy))
    }

    /// What some relays say in NIP-11. Default: the truth.
    pub fn information(self, who: Who, information: Information) -> Self {
        self.rule(who, Rule::Information(information))
    }

    /// Refuses REQs at some relays without examining them. [`Sim::refuse`](crate::Sim::refuse) does
    /// the same at run time.
    pub fn refusals(self, who: Who, refusal: Refusal) -> Self {
        self.rule(who, Rule::Refusal(refusal))
    }

    /// Makes some relays keep only the newest published event of each address (NIP-01: replaceable
    /// and addressable kinds). Default: relays keep all events.
    pub fn replacing(self, who: Who) -> Self {
        self.rule(who, Rule::Replaces)
    }

    /// Ends subscriptions that some relays have accepted.
    pub fn endings(self, who: Who, ending: Ending) -> Self {
        self.rule(who, Rule::Ending(ending))
    }

    /// Makes some relays reject valid answers to their NIP-42 challenges.
    pub fn doubts(self, who: Who, doubt: Doubt) -> Self {
        self.rule(who, Rule::Doubt(doubt))
    }

    /// Limits the rate of requests at some relays.
    pub fn rate_limits(self, who: Who, limit: RateLimit) -> Self {
        self.rule(who, Rule::RateLimit(limit))
    }
}
