//! Admission policy: which events the gateway accepts. Runs before the signature check, which costs
//! more.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use wire::UnverifiedEvent;

use super::drop_reason::DropReason;
use crate::config::Filters;

#[derive(Debug, Clone)]
pub struct Admission {
    kinds: BTreeSet<u16>,
    event_bytes_max: usize,
    future_max: Duration,
    age_max: Option<Duration>,
    admit_expired: bool,
}

impl Admission {
    pub fn new(filters: &Filters) -> Self {
        Self {
            kinds: filters.allowed_kinds.clone(),
            event_bytes_max: filters.max_event_bytes,
            future_max: filters.max_future,
            age_max: filters.max_age,
            admit_expired: filters.admit_expired,
        }
    }

    /// A policy that a reload can replace while shards use it.
    pub fn shared(filters: &Filters) -> Arc<ArcSwap<Self>> {
        Arc::new(ArcSwap::from_pointee(Self::new(filters)))
    }

    /// The maximum age of an event in seconds; 0 means no limit.
    pub(crate) fn age_secs_max(&self) -> u64 {
        self.age_max.map_or(0, |age| age.as_secs())
    }

    /// Checks an unverified event. `json_bytes` is the length of its JSON, `now_secs` the Unix
    /// time.
    ///
    /// # Errors
    /// The reason, if the policy rejects the event.
    pub fn check(
        &self,
        event: &UnverifiedEvent<'_>,
        json_bytes: usize,
        now_secs: u64,
    ) -> Result<(), DropReason> {
        if !self.kinds.is_empty() && !self.kinds.contains(&event.kind) {
            return Err(DropReason::KindNotAllowed);
        }
        if json_bytes > self.event_bytes_max {
            return Err(DropReason::EventTooLarge);
        }
        if event.created_at > now_secs.saturating_add(self.future_max.as_secs()) {
            return Err(DropReason::TooFarInFuture);
        }
        if self.age_max.is_some_and(|age_max| event.created_at < now_secs.saturating_sub(age_max.as_secs())) {
            return Err(DropReason::TooOld);
        }
        if !self.admit_expired && has_expired(event, now_secs) {
            return Err(DropReason::Expired);
        }
        Ok(())
    }
}

/// Whether the NIP-40 expiration has passed. An expiration that is not a number is ignored.
fn has_expired(event: &UnverifiedEvent<'_>, now_secs: u64) -> bool {
    let expiration = event.tag_value("expiration").and_then(|value| value.parse::<u64>().ok());
    expiration.is_some_and(|expiration| expiration <= now_secs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::Signer;

    const NOW: u64 = 1_700_000_000;

    #[test]
    fn each_rule_has_its_reason() {
        let filters = Filters {
            allowed_kinds: [1].into(),
            max_event_bytes: 1_000,
            max_future: Duration::from_secs(900),
            max_age: Some(Duration::from_secs(3_600)),
            admit_expired: false,
        };
        let admission = Admission::new(&filters);
        let check = |created_at, kind, content: &str, expiration: &str| {
            let tags = [["expiration", expiration].map(str::to_owned)];
            let event = Signer::from_seed(1).sign(created_at, kind, &tags, content);
            let json = event.json();
            admission.check(&UnverifiedEvent::parse(json).expect("well-formed"), json.len(), NOW)
        };
        let long = "x".repeat(1_000);
        for (created_at, kind, content, expiration, expected) in [
            (NOW, 1, "", "never", Ok(())),
            (NOW, 2, "", "", Err(DropReason::KindNotAllowed)),
            (NOW, 1, long.as_str(), "", Err(DropReason::EventTooLarge)),
            (NOW + 900, 1, "", "", Ok(())),
            (NOW + 901, 1, "", "", Err(DropReason::TooFarInFuture)),
            (NOW - 3_600, 1, "", "", Ok(())),
            (NOW - 3_601, 1, "", "", Err(DropReason::TooOld)),
            (NOW, 1, "", "1700000001", Ok(())),
            (NOW, 1, "", "1700000000", Err(DropReason::Expired)),
        ] {
            assert_eq!(
                check(created_at, kind, content, expiration),
                expected,
                "{created_at} {kind} {expiration}"
            );
        }
    }
}
