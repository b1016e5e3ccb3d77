//! Relays that limit subscriptions and filters.

use moltrade_relayer::config::Config;
use relay_sim::{Count, Information, Limits, Sim};
use serde_json::json;

use crate::gateway::Gateway;
use crate::only;

/// Kinds that do not fit into one filter, including those of the simulation.
fn many_kinds(config: &mut Config) {
    config.filters.allowed_kinds = (0..240).chain([1984]).chain(30_931..30_940).collect();
}

/// The number of filters in a REQ.
fn filters(request: &str) -> usize {
    let request: serde_json::Value = serde_json::from_str(request).expect("JSON");
    request.as_array().expect("an array").len() - 2
}

#[tokio::test(flavor = "multi_thread")]
async fn one_or_two_subscriptions_are_enough() {
    let sim = Sim::builder().seed(40).relays(2).events(400).copies(1).stored(0.5).hold().cap(30);
    let sim = sim.limits(only(0), Limits::new().subscriptions(1));
    let sim = sim.limits(only(1), Limits::new().subscriptions(2)).start().await.expect("starts");
    let gateway = Gateway::on(&sim).await;
    for relay in [0, 1] {
        gateway.until_in(relay, "live").await;
    }
    sim.go();
    gateway.until_logged(sim.ids()).await;
    gateway.assert_holds_exactly(&sim.events());
    assert_eq!([0, 1].map(|relay| sim.stats().of(relay, Count::RequestsRefused)), [0, 0]);
}

/// The relay's limit of one subscription shows only when it refuses a second.
#[tokio::test(flavor = "multi_thread")]
async fn one_subscription_that_nobody_stated_is_found_out() {
    let sim = Sim::builder().seed(43).relays(1).events(400).copies(1).stored(0.5).hold().cap(30);
    let sim = sim.limits(only(0), Limits::new().subscriptions(1)).information(only(0), Information::NotFound);
    let sim = sim.start().await.expect("starts");
    let gateway = Gateway::on(&sim).await;
    gateway.until_in(0, "live").await;
    sim.go();
    gateway.until_logged(sim.ids()).await;
    gateway.assert_holds_exactly(&sim.events());
    assert_eq!(sim.stats().of(0, Count::RequestsRefused), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_kinds_are_split_over_as_many_filters_as_a_relay_takes() {
    let sim = Sim::builder().seed(41).relays(3).events(300).copies(1).stored(0.5).hold();
    let sim = sim.limits(only(0), Limits::new().filters(3)).limits(only(1), Limits::new().filters(1));
    let sim = sim.start().await.expect("starts");
    let gateway = Gateway::configured(&sim, many_kinds).await;
    for relay in 0..3 {
        gateway.until_in(relay, "live").await;
    }
    sim.go();
    gateway.until_logged(sim.ids()).await;
    gateway.assert_holds_exactly(&sim.events());
    let most = |relay| sim.requests(relay).iter().map(|request| filters(request)).max();
    assert_eq!([0, 1, 2].map(most), [Some(3), Some(1), Some(1)]);
    assert_eq!(sim.stats().get(Count::RequestsRefused), 0);
}

/// The relay states ten filters and accepts one. The gateway learns the real limit before it
/// simplifies any other part of the request.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_takes_fewer_filters_than_it_says_gets_one() {
    let sim = Sim::builder().seed(42).relays(1).events(100).copies(1).stored(0.5).hold();
    let told = json!({ "limitation": { "max_filters": 10 } });
    let sim = sim.limits(only(0), Limits::new().filters(1)).information(only(0), Information::Altered(told));
    let sim = sim.start().await.expect("starts");
    let gateway = Gateway::configured(&sim, many_kinds).await;
    gateway.until_in(0, "live").await;
    // The next connection begins with the live subscription, which uses the learned limit.
    sim.drop_connections(0);
    gateway.until("it is back", |gateway| gateway.peer(0).stats.connections.get() == 2).await;
    sim.go();
    gateway.until_logged(sim.ids()).await;
    gateway.assert_holds_exactly(&sim.events());
    assert_eq!(sim.stats().of(0, Count::RequestsRefused), 1);
    let asked = sim.requests(0);
    assert!(asked.iter().all(|request| request.contains(r#""kinds":["#)), "kinds are still asked for");
    let live: Vec<_> = asked.iter().filter(|request| request.starts_with(r#"["REQ","r""#)).collect();
    assert!(live.iter().all(|request| request.contains(r#""limit":0"#)), "{live:?}");
}
