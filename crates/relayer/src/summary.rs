//! One line a minute that tells a person how it goes.

use std::sync::Arc;
use std::time::Duration;

use crate::event_log::EventLog;
use crate::relay::Pool;
use crate::telemetry::Metrics;

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
            frames: metrics.frames_received.get(),
            new: metrics.events_processed.get(),
            duplicates: metrics.duplicates_total(),
            refused: metrics.dropped_total(),
            delivered: metrics.websocket_messages.get(),
        }
    }
}

/// Logs a summary line each minute, for ever.
pub async fn run(pool: Arc<Pool>, log: Arc<EventLog>, metrics: Arc<Metrics>) {
    let mut before = Totals::of(&metrics);
    loop {
        tokio::time::sleep(INTERVAL).await;
        let now = Totals::of(&metrics);
        let peers = pool.peers();
        let connected = peers.iter().filter(|peer| peer.state().is_connected()).count();
        tracing::info!(
            relays = format_args!("{connected}/{}", peers.len()),
            frames = now.frames - before.frames,
            new = now.new - before.new,
            duplicates = now.duplicates - before.duplicates,
            refused = now.refused - before.refused,
            clients = metrics.websocket_clients.get(),
            delivered = now.delivered - before.delivered,
            head = %log.head(),
            "last minute"
        );
        before = now;
    }
}
