//! A thousand transitions from replay to live delivery.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::{JoinSet, yield_now};

use crate::gateway::{Gateway, Setup, next};

/// The number of resumptions of each client.
const RESUMPTIONS: u64 = 125;
/// The number of concurrent clients.
const CLIENTS: u64 = 8;

/// Clients resume at a random cursor, mostly close to the head, where memory, disk and pending
/// commits meet, and read to a random sequence beyond the current head. Events are appended until
/// all clients are done. The tail is smaller than one client's reads. The seed decides what clients
/// do; the runtime and random yields decide when.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_resumptions_during_a_burst_are_unbroken() {
    let gateway = Arc::new(Gateway::start_with(Setup { tail_bytes: 16 << 10, ..Setup::default() }).await);
    gateway.append_numbered(200).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let burst = tokio::spawn({
        let (gateway, is_over) = (Arc::clone(&gateway), Arc::clone(&is_over));
        async move {
            while !is_over.load(Ordering::Relaxed) {
                gateway.append_numbered(40).await;
            }
        }
    });
    let mut clients = JoinSet::new();
    for seed in 0..CLIENTS {
        let gateway = Arc::clone(&gateway);
        clients.spawn(async move {
            let mut random = StdRng::seed_from_u64(seed);
            for _ in 0..RESUMPTIONS {
                resume(&gateway, &mut random).await;
            }
        });
    }
    while let Some(done) = clients.join_next().await {
        done.unwrap();
    }
    is_over.store(true, Ordering::Relaxed);
    burst.await.unwrap();
}

async fn resume(gateway: &Gateway, random: &mut StdRng) {
    let head = gateway.log.head().get();
    let behind = if random.random_bool(0.8) {
        random.random_range(0..=100)
    } else {
        random.random_range(0..=head.min(600))
    };
    let cursor = head.saturating_sub(behind);
    let mut client = gateway.connect(&format!("?cursor={cursor}")).await;
    // The last sequence to read is beyond the head at the time of connecting.
    let last = gateway.log.head().get() + random.random_range(1..=20);
    for seq in cursor + 1..=last {
        assert_eq!(next(&mut client).await.seq, Some(seq), "after cursor {cursor}, head {head}");
        if random.random_bool(0.1) {
            yield_now().await;
        }
    }
}
