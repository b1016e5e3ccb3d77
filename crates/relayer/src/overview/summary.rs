//! The summary line that is logged every minute.

use std::sync::Arc;
use std::time::Duration;

use super::reading::Totals;
use crate::gateway::Parts;

const INTERVAL: Duration = Duration::from_secs(60);

pub(crate) async fn run(parts: Arc<Parts>) {
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
