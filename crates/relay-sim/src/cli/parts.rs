//! Option values with several parts: `KIND[=NUMBER][:SHARE]`, and numbers separated by colons.

use std::str::FromStr;
use std::time::Duration;

use relay_sim::{Cap, Certificate, Information, Negentropy, Order, RateLimit, Reconciling, Who};

/// A behaviour, and the share of the relays that show it.
#[derive(Debug, Clone, PartialEq)]
pub struct Shared<T> {
    pub what: T,
    share: f64,
}

impl<T> Shared<T> {
    /// The relays concerned.
    pub const fn who(&self) -> Who {
        if self.share >= 1.0 { Who::All } else { Who::Share(self.share) }
    }
}

impl<T: Named> FromStr for Shared<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (what, share) = text.split_once(':').unwrap_or((text, "1"));
        let share = share_of(share)?;
        let (name, value) = match what.split_once('=') {
            Some((name, value)) => (name, Some(number(value)?)),
            None => (what, None),
        };
        let what = T::named(name, value).ok_or_else(|| format!("unknown value `{what}`"))?;
        Ok(Self { what, share })
    }
}

/// A value with a name on the command line, and perhaps a number.
pub trait Named: Sized {
    /// The value with this name; `None` if the name is unknown or the number does not fit.
    fn named(name: &str, value: Option<usize>) -> Option<Self>;
}

impl Named for Information {
    fn named(name: &str, value: Option<usize>) -> Option<Self> {
        match (name, value) {
            ("no-limits", None) => Some(Self::without_limits()),
            ("max-limit", Some(events)) => Some(Self::claiming_max_limit(events)),
            ("not-found", None) => Some(Self::NotFound),
            ("garbage", None) => Some(Self::Garbage),
            ("endless", None) => Some(Self::Endless),
            ("hanging", None) => Some(Self::Hanging),
            _ => None,
        }
    }
}

impl Named for Negentropy {
    fn named(name: &str, value: Option<usize>) -> Option<Self> {
        match (name, value) {
            ("serve", None) => Some(Self::served()),
            ("serve", Some(records)) => Some(Self::Served(Reconciling::new().records_max(records))),
            ("refuse", None) => Some(Self::Refused("blocked: this query is too big".to_owned())),
            ("unknown", None) => Some(Self::Unknown),
            ("mute", None) => Some(Self::Mute),
            _ => None,
        }
    }
}

impl Named for Certificate {
    fn named(name: &str, value: Option<usize>) -> Option<Self> {
        match (name, value) {
            ("expired", None) => Some(Self::Expired),
            ("wrong-host", None) => Some(Self::WrongHost),
            ("self-signed", None) => Some(Self::SelfSigned),
            _ => None,
        }
    }
}

/// `KIND=EVENTS`, or `EVENTS` for a cap that clamps.
impl Named for Cap {
    fn named(name: &str, value: Option<usize>) -> Option<Self> {
        match (name, value) {
            ("clamp", Some(events)) => Some(Self::clamping(events)),
            ("refuse", Some(events)) => Some(Self::refusing(events)),
            ("too-many", Some(events)) => Some(Self::too_many(events)),
            ("oldest-first", Some(events)) => Some(Self::clamping(events).order(Order::OldestFirst)),
            ("unordered", Some(events)) => Some(Self::clamping(events).order(Order::Unordered)),
            (events, None) => events.parse().ok().map(Self::clamping),
            _ => None,
        }
    }
}

/// `REQUESTS/SECONDS`.
impl Named for RateLimit {
    fn named(name: &str, value: Option<usize>) -> Option<Self> {
        let (requests, secs) = name.split_once('/').filter(|_| value.is_none())?;
        Some(Self::new(requests.parse().ok()?, Duration::from_secs(secs.parse().ok()?)))
    }
}

/// A share of events, and the maximum deviation of their dates in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ShareAndSecs {
    pub share: f64,
    pub secs: u64,
}

impl FromStr for ShareAndSecs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (share, secs) = text.split_once(':').ok_or("it must be SHARE:SECONDS")?;
        Ok(Self { share: share_of(share)?, secs: number(secs)? })
    }
}

/// Many events of one relay with the same date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Burst {
    pub relay: usize,
    pub secs_ago: u64,
    pub events: usize,
}

impl FromStr for Burst {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split(':').collect::<Vec<_>>()[..] {
            [relay, secs_ago, events] => {
                Ok(Self { relay: number(relay)?, secs_ago: number(secs_ago)?, events: number(events)? })
            }
            _ => Err("it must be RELAY:SECONDS_AGO:EVENTS".to_owned()),
        }
    }
}

fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("`{text}` is not a number"))
}

/// Parses a share, from 0 to 1.
pub fn share_of(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err(format!("`{text}` is not between 0 and 1")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_values_are_read() {
        fn read<T: Named>(text: &str) -> Option<(T, Who)> {
            let shared: Shared<T> = text.parse().ok()?;
            let who = shared.who();
            Some((shared.what, who))
        }
        assert_eq!(read("500"), Some((Cap::clamping(500), Who::All)));
        assert_eq!(read("refuse=500:0.5"), Some((Cap::refusing(500), Who::Share(0.5))));
        assert_eq!(read("no-limits:0.1"), Some((Information::without_limits(), Who::Share(0.1))));
        assert_eq!(read("serve"), Some((Negentropy::served(), Who::All)));
        assert_eq!(read("expired:0.25"), Some((Certificate::Expired, Who::Share(0.25))));
        assert_eq!(read("10/60"), Some((RateLimit::new(10, Duration::from_secs(60)), Who::All)));
        for wrong in ["", "refuse", "refuse=x", "500:2", "500:x", "clamp=5:0.1:0.1", "5=5", "10/x"] {
            assert_eq!(read::<Cap>(wrong), None, "{wrong}");
            assert_eq!(read::<RateLimit>(wrong), None, "{wrong}");
        }
        assert_eq!(read::<Information>("max-limit"), None);
    }

    #[test]
    fn dates_are_read() {
        assert_eq!("0.1:60".parse(), Ok(ShareAndSecs { share: 0.1, secs: 60 }));
        assert_eq!("3:900:2000".parse(), Ok(Burst { relay: 3, secs_ago: 900, events: 2_000 }));
        for wrong in ["0.1", "2:60", "0.1:x"] {
            assert!(wrong.parse::<ShareAndSecs>().is_err(), "{wrong}");
        }
        for wrong in ["3:900", "3:900:1:1", "a:1:1"] {
            assert!(wrong.parse::<Burst>().is_err(), "{wrong}");
        }
    }
}
