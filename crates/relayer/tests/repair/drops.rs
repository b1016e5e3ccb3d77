//! Connections that break repeatedly: no event is missing or duplicated, and in the end all spans
//! are proven.

use std::time::Duration;

use relay_sim::{Count, Fault, Sim, Who};

use crate::gateway::Gateway;
use crate::proof::{an_hour_back, assert_claims_are_true, until_complete};

const RELAYS: usize = 30;
const EVENTS: usize = 4_000;
/// The maximum age of events that arrive while a relay is disconnected, in seconds.
const LATE_SECS: u64 = 5;
/// The time that a busy machine may take to tell the gateway that a relay has closed a connection.
/// The overlap covers this time and `LATE_SECS`.
const NOTICED_SECS: u64 = 15;

#[tokio::test(flavor = "multi_thread")]
async fn invariant_6_relays_that_drop_every_fifty_events_end_complete() {
    let sim = Sim::builder().seed(70).relays(RELAYS).events(EVENTS).copies(2).stored(0.7);
    let sim = sim.per_second(100.0).late(0.2, LATE_SECS).fault(Fault::Drop, Who::All, 0.02);
    let sim = sim.start().await.expect("starts");
    let gateway = Gateway::configured(&sim, |config| {
        an_hour_back(config);
        config.relay.overlap = Duration::from_secs(LATE_SECS + NOTICED_SECS);
        config.relay.health_check_interval = Duration::from_millis(500);
    })
    .await;
    gateway.until_logged(sim.ids()).await;
    let newest = sim.events().iter().map(|event| event.created_at()).max().expect("events");
    let all: Vec<usize> = (0..RELAYS).collect();
    until_complete(&gateway, &all, newest).await;
    gateway.assert_holds_exactly(&sim.events());
    all.iter().for_each(|relay| assert_claims_are_true(&gateway, &sim, *relay));
    let stats = sim.stats();
    println!("{} drops, {} requests", stats.get(Count::Drops), stats.get(Count::Requests));
    assert!(stats.get(Count::Drops) > 5 * RELAYS as u64, "hardly anything was dropped");
}
