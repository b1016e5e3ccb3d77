//! The summary line that is logged every minute.

use std::sync::Arc;
use std::time::Duration;

use super::Parts;
use super::metrics::Metrics;

const INTERVAL: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, Default)]
struct Totals {
    frames: u64,
    new: u64,
    duplicates: u64,
    refused: u64,
    delivered: u64,
}

impl Totals {
    fn of(metrics: &Metrics) -> Self {
        Self {
            frames: metrics.relay.frames_received.get(),
            new: metrics.ingest.events_processed.get(),
            duplicates: metrics.ingest.duplicates.total(),
            refused: metrics.ingest.dropped.total(),
            delivered: metrics.websocket.messages.get(),
        }
    }
}

pub async fn run(parts: Arc<Parts>) {
    let mut before = Totals::of(&parts.metrics);
    loop {
        tokio::time::sleep(INTERVAL).await;
        let now = Totals::of(&parts.metrics);
        let peers = parts.pool.peers();
        let connected = peers.iter().filter(|peer| peer.state().is_connected()).count();
        tracing::info!(
            name: "summary",
            relays = format_args!("{connected}/{}", peers.len()),
            frames = now.frames - before.frames,
            new = now.new - before.new,
            duplicates = now.duplicates - before.duplicates,
            refused = now.refused - before.refused,
            clients = parts.metrics.websocket.clients.get(),
            delivered = now.delivered - before.delivered,
            head = parts.log.head().get(),
            "last minute"
        );
        before = now;
    }
}
