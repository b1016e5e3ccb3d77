//! How a relay is to be treated: what it said of itself, what it has shown, and what we have learned to
//! leave out. It outlives the connection, and is learned anew after a restart.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::caps::Caps;
use super::pace::Pace;
use crate::limits::{INFORMATION_MS_MAX, LIVE_REFUSALS_MAX};
use crate::relay::information::Information;

/// How a relay is to be treated.
#[derive(Debug, Clone)]
pub struct Capabilities {
    /// How many events it gives in an answer.
    pub caps: Caps,
    /// How fast it is asked.
    pub pace: Pace,
    /// How the live subscription is asked for.
    pub(crate) live: LiveForm,
    /// Whether a live subscription of the relay has lasted.
    live_lasted: bool,
    /// How often in a row the relay has not taken the live request, without calling it invalid.
    live_refusals: u8,
    /// Whether kinds are asked for.
    pub with_kinds: bool,
    /// It has refused a request with several filters.
    one_filter: bool,
    /// Whether it has shown that it takes one subscription only.
    takes_one_subscription: bool,
    /// Whether it has answered with events after it had asked for a key that it did not get.
    has_served_unknown: bool,
    /// Whether it was silent when it was asked to reconcile.
    ignores_reconciliation: bool,
    /// What it said of itself.
    stated: Option<Stated>,
}

/// What a relay said of itself when it was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stated {
    /// What it said; `None` for nothing that can be read.
    pub information: Option<Box<Information>>,
    /// When it was asked, in Unix milliseconds.
    pub asked_at_ms: u64,
}

impl Stated {
    /// Reads a stored row.
    ///
    /// # Errors
    /// When it is none, which is damage.
    pub fn from_row(row: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(row)
    }

    /// The row to store.
    pub fn to_row(&self) -> Vec<u8> {
        // Writing numbers and strings into memory does not fail.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// How a live request asks for no stored events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum LiveForm {
    /// `"limit":0`, which lets live events with any `created_at` through.
    #[default]
    LimitZero,
    /// `"limit":1`, for relays that refuse 0.
    LimitOne,
    /// Only `"since"`, for relays that refuse both. Late events with an earlier `created_at` do not come.
    Since,
}

impl LiveForm {
    /// The form to try after the relay refused this one.
    pub(crate) const fn simpler(self) -> Option<Self> {
        match self {
            Self::LimitZero => Some(Self::LimitOne),
            Self::LimitOne => Some(Self::Since),
            Self::Since => None,
        }
    }
}

/// The form of a request that the relay accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Form {
    /// Into how many filters a long list of kinds may be split.
    pub filters_max: usize,
    /// Whether the request names kinds. If it does not, the relay sends all kinds and admission selects.
    pub with_kinds: bool,
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
    /// Takes up what the relay said of itself.
    pub fn inform(&mut self, stated: Stated) {
        if let Some(information) = &stated.information {
            self.caps.state(information);
        }
        self.stated = Some(stated);
        self.ignores_reconciliation = false; // It may have learned it since.
    }

    /// What the relay said of itself.
    pub fn information(&self) -> Option<&Information> {
        self.stated.as_ref()?.information.as_deref()
    }

    /// Whether the relay should be asked what it is.
    pub fn wants_information(&self, now_ms: u64) -> bool {
        let asked_at_ms = self.stated.as_ref().map(|stated| stated.asked_at_ms);
        // A clock that was ahead when it was asked must not keep us from asking for long.
        asked_at_ms.is_none_or(|asked| now_ms.abs_diff(asked) >= INFORMATION_MS_MAX)
    }

    /// What the relay takes of a request.
    pub(crate) fn form(&self) -> Form {
        let stated = self.information().and_then(|information| information.max_filters);
        let filters_max = stated.filter(|_| !self.one_filter);
        Form { filters_max: filters_max.map_or(1, |max| max.get() as usize), with_kinds: self.with_kinds }
    }

    /// Whether the relay takes one subscription only, so that the past and the present must take turns.
    pub fn has_one_subscription(&self) -> bool {
        self.takes_one_subscription
            || self
                .information()
                .is_some_and(|information| information.max_subscriptions == Some(NonZeroU32::MIN))
    }

    /// Notes that a second subscription was refused because there was a first one.
    pub const fn note_one_subscription(&mut self) {
        self.takes_one_subscription = true;
    }

    /// Whether the relay speaks NIP-77: it says so, and has not ignored it.
    pub fn reconciles(&self) -> bool {
        !self.ignores_reconciliation && self.information().is_some_and(|information| information.negentropy)
    }

    /// Whether the relay sends events to those it does not know, as far as it has shown it.
    /// `has_sent` says whether it has just done so.
    pub const fn serves_the_unknown(&mut self, has_sent: bool) -> bool {
        self.has_served_unknown |= has_sent;
        self.has_served_unknown
    }

    /// Notes that the relay has given no answer to a reconciliation. Waiting for one takes half a
    /// minute, so it is not asked to reconcile until it has been asked again what it is.
    pub const fn note_no_reconciliation(&mut self) {
        self.ignores_reconciliation = true;
    }

    /// Notes that the relay has not taken the live request, or has ended the subscription at once,
    /// and did not call the request invalid. That may pass by itself, or be the relay's way to say
    /// that it does not take such requests. So the next request has another form; after the
    /// simplest, the first again.
    pub fn live_refused(&mut self) {
        self.live_refusals += 1;
        if !self.live_lasted || self.live_refusals >= LIVE_REFUSALS_MAX {
            self.live = self.live.simpler().unwrap_or_default();
            self.live_refusals = 0;
        }
    }

    /// Notes that the live subscription has lasted, so the relay takes such requests.
    pub const fn live_lasted(&mut self) {
        self.live_lasted = true;
        self.live_refusals = 0;
    }

    /// Leaves something out of the live request, of so many filters, that the relay does not take. `false` if
    /// nothing is left.
    pub fn simplify_live(&mut self, filters: usize) -> bool {
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

    /// Leaves something out of requests for the past, likewise.
    pub fn simplify_window(&mut self, filters: usize) -> bool {
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
    fn requests_become_simpler_until_nothing_is_left() {
        let mut capabilities = Capabilities::default();
        let mut forms = Vec::new();
        while capabilities.simplify_live(1) {
            forms.push((capabilities.live, capabilities.with_kinds));
        }
        use LiveForm::*;
        assert_eq!(forms, [(LimitOne, true), (Since, true), (Since, false)]);
        let mut capabilities = Capabilities::default();
        let steps = std::iter::from_fn(|| capabilities.simplify_window(1).then_some(())).count();
        assert_eq!(steps, 7, "limits down to none, then kinds");
    }

    #[test]
    fn a_relay_that_was_asked_by_a_clock_far_ahead_is_asked_again() {
        let mut capabilities = Capabilities::default();
        let now_ms = 100 * INFORMATION_MS_MAX;
        capabilities.inform(Stated { information: None, asked_at_ms: now_ms + INFORMATION_MS_MAX });
        assert!(capabilities.wants_information(now_ms));
    }

    #[test]
    fn no_live_request_is_repeated_without_change_until_one_has_lasted() {
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
    fn silence_about_a_reconciliation_is_remembered_until_the_relay_is_asked_what_it_is() {
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
    fn several_filters_become_one_before_anything_is_left_out() {
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
    fn a_relay_is_asked_once_a_day_even_if_it_says_nothing() {
        let mut capabilities = Capabilities::default();
        assert!(capabilities.wants_information(0));
        capabilities.inform(Stated { information: None, asked_at_ms: 1_000 });
        assert!(!capabilities.wants_information(1_000 + INFORMATION_MS_MAX - 1));
        assert!(capabilities.wants_information(1_000 + INFORMATION_MS_MAX));
        assert_eq!(capabilities.form().filters_max, 1);
    }
}
