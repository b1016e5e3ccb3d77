//! Detects silent relays: connected and responsive, but sending nothing while several others
//! deliver.
//!
//! The connection of such a relay looks healthy. Only the comparison with other relays of the same
//! subscription shows the problem.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::RelayUrl;
use crate::limits::DELIVERING_RELAYS_MIN;
use crate::relay::peer::{ConnectionState, Peer};

/// Compares all relays at intervals.
#[derive(Debug)]
pub(crate) struct Silence {
    /// How long a relay may send no events.
    after: Duration,
    heard: HashMap<RelayUrl, Heard>,
}

/// The number of events that a live relay has sent, and since when the number has not changed.
#[derive(Debug, Clone, Copy)]
struct Heard {
    events: u64,
    since: Instant,
    /// Whether the relay has sent events since it became live.
    delivers: bool,
}

impl Silence {
    pub fn new(after: Duration) -> Self {
        Self { after, heard: HashMap::new() }
    }

    pub fn set_after(&mut self, after: Duration) {
        self.after = after;
    }

    /// The time between two calls of [`check`](Self::check).
    pub fn interval(&self) -> Duration {
        (self.after / 4).max(Duration::from_millis(100))
    }

    /// Compares the relays, and marks the silent ones.
    pub fn check(&mut self, peers: &[Arc<Peer>], now: Instant) {
        let mut heard = HashMap::with_capacity(peers.len());
        for peer in peers {
            let events = peer.stats.events.get();
            if !matches!(peer.state(), ConnectionState::Live { .. }) {
                continue;
            }
            let known = self.heard.get(&peer.url).copied();
            let is = match known {
                Some(known) if known.events == events => known,
                Some(_) => Heard { events, since: now, delivers: true },
                None => Heard { events, since: now, delivers: false },
            };
            heard.insert(peer.url.clone(), is);
        }
        self.heard = heard;
        let lately = |heard: &Heard| now.saturating_duration_since(heard.since) < self.after;
        let delivering = self.heard.values().filter(|heard| heard.delivers && lately(heard)).count();
        for peer in peers {
            let is_quiet = self.heard.get(&peer.url).is_some_and(|heard| !lately(heard));
            let is_silent = is_quiet && delivering >= DELIVERING_RELAYS_MIN;
            if peer.set_silent(is_silent) != is_silent && is_silent {
                tracing::warn!(
                    name: "relay_silent",
                    relay = %peer.url,
                    "the relay is connected but sends no events, while other relays deliver"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(name: &str) -> Arc<Peer> {
        let peer = Peer::new(format!("wss://{name}.example").parse().expect("a URL"));
        peer.set_state(ConnectionState::Live { since_ms: 0 });
        Arc::new(peer)
    }

    #[test]
    fn a_relay_is_silent_only_while_several_others_deliver() {
        let peers: Vec<_> = ["a", "b", "c", "d", "e"].map(live).into();
        let (mut silence, start) = (Silence::new(Duration::from_secs(10)), Instant::now());
        let mut look_after = |secs, speaking: &[usize]| {
            speaking.iter().for_each(|place| peers[*place].stats.events.add(1));
            silence.check(&peers, start + Duration::from_secs(secs));
            peers.iter().map(|peer| peer.is_silent()).collect::<Vec<_>>()
        };
        let none = vec![false; 5];
        assert_eq!(look_after(0, &[]), none);
        assert_eq!(look_after(9, &[0, 1, 2]), none, "not long enough");
        assert_eq!(look_after(11, &[0, 1, 2]), [false, false, false, true, true]);
        assert_eq!(look_after(12, &[3]), [false, false, false, false, true]);
        peers[4].set_state(ConnectionState::Connecting);
        assert_eq!(look_after(13, &[]), none, "it is not connected");
        assert_eq!(look_after(40, &[]), none, "nobody delivers: there is nothing to miss");
    }
}
