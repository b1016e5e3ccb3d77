//! Invariant 5: no queue grows without bound, and a stall loses no event.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use moltrade_relayer::limits::INGEST_BYTES_MAX;
use relay_sim::{Sim, Sizes};

use crate::gateway::Gateway;

#[tokio::test(flavor = "multi_thread")]
async fn invariant_5_a_full_disk_stops_the_sockets_not_the_memory() {
    // 80 MB of events; at most 32 MiB may be in flight.
    let sim = Sim::builder().seed(17).relays(4).events(2_000).copies(1).sizes(Sizes::Exactly(40_000));
    let sim = sim.base(1_700_000_000).start().await.expect("starts");
    let free = Arc::new(AtomicU64::new(0));
    let gateway = Gateway::on_disk(&sim, Arc::clone(&free)).await;
    gateway.until("ingest pauses", |gateway| gateway.disk_full.is_paused()).await;
    gateway
        .until("the way is full", |gateway| gateway.inboxes.waiting().1 > INGEST_BYTES_MAX - 100_000)
        .await;
    // The relays have not sent most of their events yet, because the gateway does not read the
    // sockets.
    let frames = gateway.metrics.relay.frames_received.get();
    assert!(frames < 1_000, "{frames} frames were read");
    assert!(gateway.inboxes.waiting().1 <= INGEST_BYTES_MAX);
    assert_eq!(gateway.log.head().get(), 0);

    free.store(u64::MAX, Ordering::Relaxed);
    gateway.until_logged(sim.ids()).await;
    gateway.assert_holds_exactly(&sim.events());
    assert!(!gateway.disk_full.is_paused());
    gateway
        .until("every event is accounted for", |gateway| {
            (0..4).all(|relay| {
                let peer = gateway.peer(relay);
                peer.stats.events.get() == peer.stats.first.get() + peer.stats.copies.get()
            })
        })
        .await;
}
