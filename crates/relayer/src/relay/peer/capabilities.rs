//! What a relay supports and limits, according to its NIP-11 document, its behaviour, and the
//! request features that it refused. Capabilities outlive the connection; after a restart, only the
//! document is known.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::caps::Caps;
use super::pace::Pace;
use crate::limits::{INFORMATION_MS_MAX, LIVE_REFUSALS_MAX};
use crate::relay::information::Information;

/// What a relay supports and limits.
#[derive(Debug, Clone)]
pub struct Capabilities {
    /// How many events one answer may have.
    pub caps: Caps,
    /// How fast requests are sent.
    pub pace: Pace,
    /// The form of the live request.
    pub(crate) live: LiveForm,
    /// Whether a live subscription has ever lasted, in any form.
    live_lasted: bool,
    /// How often in a row the relay refused the live request without calling it invalid.
    live_refusals: u8,
    /// Whether requests name kinds.
    pub(crate) with_kinds: bool,
    /// Whether the relay refused a request with several filters.
    one_filter: bool,
    /// Whether the relay has shown that it allows only one subscription.
    takes_one_subscription: bool,
    /// Whether the relay has sent events without the authentication that it demanded.
    has_served_unknown: bool,
    /// Whether the relay did not answer a NIP-77 request.
    ignores_reconciliation: bool,
    stated: Option<Stated>,
}

/// A relay's NIP-11 document, as fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stated {
    /// `None` if the document could not be read.
    pub information: Option<Box<Information>>,
    /// When the document was fetched, in Unix milliseconds.
    pub(crate) asked_at_ms: u64,
}

impl Stated {
    /// Parses a stored row.
    ///
    /// # Errors
    /// If the row is damaged.
    pub fn from_row(row: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(row)
    }

    /// The row to store.
    pub fn to_row(&self) -> Vec<u8> {
        // Serialising numbers and strings into memory cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// How a live request excludes stored events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum LiveForm {
    /// `"limit":0`, which lets live events with any `created_at` through.
    #[default]
    LimitZero,
    /// `"limit":1`, for relays that refuse 0.
    LimitOne,
    /// Only `"since"`, for relays that refuse both limits. Such a relay does not send late events
    /// with an earlier `created_at`.
    Since,
}

impl LiveForm {
    /// The form to try after the relay refused this form.
    pub(crate) const fn simpler(self) -> Option<Self> {
        match self {
            Self::LimitZero => Some(Self::LimitOne),
            Self::LimitOne => Some(Self::Since),
            Self::Since => None,
        }
    }
}

/// The form in which a relay accepts requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Form {
    /// The maximum number of filters that a long list of kinds may be split into.
    pub(crate) filters_max: usize,
    /// Whether the request names kinds. Otherwise, the relay sends all kinds, and admission selects
    /// among them.
    pub(crate) with_kinds: bool,
}

impl Default for Capabilities {
    fn default() -> Self {
        Self {
            caps: Caps::default(),
            pace: Pace::default(),
            live: LiveForm::default(),
            live_lasted: false,
            live_refusals: 0,
            with_kinds: true,
            one_filter: false,
            takes_one_subscription: false,
            has_served_unknown: false,
            ignores_reconciliation: false,
            stated: None,
        }
    }
}

impl Capabilities {
    /// Applies a NIP-11 document.
    pub(crate) fn inform(&mut self, stated: Stated) {
        if let Some(information) = &stated.information {
            self.caps.state(information);
        }
        self.stated = Some(stated);
        self.ignores_reconciliation = false; // The relay may have been upgraded.
    }

    /// The NIP-11 document, if there is one.
    pub fn information(&self) -> Option<&Information> {
        self.stated.as_ref()?.information.as_deref()
    }

    /// Whether it is time to fetch the NIP-11 document.
    pub(crate) fn wants_information(&self, now_ms: u64) -> bool {
        let asked_at_ms = self.stated.as_ref().map(|stated| stated.asked_at_ms);
        // The absolute difference, because the clock may have been ahead at the last fetch.
        asked_at_ms.is_none_or(|asked| now_ms.abs_diff(asked) >= INFORMATION_MS_MAX)
    }

    /// The form in which the relay accepts requests.
    pub(crate) fn form(&self) -> Form {
        let stated = self.information().and_then(|information| information.max_filters);
        let filters_max = stated.filter(|_| !self.one_filter);
        Form { filters_max: filters_max.map_or(1, |max| max.get() as usize), with_kinds: self.with_kinds }
    }

    /// Whether the relay allows only one subscription, so that backfill and live subscription take
    /// turns.
    pub(crate) fn has_one_subscription(&self) -> bool {
        self.takes_one_subscription
            || self
                .information()
                .is_some_and(|information| information.max_subscriptions == Some(NonZeroU32::MIN))
    }

    /// Records that the relay refused a second subscription.
    pub(crate) const fn note_one_subscription(&mut self) {
        self.takes_one_subscription = true;
    }

    /// Whether to use NIP-77: the relay lists it and has not ignored it.
    pub(crate) fn reconciles(&self) -> bool {
        !self.ignores_reconciliation && self.information().is_some_and(|information| information.negentropy)
    }

    /// Whether the relay has ever sent events to us without authentication. `has_sent` says whether
    /// it just did.
    pub(crate) const fn serves_the_unknown(&mut self, has_sent: bool) -> bool {
        self.has_served_unknown |= has_sent;
        self.has_served_unknown
    }

    /// Records that the relay did not answer a NIP-77 request. Waiting for an answer takes half a
    /// minute, so NIP-77 is not used again until the NIP-11 document is fetched again.
    pub(crate) const fn note_no_reconciliation(&mut self) {
        self.ignores_reconciliation = true;
    }

    /// Records that the relay refused the live request, or closed the subscription at once, without
    /// calling the request invalid. The cause may be temporary, or the form of the request. The
    /// form changes at once if no live subscription has lasted, otherwise after
    /// [`LIVE_REFUSALS_MAX`] refusals in a row. The simplest form is followed by the first form.
    pub(crate) fn live_refused(&mut self) {
        self.live_refusals += 1;
        if !self.live_lasted || self.live_refusals >= LIVE_REFUSALS_MAX {
            self.live = self.live.simpler().unwrap_or_default();
            self.live_refusals = 0;
        }
    }

    /// Records that the live subscription has lasted, so the relay accepts its form.
    pub(crate) const fn live_lasted(&mut self) {
        self.live_lasted = true;
        self.live_refusals = 0;
    }

    /// Simplifies the live request, which has `filters` filters; `false` if it cannot get simpler.
    pub(crate) fn simplify_live(&mut self, filters: usize) -> bool {
        if filters > 1 {
            self.one_filter = true;
            return true;
        }
        if let Some(simpler) = self.live.simpler() {
            self.live = simpler;
            return true;
        }
        std::mem::take(&mut self.with_kinds)
    }

    /// Simplifies backfill requests, which have `filters` filters; `false` if they cannot get
    /// simpler.
    pub(crate) fn simplify_window(&mut self, filters: usize) -> bool {
        if filters > 1 {
            self.one_filter = true;
            return true;
        }
        self.caps.refuse_limit() || std::mem::take(&mut self.with_kinds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_become_simpler_up_to_a_point() {
        let mut capabilities = Capabilities::default();
        let mut forms = Vec::new();
        while capabilities.simplify_live(1) {
            forms.push((capabilities.live, capabilities.with_kinds));
        }
        use LiveForm::*;
        assert_eq!(forms, [(LimitOne, true), (Since, true), (Since, false)]);
        let mut capabilities = Capabilities::default();
        let steps = std::iter::from_fn(|| capabilities.simplify_window(1).then_some(())).count();
        assert_eq!(steps, 7, "smaller limits, no limit, no kinds");
    }

    #[test]
    fn a_document_that_was_fetched_by_a_clock_far_ahead_is_fetched_again() {
        let mut capabilities = Capabilities::default();
        let now_ms = 100 * INFORMATION_MS_MAX;
        capabilities.inform(Stated { information: None, asked_at_ms: now_ms + INFORMATION_MS_MAX });
        assert!(capabilities.wants_information(now_ms));
    }

    #[test]
    fn a_refused_live_request_changes_its_form_until_one_has_lasted() {
        use LiveForm::*;
        let refuse = |capabilities: &mut Capabilities| {
            capabilities.live_refused();
            capabilities.live
        };
        let mut capabilities = Capabilities::default();
        assert_eq!([(); 4].map(|()| refuse(&mut capabilities)), [LimitOne, Since, LimitZero, LimitOne]);
        capabilities.live_lasted();
        assert_eq!([(); 3].map(|()| refuse(&mut capabilities)), [LimitOne, LimitOne, Since]);
        assert!(capabilities.with_kinds);
    }

    #[test]
    fn an_ignored_reconciliation_is_remembered_until_the_next_document() {
        let stated = || {
            let information = Some(Box::new(Information { negentropy: true, ..Information::default() }));
            Stated { information, asked_at_ms: 0 }
        };
        let mut capabilities = Capabilities::default();
        capabilities.inform(stated());
        assert!(capabilities.reconciles());
        capabilities.note_no_reconciliation();
        assert!(!capabilities.reconciles());
        capabilities.inform(stated());
        assert!(capabilities.reconciles());
    }

    #[test]
    fn several_filters_become_one_before_anything_else_is_simplified() {
        let max_filters = NonZeroU32::new(10);
        let information = Some(Box::new(Information { max_filters, ..Information::default() }));
        let mut capabilities = Capabilities::default();
        capabilities.inform(Stated { information, asked_at_ms: 0 });
        assert_eq!(capabilities.form().filters_max, 10);
        assert!(capabilities.simplify_live(3));
        assert_eq!((capabilities.form().filters_max, capabilities.live), (1, LiveForm::LimitZero));
        assert!(capabilities.simplify_window(3));
        assert_eq!(capabilities.caps.limit(), Caps::default().limit());
    }

    #[test]
    fn the_document_is_fetched_once_a_day_even_if_there_is_none() {
        let mut capabilities = Capabilities::default();
        assert!(capabilities.wants_information(0));
        capabilities.inform(Stated { information: None, asked_at_ms: 1_000 });
        assert!(!capabilities.wants_information(1_000 + INFORMATION_MS_MAX - 1));
        assert!(capabilities.wants_information(1_000 + INFORMATION_MS_MAX));
        assert_eq!(capabilities.form().filters_max, 1);
    }
}
