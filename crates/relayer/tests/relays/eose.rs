//! EOSE that comes late or never: the gateway accepts the events, but without EOSE nothing is
//! proven.

use std::time::Duration;

use relay_sim::{Count, Fault, Sim};

use crate::gateway::Gateway;
use crate::only;

#[tokio::test(flavor = "multi_thread")]
async fn events_are_taken_without_eose_and_nothing_is_proven_without_it() {
    let sim = Sim::builder().seed(80).relays(2).events(60).copies(1).stored(0.0).hold();
    let sim = sim.fault(Fault::NoEose, only(0), 1.0);
    let sim = sim.fault(Fault::LateEose(Duration::from_millis(300)), only(1), 1.0);
    let sim = sim.start().await.expect("starts");
    let gateway = Gateway::configured(&sim, |config| {
        config.relay.backfill = Some(Duration::from_secs(3_600));
        config.relay.health_check_interval = Duration::from_millis(300);
    })
    .await;
    let proven = |relay: usize| gateway.peer(relay).coverage().and_then(|known| known.proven_until());
    gateway.until("both are asked", |_| (0..2).all(|relay| !sim.requests(relay).is_empty())).await;
    sim.go();
    gateway.until_logged(sim.ids()).await;
    gateway.assert_holds_exactly(&sim.events());
    gateway
        .until("the time of relay 1 is proven", |_| {
            eprintln!("{:?} {:?}", sim.requests(1), gateway.peer(1).coverage());
            proven(1).is_some()
        })
        .await;
    gateway.until("relay 0 is pinged", |_| sim.stats().of(0, Count::Pings) >= 2).await;
    assert_eq!(proven(0), None, "it has not said EOSE");
    let connections = [0, 1].map(|relay| gateway.peer(relay).stats.connections.get());
    assert_eq!(connections, [1, 1], "neither is left for it");
}
