//! The filters that we send to relays: live events, windows of stored events, and single events by
//! id.

use std::time::Duration;

use wire::{ClaimedId, ClientMessage, Filter};

use super::answer::Window;
use crate::config::Config;
use crate::limits::KINDS_A_FILTER_MAX;
use crate::relay::peer::{Form, LiveForm};

/// The id of the live subscription, short because every frame repeats it.
pub const LIVE: &str = "r";

/// The events that the configuration requests from every relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subscription {
    /// The kinds, ascending; empty for all kinds.
    kinds: Vec<u16>,
    backfill: Option<Duration>,
    overlap: Duration,
}

impl Subscription {
    pub fn new(config: &Config) -> Self {
        Self {
            kinds: config.filters.allowed_kinds.iter().copied().collect(),
            backfill: config.relay.backfill,
            overlap: config.relay.overlap,
        }
    }

    /// The kinds, ascending; empty for all kinds.
    pub fn kinds(&self) -> impl Iterator<Item = u16> {
        self.kinds.iter().copied()
    }

    /// The first second to request at first contact: the second after `now` if only live events are
    /// wanted.
    pub(crate) fn first_contact_since(&self, now: u64) -> u64 {
        match self.backfill {
            None => now.saturating_add(1),
            Some(EVERYTHING) => 0,
            Some(backfill) => now.saturating_sub(backfill.as_secs()),
        }
    }

    /// How many seconds before the end of the coverage are requested again, for late events.
    pub const fn overlap_secs(&self) -> u64 {
        self.overlap.as_secs()
    }

    /// The filters of the live subscription that begins at `now`.
    pub fn live(&self, live: LiveForm, form: Form, now: u64) -> Vec<Filter> {
        self.filters(form, |filter| match live {
            LiveForm::LimitZero => filter.limit = Some(0),
            LiveForm::LimitOne => filter.limit = Some(1),
            LiveForm::Since => filter.since = Some(now.saturating_sub(self.overlap_secs())),
        })
    }

    /// The filters for a window of stored events.
    pub fn window(&self, window: Window, limit: Option<u32>, form: Form) -> Vec<Filter> {
        self.filters(form, |filter| {
            // 0 means no lower bound, so `since` is omitted.
            filter.since = (window.since > 0).then_some(window.since);
            filter.until = window.until;
            filter.limit = limit.map(u64::from);
        })
    }

    /// The number of filters in a request.
    pub(crate) fn filter_count(&self, form: Form) -> usize {
        if form.with_kinds {
            self.kinds.len().div_ceil(KINDS_A_FILTER_MAX).clamp(1, form.filters_max.max(1))
        } else {
            1
        }
    }

    fn filters(&self, form: Form, complete: impl Fn(&mut Filter)) -> Vec<Filter> {
        let count = self.filter_count(form);
        let mut filters: Vec<Filter> = match form.with_kinds && !self.kinds.is_empty() {
            true => {
                let parts = self.kinds.chunks(self.kinds.len().div_ceil(count));
                parts.map(|kinds| Filter::new().kinds(kinds.iter().copied())).collect()
            }
            false => vec![Filter::new()],
        };
        filters.iter_mut().for_each(complete);
        filters
    }
}

/// A REQ message.
pub fn request(subscription: &str, filters: Vec<Filter>) -> String {
    ClientMessage::Req { subscription: subscription.into(), filters }.to_json()
}

/// The filter for single events.
pub(crate) fn by_ids(ids: impl IntoIterator<Item = ClaimedId>) -> Vec<Filter> {
    vec![Filter::new().ids(ids)]
}

/// The largest `backfill_hours`, which means everything.
const EVERYTHING: Duration = Duration::from_secs(1_000_000 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000;
    const ONE_FILTER: Form = Form { filters_max: 1, with_kinds: true };

    fn subscription(kinds: &[u16], backfill_hours: u64) -> Subscription {
        let mut config = Config::default();
        config.filters.allowed_kinds = kinds.iter().copied().collect();
        config.relay.backfill = (backfill_hours > 0).then(|| Duration::from_secs(backfill_hours * 3600));
        Subscription::new(&config)
    }

    fn live(live: LiveForm, form: Form, kinds: &[u16]) -> String {
        request(LIVE, subscription(kinds, 1).live(live, form, NOW))
    }

    #[test]
    fn live_asks_for_nothing_stored() {
        assert_eq!(live(LiveForm::LimitZero, ONE_FILTER, &[]), r#"["REQ","r",{"limit":0}]"#);
        assert_eq!(live(LiveForm::LimitOne, ONE_FILTER, &[7, 1]), r#"["REQ","r",{"kinds":[1,7],"limit":1}]"#);
        assert_eq!(live(LiveForm::Since, ONE_FILTER, &[]), r#"["REQ","r",{"since":1699999880}]"#);
        let without_kinds = Form { with_kinds: false, ..ONE_FILTER };
        assert_eq!(live(LiveForm::LimitZero, without_kinds, &[7]), r#"["REQ","r",{"limit":0}]"#);
    }

    #[test]
    fn a_window_has_both_ends_and_a_limit() {
        let asked = |since, until, limit| {
            let window = Window { since, until };
            request("p0", subscription(&[1], 1).window(window, limit, ONE_FILTER))
        };
        assert_eq!(
            asked(5, Some(9), Some(500)),
            r#"["REQ","p0",{"kinds":[1],"since":5,"until":9,"limit":500}]"#
        );
        assert_eq!(asked(0, None, None), r#"["REQ","p0",{"kinds":[1]}]"#);
    }

    #[test]
    fn many_kinds_are_split_into_the_filters_that_the_relay_allows() {
        let kinds: Vec<u16> = (0..250).collect();
        let count = |filters_max| {
            let form = Form { filters_max, with_kinds: true };
            let subscription = subscription(&kinds, 1);
            let filters = subscription.live(LiveForm::LimitZero, form, NOW);
            assert_eq!(filters.len(), subscription.filter_count(form));
            filters.len()
        };
        assert_eq!([0, 1, 2, 3, 10].map(count), [1, 1, 2, 3, 3]);
    }

    #[test]
    fn first_contact_reaches_back_as_configured() {
        assert_eq!(subscription(&[], 1).first_contact_since(NOW), NOW - 3_600);
        assert_eq!(subscription(&[], 0).first_contact_since(NOW), NOW + 1);
        assert_eq!(subscription(&[], 1_000_000).first_contact_since(NOW), 0);
    }
}
