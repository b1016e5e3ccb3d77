//! Counts over all parts, and the summary line that is logged every minute.

use std::sync::Arc;
use std::time::Duration;

use super::Parts;

const INTERVAL: Duration = Duration::from_secs(60);

/// Counts since the start of the gateway.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Totals {
    /// WebSocket messages from relays.
    pub frames: u64,
    pub new: u64,
    pub duplicates: u64,
    pub refused: u64,
    /// Messages to clients of `/ws` and of event streams.
    pub to_clients: u64,
    to_followers: u64,
    to_sinks: u64,
}

impl Totals {
    pub fn of(parts: &Parts) -> Self {
        let metrics = &parts.metrics;
        Self {
            frames: metrics.relay.frames_received.get(),
            new: metrics.ingest.events_processed.get(),
            duplicates: metrics.ingest.duplicates.total(),
            refused: metrics.ingest.dropped.total(),
            to_clients: metrics.websocket.messages.get(),
            to_followers: metrics.fanout.messages.get(),
            to_sinks: parts.sinks.list().iter().map(|sink| sink.delivered.get()).sum(),
        }
    }

    /// Messages to all receivers.
    pub const fn delivered(&self) -> u64 {
        self.to_clients + self.to_followers + self.to_sinks
    }
}

pub async fn run(parts: Arc<Parts>) {
    let mut before = Totals::of(&parts);
    loop {
        tokio::time::sleep(INTERVAL).await;
        let now = Totals::of(&parts);
        let peers = parts.pool.peers();
        let connected = peers.iter().filter(|peer| peer.is_connected()).count();
        tracing::info!(
            name: "summary",
            relays = format_args!("{connected}/{}", peers.len()),
            frames = now.frames - before.frames,
            new = now.new - before.new,
            duplicates = now.duplicates - before.duplicates,
            refused = now.refused - before.refused,
            clients = parts.metrics.websocket.clients.get(),
            delivered = now.to_clients - before.to_clients,
            head = parts.log.head().get(),
            "last minute"
        );
        before = now;
    }
}
