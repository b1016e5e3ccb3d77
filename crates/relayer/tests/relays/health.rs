//! Health checks: the second check detects a relay that does not answer.

use std::time::Duration;

use relay_sim::{Count, Fault, Sim};

use crate::gateway::Gateway;
use crate::only;

/// The limit is a number of health checks, not a time: one that gets no answer, and one that
/// detects the silence.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_does_not_answer_is_given_up_at_the_second_check() {
    let sim = Sim::builder().seed(70).scripted(2).fault(Fault::NoPongs, only(0), 1.0);
    let sim = sim.start().await.expect("starts");
    let gateway = Gateway::configured(&sim, |config| {
        config.relay.health_check_interval = Duration::from_millis(600);
    })
    .await;
    let third = |gateway: &Gateway| gateway.peer(0).stats.connections.get() == 3;
    gateway.until("it was given up twice", third).await;
    assert_eq!(gateway.until_in(0, "backing_off").await, "the relay did not answer a ping");
    // One ping for each ended connection, and a further one if a connection answered at its first
    // check only.
    let pings = sim.stats().of(0, Count::Pings);
    assert!((2..=3).contains(&pings), "{pings} pings on two connections");
    assert!(sim.stats().of(1, Count::Pings) > 0);
    assert_eq!(gateway.peer(1).stats.connections.get(), 1, "who answers is kept");
}
