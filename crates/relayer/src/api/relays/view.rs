//! The JSON of a relay: in `/status`, in the list of relays, and on its own.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use crate::relay::{ConnectionState, Gap, Information, PastState, Peer, RepairProgress};

/// A relay. Counts and times begin at the start of the gateway, or when the relay was added.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Relay")]
pub struct Connection {
    url: String,
    /// The `status` and the data of the state.
    #[serde(flatten)]
    state: ConnectionState,
    /// Whether the relay is connected but sends nothing, while several other relays send events.
    silent: bool,
    connections_opened: u64,
    reconnects: u64,
    uptime_seconds: u64,
    /// The round trip of the last answered ping.
    rtt_ms: Option<f64>,
    frames: u64,
    bytes: u64,
    events: u64,
    /// The events that this relay delivered first.
    first: u64,
    /// The events that were already known.
    copies: u64,
    /// How much later than the first copy this relay's copy of an event arrives, on average.
    late_ms: Option<f64>,
    notices: u64,
    requests: u64,
    rate_limited: u64,
    forgeries: u64,
    /// The messages that count against the relay's offence budget; forgeries are among them.
    offences: u64,
    /// The refused messages, by reason.
    refused: BTreeMap<&'static str, u64>,
    /// The relay's events are proven complete up to this time, in Unix seconds.
    proven_until: Option<u64>,
    gaps: usize,
    /// The latest states, ending with the current one.
    history: Vec<PastState>,
}

/// All details of a relay.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RelayDetails")]
pub(crate) struct Detail {
    #[serde(flatten)]
    connection: Connection,
    /// The start of the proven span, in Unix seconds.
    proven_from: Option<u64>,
    /// The end of the covered span, including gaps, in Unix seconds.
    covered_until: Option<u64>,
    open_gaps: Vec<Gap>,
    repair: Option<RepairProgress>,
    /// The maximum number of events in one answer, if known.
    answer_cap: Option<u32>,
    /// The minimum time between two requests.
    request_gap_ms: u64,
    /// The number of recent quarantines.
    quarantines: u32,
    information: Option<Information>,
}

impl From<&Peer> for Connection {
    fn from(peer: &Peer) -> Self {
        let stats = &peer.stats;
        let coverage = peer.coverage();
        Self {
            url: peer.url.to_string(),
            state: peer.state(),
            silent: peer.is_silent(),
            connections_opened: stats.connections.get(),
            reconnects: stats.connections.get().saturating_sub(1),
            uptime_seconds: peer.uptime().as_secs(),
            rtt_ms: peer.rtt().map(milliseconds),
            frames: stats.frames.get(),
            bytes: stats.bytes.get(),
            events: stats.events.get(),
            first: stats.first.get(),
            copies: stats.copies.get(),
            late_ms: stats.lateness_ms().map(|late| (late * 1000.0).round() / 1000.0),
            notices: stats.notices.get(),
            requests: stats.requests.get(),
            rate_limited: stats.rate_limited.get(),
            forgeries: stats.forgeries(),
            offences: stats.offences(),
            refused: stats.refused().map(|(reason, count)| (reason.label(), count)).collect(),
            proven_until: coverage.as_ref().and_then(|coverage| coverage.proven_until()),
            gaps: coverage.map_or(0, |coverage| coverage.gaps().len()),
            history: peer.history(),
        }
    }
}

impl From<&Peer> for Detail {
    fn from(peer: &Peer) -> Self {
        let coverage = peer.coverage();
        let (answer_cap, gap, information) = peer.capabilities(|capabilities| {
            (capabilities.caps.known(), capabilities.pace.gap(), capabilities.information().cloned())
        });
        Self {
            connection: Connection::from(peer),
            proven_from: coverage.as_ref().map(|coverage| coverage.from()),
            covered_until: coverage.as_ref().map(|coverage| coverage.until()),
            open_gaps: coverage.map(|coverage| coverage.gaps().to_vec()).unwrap_or_default(),
            repair: peer.repair(),
            answer_cap,
            request_gap_ms: u64::try_from(gap.as_millis()).unwrap_or(u64::MAX),
            quarantines: peer.offences.quarantines(),
            information,
        }
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}
