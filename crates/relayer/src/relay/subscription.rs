//! What we ask a relay for: one subscription that gives what it has stored since the last contact, and
//! then what is new.

use std::time::Duration;

use wire::{ClientMessage, Filter};

use crate::config::Config;
use crate::limits::OVERLAP;

/// The id of our one subscription. It is short because every frame repeats it.
pub const SUBSCRIPTION: &str = "r";

/// What is asked for, whatever the relay.
#[derive(Debug, Clone)]
pub struct Subscription {
    kinds: Vec<u16>,
    backfill: Option<Duration>,
}

impl Subscription {
    /// What the configuration asks for.
    pub fn new(config: &Config) -> Self {
        Self {
            kinds: config.filters.allowed_kinds.iter().copied().collect(),
            backfill: config.relay.backfill,
        }
    }

    /// The `REQ` for a relay that was last heard at `last_heard_ms`, at `now_ms` (Unix milliseconds).
    ///
    /// Without a last contact it goes back as far as the configuration says. After one it goes back at
    /// least to that contact, less an overlap for events that relays pass on late.
    pub fn request(&self, last_heard_ms: Option<u64>, now_ms: u64) -> String {
        let mut filter = Filter::new();
        if !self.kinds.is_empty() {
            filter = filter.kinds(self.kinds.iter().copied());
        }
        let now = now_ms / 1000;
        let configured = self.backfill.map(|backfill| now.saturating_sub(backfill.as_secs()));
        let gap = last_heard_ms.map(|heard| (heard / 1000).saturating_sub(OVERLAP.as_secs()));
        match configured.into_iter().chain(gap).min() {
            // From everything a relay has stored, `since` would only exclude what claims to be from 1970.
            Some(since) => filter.since = (since > 0 && self.backfill != Some(EVERYTHING)).then_some(since),
            None => filter.limit = Some(0),
        }
        ClientMessage::Req { subscription: SUBSCRIPTION.into(), filters: vec![filter] }.to_json()
    }
}

/// The largest `backfill_hours`, which stands for no bound.
const EVERYTHING: Duration = Duration::from_secs(1_000_000 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_700_000_000_000;

    fn request(kinds: &[u16], backfill_hours: u64, last_heard_ms: Option<u64>) -> String {
        let mut config = Config::default();
        config.filters.allowed_kinds = kinds.iter().copied().collect();
        config.relay.backfill = (backfill_hours > 0).then(|| Duration::from_secs(backfill_hours * 3600));
        Subscription::new(&config).request(last_heard_ms, NOW_MS)
    }

    #[test]
    fn first_contact_goes_back_as_configured() {
        assert_eq!(request(&[], 1, None), r#"["REQ","r",{"since":1699996400}]"#);
        assert_eq!(request(&[1, 7], 1, None), r#"["REQ","r",{"kinds":[1,7],"since":1699996400}]"#);
        assert_eq!(request(&[], 0, None), r#"["REQ","r",{"limit":0}]"#);
        assert_eq!(request(&[], 1_000_000, None), r#"["REQ","r",{}]"#);
    }

    #[test]
    fn a_gap_is_asked_for_with_an_overlap() {
        let day_ago = NOW_MS - 86_400_000;
        assert_eq!(request(&[], 1, Some(day_ago)), r#"["REQ","r",{"since":1699913480}]"#);
        assert_eq!(request(&[], 0, Some(NOW_MS)), r#"["REQ","r",{"since":1699999880}]"#);
        assert_eq!(request(&[], 1, Some(NOW_MS)), r#"["REQ","r",{"since":1699996400}]"#);
    }
}
