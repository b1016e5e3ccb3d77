//! Health checks: who does not answer is found out by the second one.

use std::time::Duration;

use relay_sim::{Count, Fault, Sim};

use crate::gateway::Gateway;
use crate::only;

/// Counted in checks, not in time: the one that is not answered, and the one that notices.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_does_not_answer_is_given_up_at_the_second_check() {
    let sim = Sim::builder().seed(70).scripted(2).fault(Fault::NoPongs, only(0), 1.0);
    let sim = sim.start().await.expect("starts");
    let gateway = Gateway::configured(&sim, |config| {
        config.relay.health_check_interval = Duration::from_millis(100);
    });
    for connections in 2..=3 {
        let back = |gateway: &Gateway| gateway.peer(0).tally.connections.get() >= connections;
        gateway.until("it was given up and is back", back).await;
    }
    let reason = gateway.until_in(0, "backing_off").await;
    assert_eq!(reason, "the relay did not answer a ping");
    // Only the present connection may have brought a ping that is not counted against an older one.
    let (pings, connections) = (sim.stats().of(0, Count::Pings), gateway.peer(0).tally.connections.get());
    assert!(pings <= connections, "{pings} pings on {connections} connections");
    assert!(sim.stats().of(1, Count::Pings) > 0);
    assert_eq!(gateway.peer(1).tally.connections.get(), 1, "who answers is kept");
}
