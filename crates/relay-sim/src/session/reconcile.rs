//! NIP-77 on one connection.

use wire::{Filter, RelayMessage};

use super::Session;
use crate::caps::Question;
use crate::limits::{Refused, Saying};
use crate::reconciliation::{Negentropy, Reconciliation};
use crate::relay::Relay;
use crate::stats::Count;

impl Session {
    /// Handles a NEG-OPEN, which replaces a reconciliation of the same id.
    pub(super) fn open_reconciliation(&mut self, relay: &Relay, id: String, filter: &Filter, message: &str) {
        self.end_reconciliation(&id);
        match self.reconciliation(relay, filter) {
            Ok(Some(reconciliation)) => {
                self.reconciliations.push((id.clone(), reconciliation));
                self.reconcile(&id, message);
            }
            Ok(None) => {}
            Err(Refused { reason, saying: Saying::Notice }) => {
                self.say(&RelayMessage::Notice(reason.into()), Count::Notices);
            }
            Err(Refused { reason, saying: Saying::Closed }) => self.end(&id, reason),
        }
    }

    /// Begins a reconciliation over stored events; `None` if the relay does not respond.
    fn reconciliation(&mut self, relay: &Relay, filter: &Filter) -> Result<Option<Reconciliation>, Refused> {
        match relay.policy.negentropy {
            Negentropy::Absent => return Err(Refused::closed("closed: this relay has no NIP-77")),
            Negentropy::Unknown => {
                let reason = "error: unknown message type NEG-OPEN".to_owned();
                return Err(Refused { reason, saying: Saying::Notice });
            }
            _ => self.admit(relay)?,
        }
        let settings = match &relay.policy.negentropy {
            Negentropy::Served(settings) => settings,
            Negentropy::Refused(reason) => return self.turn_away(Refused::closed(reason)),
            _ => return Ok(None),
        };
        if !relay.policy.limits.allows_another(self.reconciliations.len()) {
            return self.turn_away(Refused::closed("closed: too many concurrent reconciliations"));
        }
        let question = Question::all(filter, settings.records_max);
        let answer = relay.answer(&self.world, &[question], relay.has(&self.world));
        if answer.too_many {
            return self.turn_away(Refused::closed("blocked: this query is too big"));
        }
        let items = answer.held.iter().filter_map(|held| self.world.held(held));
        let reconciliation = Reconciliation::new(settings, items.map(|item| &item.claims));
        reconciliation.map(Some).map_err(|error| Refused::closed(format!("error: {error}")))
    }

    /// Answers a message of a reconciliation.
    pub(super) fn reconcile(&mut self, id: &str, message: &str) {
        let open = self.reconciliations.iter_mut().find(|(open, _)| open == id);
        let Some((_, reconciliation)) = open else {
            return self.end(id, "closed: unknown reconciliation".to_owned());
        };
        match reconciliation.answer(message) {
            Ok(message) => {
                let message = RelayMessage::NegMsg { subscription: id.into(), message: message.into() };
                self.say(&message, Count::NegAnswers);
            }
            Err(reason) => self.end(id, reason),
        }
    }

    /// Ends a reconciliation by NEG-ERR with this reason.
    fn end(&mut self, id: &str, reason: String) {
        self.end_reconciliation(id);
        let message = RelayMessage::NegErr { subscription: id.into(), reason: reason.into() };
        self.say(&message, Count::NegErrors);
    }

    /// Ends a reconciliation at the client's NEG-CLOSE.
    pub(super) fn end_reconciliation(&mut self, id: &str) {
        self.reconciliations.retain(|(open, _)| open != id);
    }
}
