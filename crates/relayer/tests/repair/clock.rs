//! No correction of a wrong clock, at any time, makes a missing event count as proven.

use std::time::Duration;

use futures_util::future::join_all;
use moltrade_relayer::config::Config;
use relay_sim::{Behaviour, Sim};
use wire::Signer;

use crate::gateway::Gateway;
use crate::proof::{an_hour_back, assert_claims_are_true, now, until_complete};

/// When the clock is corrected.
#[derive(Debug, Clone, Copy)]
enum When {
    /// While the relay is live.
    Live,
    /// While the relay is disconnected.
    Away,
    /// While the gateway is stopped.
    Stopped,
    /// While the gateway is stopped, followed by a reboot.
    Rebooted,
}

fn publish(sim: &Sim, created_at: u64, content: &str) {
    let event = Signer::from_seed(created_at).sign(created_at, 1, &[] as &[Vec<String>], content);
    sim.publish([0], event.json().clone());
}

async fn lose(gateway: &Gateway, sim: &Sim) {
    sim.behave(0, Behaviour::Refusing);
    sim.drop_connections(0);
    gateway.until("it is lost", |gateway| !gateway.peer(0).state().is_connected()).await;
}

/// The gateway starts with a wrong clock, which is corrected later. The relay gets an event in each
/// phase.
async fn wrong_by(seconds: i64, when: When) {
    println!("wrong by {seconds} s, set right when {when:?}");
    let sim = Sim::builder().seed(71).relays(1).events(20).copies(1).stored(1.0);
    let sim = sim.start().await.expect("starts");
    let mut gateway = Gateway::configured(&sim, |_| {}).await;
    gateway
        .restart(|config| {
            an_hour_back(config);
            config.relay.health_check_interval = Duration::from_millis(50);
            config.relay.overlap = Duration::ZERO;
        })
        .await;
    gateway.until("it is live", |gateway| gateway.peer(0).is_live()).await;
    gateway.manual_clock.step_secs(seconds);
    gateway.restart(|_| {}).await;
    gateway.until("it is live", |gateway| gateway.peer(0).is_live()).await;
    let wrong_now = now().saturating_add_signed(seconds);
    until_complete(&gateway, &[0], wrong_now - 1).await;
    publish(&sim, now(), "the clock is wrong");
    until_complete(&gateway, &[0], wrong_now + 1).await;
    match when {
        When::Live => {
            gateway.manual_clock.step_secs(-seconds);
            until_complete(&gateway, &[0], now()).await;
            gateway.until_logged(sim.ids()).await;
            lose(&gateway, &sim).await;
            publish(&sim, now(), "missed");
        }
        When::Away => {
            lose(&gateway, &sim).await;
            publish(&sim, now(), "missed while it is wrong");
            gateway.manual_clock.step_secs(-seconds);
            publish(&sim, now(), "missed");
        }
        When::Stopped | When::Rebooted => {
            lose(&gateway, &sim).await;
            let manual_clock = gateway.manual_clock.clone();
            let meanwhile = |_: &mut Config| {
                manual_clock.step_secs(-seconds);
                publish(&sim, now(), "missed");
                if matches!(when, When::Rebooted) {
                    manual_clock.reboot();
                }
            };
            gateway.restart(meanwhile).await;
        }
    }
    let returned = now();
    sim.behave(0, Behaviour::Normal);
    gateway.until_logged(sim.ids()).await;
    until_complete(&gateway, &[0], returned).await;
    let until = gateway.peer(0).coverage().expect("contact").until();
    assert!(until <= now(), "{until} is not over yet");
    assert_claims_are_true(&gateway, &sim, 0);
    // The coverage continues after the reconnect.
    lose(&gateway, &sim).await;
    publish(&sim, now(), "later");
    sim.behave(0, Behaviour::Normal);
    gateway.until_logged(sim.ids()).await;
    assert_claims_are_true(&gateway, &sim, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn once_the_clock_is_set_back_the_future_is_not_shown_as_proven_though_the_relay_is_away() {
    let sim = Sim::builder().seed(72).relays(1).events(20).copies(1).stored(1.0);
    let sim = sim.start().await.expect("starts");
    let mut gateway = Gateway::configured(&sim, |_| {}).await;
    gateway.manual_clock.step_secs(7_200);
    gateway
        .restart(|config| {
            an_hour_back(config);
            config.relay.health_check_interval = Duration::from_millis(50);
        })
        .await;
    until_complete(&gateway, &[0], now() + 7_200).await;
    lose(&gateway, &sim).await;
    let claims_the_future = |gateway: &Gateway| {
        gateway.peer(0).coverage().and_then(|coverage| coverage.proven_until()) > Some(now())
    };
    assert!(claims_the_future(&gateway));
    gateway.manual_clock.step_secs(-7_200);
    gateway.until("no future is claimed", |gateway| !claims_the_future(gateway)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_back_is_not_believed_below_what_the_log_has() {
    let sim = Sim::builder().seed(73).relays(1).events(5).copies(1).stored(1.0);
    let sim = sim.start().await.expect("starts");
    let gateway = Gateway::on(&sim).await;
    let began_ms = gateway.log.clock().unix_ms();
    gateway.until_logged(sim.ids()).await;
    gateway.manual_clock.step_secs(-86_400);
    gateway
        .until("the clock knows of the log's events", |gateway| {
            gateway.log.clock().at_least_the_log_ms() >= began_ms
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_6_a_clock_that_was_wrong_leaves_no_hole_that_is_called_proven() {
    let whens = [When::Live, When::Away, When::Stopped, When::Rebooted];
    let all = [7_200, -7_200, 90_000, -90_000]
        .into_iter()
        .flat_map(|seconds| whens.into_iter().map(move |when| wrong_by(seconds, when)));
    join_all(all).await;
}
