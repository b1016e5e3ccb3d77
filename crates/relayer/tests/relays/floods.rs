//! Endless floods of valid frames. A flood does not starve other tasks on the thread, and the
//! throttle limits its rate.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use moltrade_relayer::limits::FRAMES_A_READ_MAX;
use relay_sim::{Count, Fault, Flood, Sim};
use wire::VerifiedEvent;

use crate::gateway::Gateway;
use crate::only;

/// The maximum number of frames that a connection handles before it yields, because Tokio's budget
/// is 128 reads.
const FRAMES_A_TURN_MAX: u64 = 128 * FRAMES_A_READ_MAX as u64;

/// All connections share one thread with the relays and with a task that counts the frames handled
/// between two of its runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_flood_of_any_kind_lets_others_have_their_turn() {
    for flood in Flood::SORTS.into_iter().chain([Flood::Mixed]) {
        let sim = Sim::builder().seed(80).scripted(2).fault(Fault::Flood(flood), only(0), 1.0);
        let sim = sim.start().await.expect("starts");
        let gateway = Gateway::configured(&sim, |config| config.relay.max_events_per_second = None).await;
        gateway.until_in(1, "live").await;
        gateway.until("the flood comes", |_| sim.stats().of(0, Count::Flood) > 0).await;
        let metrics = Arc::clone(&gateway.metrics.relay);
        let (stop, most) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let looking = tokio::spawn({
            let (stop, most) = (Arc::clone(&stop), Arc::clone(&most));
            async move {
                let handled = || metrics.relay_frames_handled.get();
                let mut before = handled();
                while !stop.load(Ordering::Relaxed) {
                    tokio::task::yield_now().await;
                    let now = handled();
                    most.fetch_max(now - before, Ordering::Relaxed);
                    before = now;
                }
            }
        });
        let handled = gateway.metrics.relay.relay_frames_handled.get();
        let events = sim.publish_many(&[1], 1, &[1_700_000_000; 50]);
        gateway.until_logged(events.iter().map(VerifiedEvent::id)).await;
        let goes_on = |gateway: &Gateway| {
            gateway.metrics.relay.relay_frames_handled.get() - handled > 10 * FRAMES_A_TURN_MAX
        };
        gateway.until("the flood goes on", goes_on).await;
        stop.store(true, Ordering::Relaxed);
        looking.await.expect("it looks");
        let most = most.load(Ordering::Relaxed);
        // Both connections may run before the checking task runs again.
        let bound = 2 * FRAMES_A_TURN_MAX;
        assert!(most <= bound, "{flood:?}: {most} frames between two turns of another task");
        assert_eq!(gateway.peer(0).offences.quarantines(), 0, "{flood:?}: each frame is lawful");
    }
}

/// The rate limit also counts frames without an event.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_any_kind_is_read_slowly() {
    const A_SECOND: u32 = 2_000;
    for flood in Flood::SORTS {
        let sim = Sim::builder().seed(81).scripted(1).fault(Fault::Flood(flood), only(0), 1.0);
        let sim = sim.start().await.expect("starts");
        let started = std::time::Instant::now();
        let gateway = Gateway::configured(&sim, |config| {
            config.relay.max_events_per_second = NonZeroU32::new(A_SECOND);
        })
        .await;
        let handled = |gateway: &Gateway| gateway.metrics.relay.relay_frames_handled.get();
        gateway.until("it is read", |gateway| handled(gateway) > 3 * u64::from(A_SECOND)).await;
        // The minimum time: a burst of one second and one full read are free, and all other frames
        // come at the allowed rate.
        let least = (2 * A_SECOND - FRAMES_A_READ_MAX) / A_SECOND;
        assert!(started.elapsed().as_secs() >= u64::from(least), "{flood:?}: {:?}", started.elapsed());
    }
}
