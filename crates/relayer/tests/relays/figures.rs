//! The statistics of each relay.

use std::time::Duration;

use relay_sim::Sim;

use crate::gateway::Gateway;

#[tokio::test(flavor = "multi_thread")]
async fn who_was_first_who_was_late_and_how_long_each_was_there() {
    let sim = Sim::builder().seed(110).scripted(2).start().await.expect("starts");
    let gateway = Gateway::configured(&sim, |config| {
        config.relay.health_check_interval = Duration::from_millis(50);
    })
    .await;
    gateway.until_in(0, "live").await;
    gateway.until_in(1, "live").await;
    let events = sim.publish_many(&[0], 1, &[1_700_000_000; 300]);
    gateway.until_logged(events.iter().map(wire::VerifiedEvent::id)).await;
    for event in &events {
        sim.publish([1], event.json().clone());
    }
    let [one, other] = [gateway.peer(0), gateway.peer(1)];
    gateway.until("the copies were read", |_| other.stats.copies.get() == 300).await;
    assert_eq!((one.stats.first.get(), other.stats.first.get()), (300, 0));
    assert_eq!(one.stats.copies.get(), 0);
    assert_eq!(one.stats.lateness_ms(), None, "who is first is not late");
    assert!(other.stats.lateness_ms().expect("it is") > 0.0);
    assert!(one.stats.bytes.get() > 300 * 200 && one.stats.frames.get() >= 300);

    gateway.until("a ping was answered", |_| one.rtt().is_some() && other.rtt().is_some()).await;
    let uptime = one.uptime();
    assert!(!uptime.is_zero());
    gateway.until("it grows", |_| one.uptime() > uptime).await;
    sim.behave(0, relay_sim::Behaviour::Refusing);
    sim.drop_connections(0);
    gateway.until("it is away", |_| one.state().label() == "backing_off").await;
    let before = one.uptime();
    assert_eq!(one.uptime(), before, "it stands still");
    sim.behave(0, relay_sim::Behaviour::Normal);
    gateway.until("it is back", |_| one.stats.connections.get() >= 2).await;
    gateway.until("it goes on", |_| one.uptime() > before).await;
    assert_eq!(other.stats.connections.get(), 1);
}
