//! Offences and anomalies of relays: forgeries, garbage, floods, silence.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use moltrade_relayer::ingest::DropReason;
use relay_sim::{Fault, Garbage, Sim};

use crate::gateway::Gateway;
use crate::only;

#[tokio::test(flavor = "multi_thread")]
async fn forgers_and_babblers_are_quarantined_and_named_and_nobody_else_is() {
    let sim = Sim::builder().seed(60).relays(4).events(400).copies(1).stored(1.0);
    let sim = sim.forge(1.0).forgers(only(0)).fault(Fault::Garbage(Garbage::InvalidJson), only(1), 0.5);
    let sim = sim.start().await.expect("starts");
    let gateway =
        Gateway::configured(&sim, |config| config.relay.max_offences_per_hour = NonZeroU32::new(10)).await;
    let reasons = [gateway.until_in(0, "quarantined").await, gateway.until_in(1, "quarantined").await];
    let forgeries = DropReason::ALL.iter().filter(|reason| reason.is_forgery());
    assert!(forgeries.into_iter().any(|reason| reasons[0].contains(reason.label())), "{}", reasons[0]);
    assert!(reasons[1].contains("malformed_frame"), "{}", reasons[1]);
    gateway.until_logged(sim.events_on(&[2, 3]).iter().map(wire::VerifiedEvent::id)).await;
    for relay in [2, 3] {
        gateway.until_in(relay, "live").await;
        assert_eq!(gateway.peer(relay).offences.quarantines(), 0);
        assert_eq!(gateway.peer(relay).stats.refused_total(), 0, "nobody else is blamed");
    }
    for relay in [0, 1] {
        gateway.until("it is left", |_| sim.open_connections(relay) == 0).await;
        assert_eq!(gateway.peer(relay).state().label(), "quarantined");
        assert_eq!(gateway.peer(relay).offences.quarantines(), 1);
        assert_eq!(gateway.peer(relay).stats.connections.get(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_read_slowly_and_harms_nobody() {
    const A_SECOND: usize = 200;
    const FLOOD: usize = 700;
    let sim = Sim::builder().seed(61).scripted(2).start().await.expect("starts");
    let dates: Vec<u64> = (1_700_000_000..).take(FLOOD).collect();
    let flood = sim.publish_many(&[0], 1, &dates);
    let trickle = sim.publish_many(&[1], 1, &dates[..50]);
    let started = Instant::now();
    let gateway = Gateway::configured(&sim, |config| {
        config.relay.max_events_per_second = NonZeroU32::new(A_SECOND as u32);
        // While the gateway does not read, no pong can arrive. The silence must not count against
        // the relay.
        config.relay.health_check_interval = Duration::from_millis(100);
    })
    .await;
    gateway.until_logged(trickle.iter().map(wire::VerifiedEvent::id)).await;
    let read = gateway.peer(0).stats.events.get();
    assert!(read < FLOOD as u64, "the other relay did not wait for the {read} events of the flood");
    gateway.until("nothing is lost", |gateway| gateway.peer(0).stats.events.get() >= FLOOD as u64).await;
    // The minimum time: a burst of one second and one full read are free, and all other events come
    // at the allowed rate.
    let least = (FLOOD - 2 * A_SECOND) as f64 / A_SECOND as f64;
    assert!(started.elapsed().as_secs_f64() >= least, "{:?}", started.elapsed());
    gateway.until_logged(flood.iter().map(wire::VerifiedEvent::id)).await;
    gateway.assert_holds_exactly(&sim.events());
    assert_eq!([0, 1].map(|relay| gateway.peer(relay).stats.connections.get()), [1, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_never_sends_what_others_deliver_is_reported_as_silent() {
    let sim = Sim::builder().seed(62).relays(4).events(400).copies(4).per_second(200.0).hold();
    let sim = sim.fault(Fault::Silent, only(3), 1.0).start().await.expect("starts");
    let gateway =
        Gateway::configured(&sim, |config| config.relay.silent_after = Duration::from_millis(400)).await;
    for relay in 0..4 {
        gateway.until_in(relay, "live").await;
    }
    let silent = |gateway: &Gateway| [0, 1, 2, 3].map(|relay| gateway.peer(relay).is_silent());
    sim.go();
    gateway.until("it is reported", |gateway| silent(gateway)[3]).await;
    assert_eq!(silent(&gateway)[..3], [false; 3]);
    assert_eq!(gateway.peer(3).state().label(), "live", "it is no reason to leave it");
    gateway.until_logged(sim.ids()).await;
    // Now no relay delivers events, so no relay counts as silent.
    gateway.until("it is reported no more", |gateway| silent(gateway) == [false; 4]).await;
}
