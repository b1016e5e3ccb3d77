//! Counts all relays by state, without copying their details.

use std::sync::Arc;

use enum_map::EnumMap;

use super::handle::Peer;
use super::state::StateName;
use crate::clock::unix_secs;

/// Relays with something in common.
#[derive(Debug, Clone, Default)]
pub(crate) struct Group {
    pub count: usize,
    /// One of them, if there are any.
    pub first: Option<Arc<Peer>>,
}

impl Group {
    fn add(&mut self, peer: &Arc<Peer>) {
        self.count += 1;
        self.first.get_or_insert_with(|| Arc::clone(peer));
    }
}

/// The relays at one time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Census {
    pub total: usize,
    pub states: EnumMap<StateName, Group>,
    pub connected: usize,
    pub silent: Group,
    /// Relays from which past events are being requested.
    pub repairing: usize,
    /// The number of gaps.
    pub gaps: usize,
    pub with_gaps: Group,
    /// Relays without gaps.
    pub proven: usize,
    /// The age of the earliest watermark of a connected relay.
    pub lag_secs: u64,
}

impl Census {
    pub fn of(peers: &[Arc<Peer>]) -> Self {
        let now = unix_secs();
        let mut census = Self { total: peers.len(), ..Self::default() };
        for peer in peers {
            let (state, is_connected) = peer.status();
            census.states[state].add(peer);
            census.connected += usize::from(is_connected);
            if peer.is_silent() {
                census.silent.add(peer);
            }
            census.repairing += usize::from(peer.is_repairing());
            let Some((gaps, proven_until)) = peer.with_coverage(|coverage| {
                (coverage.gaps().len(), coverage.proven_until().unwrap_or(coverage.from()))
            }) else {
                continue;
            };
            census.gaps += gaps;
            if gaps > 0 {
                census.with_gaps.add(peer);
            } else {
                census.proven += 1;
            }
            if is_connected {
                census.lag_secs = census.lag_secs.max(now.saturating_sub(proven_until));
            }
        }
        census
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::relay::peer::{ConnectionState, Coverage};

    fn relay(name: &str, state: ConnectionState) -> Arc<Peer> {
        let peer = Peer::new(format!("wss://{name}.example").parse().expect("a URL"));
        peer.set_state(state);
        Arc::new(peer)
    }

    #[test]
    fn relays_are_counted_by_what_they_do() {
        let (clock, _) = Clock::manual();
        let now = clock.now();
        let (live, backfilling) =
            (ConnectionState::Live { since_ms: 1 }, ConnectionState::Backfilling { since_ms: 1 });
        let off = ConnectionState::BackingOff { until_ms: 1, reason: "refused".to_owned() };
        let peers = [("a", live.clone()), ("b", live), ("c", backfilling), ("d", off.clone()), ("e", off)];
        let peers = peers.map(|(name, state)| relay(name, state));
        peers[1].set_silent(true);
        peers[2].set_repair(Some(crate::relay::RepairProgress::NONE));
        // At first contact, the past is a gap.
        peers[2].restore_coverage(Coverage::resumed(None, [1], now.secs() - 7_200, now, 0), now);
        peers[0].restore_coverage(Coverage::resumed(None, [1], now.secs() + 1, now, 0), now);
        let census = Census::of(&peers);
        assert_eq!((census.total, census.connected, census.repairing), (5, 3, 1));
        let states = |state: StateName| census.states[state].count;
        assert_eq!(states(StateName::Live), 2);
        assert_eq!((states(StateName::Backfilling), states(StateName::BackingOff)), (1, 2));
        let named = |group: &Group| (group.count, group.first.as_ref().map(|peer| peer.url.to_string()));
        assert_eq!(named(&census.silent), (1, Some("wss://b.example".to_owned())));
        assert_eq!(named(&census.with_gaps), (1, Some("wss://c.example".to_owned())));
        assert_eq!((census.gaps, census.proven), (1, 1));
    }
}
