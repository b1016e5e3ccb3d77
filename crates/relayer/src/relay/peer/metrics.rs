//! The metrics of relays and of the connections to them.

use std::sync::Arc;

use enum_map::Enum;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use strum::IntoStaticStr;

use super::census::Census;
use super::handle::Peer;
use super::state::StateName;
use crate::telemetry::metrics::{PerLabel, metrics, set};

/// What failed when a relay was dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum DialFailure {
    /// The name does not exist or does not resolve.
    Dns,
    /// The address is not public.
    NotPublic,
    Tcp,
    /// The certificate is not trusted, expired, or for another name.
    Certificate,
    /// Another failure of the TLS handshake.
    Tls,
    Timeout,
    /// The server refused the WebSocket.
    Upgrade,
    /// The URL cannot be dialled, or leads to this gateway.
    Unusable,
}

metrics! {
    /// The counters and gauges of relays.
    pub struct Metrics {
        /// WebSocket messages that were received from relays.
        frames_received: Counter = "frames_received";
        /// Bytes of the payloads of these messages.
        frame_bytes_received: Counter = "frame_bytes_received";
        /// Handled WebSocket frames from relays: messages, their fragments, pings and pongs.
        relay_frames_handled: Counter = "relay_frames_handled";
        /// Relays with an open connection.
        active_connections: Gauge = "active_connections";
        /// Relays by the state of their connection.
        relays: PerLabel<StateName, Gauge> = "relays", PerLabel::new("state");
        /// Connections that were opened to relays.
        relay_connections: Counter = "relay_connections";
        /// Failed dials of relays, by what failed.
        relay_dial_failures: PerLabel<DialFailure, Counter> = "relay_dial_failures", PerLabel::new("reason");
        /// Requests that were sent to relays.
        relay_requests: Counter = "relay_requests";
        /// How often a relay said that we send too many requests.
        rate_limited: Counter = "rate_limited";
        /// Quarantines of relays.
        quarantines: Counter = "quarantines";
        /// Gaps: time spans in which a relay's events are not proven complete, over all relays.
        relay_gaps: Gauge = "relay_gaps";
        /// Relays with at least one gap.
        relays_with_gaps: Gauge = "relays_with_gaps";
        /// Relays without gaps: everything requested from them is proven complete.
        relays_proven: Gauge = "relays_proven";
        /// Connected relays that send no events while other relays deliver events.
        relays_silent: Gauge = "relays_silent";
        /// Relays from which past events are being requested.
        repairs: Gauge = "repairs";
        /// Seconds since the earliest watermark of a connected relay.
        relays_lag: Gauge = "relays_lag_seconds";
    }
}

impl Metrics {
    /// Sets the gauges from the current state of the relays.
    pub(crate) fn refresh(&self, peers: &[Arc<Peer>]) {
        let census = Census::of(peers);
        for (state, group) in &census.states {
            set(&self.relays[state], group.count as u64);
        }
        set(&self.active_connections, census.connected as u64);
        set(&self.relays_silent, census.silent.count as u64);
        set(&self.repairs, census.repairing as u64);
        set(&self.relay_gaps, census.gaps as u64);
        set(&self.relays_with_gaps, census.with_gaps.count as u64);
        set(&self.relays_proven, census.proven as u64);
        set(&self.relays_lag, census.lag_secs);
    }
}
