//! The live tail, an event with its provenance, and refused events.

use std::sync::Arc;
use std::time::Duration;

use moltrade_relayer::testing::TestGateway;
use relay_sim::Sim;
use relay_sim::wait::until;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{MissedTickBehavior, interval};
use wire::Signer;

use crate::browser::drive;
use crate::gateway::{HOSTILE, event, start, submit};

/// The kind of the events that arrive faster than a browser can draw them.
const FAST: u16 = 42;

/// How many of them arrive at once, and after how many ticks: more than the page draws at once.
const BURST: usize = 1_200;
const BURST_TICKS: u32 = 12;

/// Adds events to the log until it is dropped: a few of the kinds 1 and 7, a hostile one of the
/// author, and bursts of the kind [`FAST`].
async fn fill(gateway: Arc<TestGateway>, author: Signer) {
    let key = Signer::from_seed(8);
    let mut ticks = interval(Duration::from_millis(250));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for tick in (0..BURST_TICKS).cycle() {
        ticks.tick().await;
        let slow = [1, 7].map(|kind| event(&key, kind, &format!("an event of kind {kind}")));
        let slow = slow.into_iter().chain([event(&author, 1, HOSTILE)]);
        let burst = if tick == 0 { BURST } else { 0 };
        let fast = (0..burst).map(|number| event(&key, FAST, &number.to_string()));
        submit(&gateway, slow.chain(fast).collect::<Vec<_>>());
    }
}

/// The same event with a signature of another one.
fn forged(key: &Signer) -> (String, String) {
    let (claimed, other) = (event(key, 1, "genuine"), event(key, 1, "other"));
    let mut text: Value = serde_json::from_slice(claimed.json()).unwrap();
    let other: Value = serde_json::from_slice(other.json()).unwrap();
    text["sig"] = other["sig"].clone();
    (claimed.id().to_string(), text.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_followed_with_a_filter() {
    let folder = TempDir::new().unwrap();
    let gateway = Arc::new(start(&folder, "", |_| {}).await);
    let author = Signer::from_seed(10);
    let arguments = json!({ "hostile": HOSTILE, "author": author.pubkey().to_string(), "fast": FAST });
    let filling = tokio::spawn(fill(Arc::clone(&gateway), author));
    drive("log", gateway.address, arguments).await;
    filling.abort();
    let _ = filling.await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stored_and_refused_events_are_explained() {
    let folder = TempDir::new().unwrap();
    let sim = Sim::builder().scripted(3).start().await.unwrap();
    let text = "[[output.tcp]]\nname = 'nowhere'\naddress = '127.0.0.1:1'\nstart = 'oldest'";
    let gateway = start(&folder, text, |setup| {
        let relays = &mut setup.loaded.config.relay.bootstrap_relays;
        *relays = sim.urls().iter().map(|url| url.parse().unwrap()).collect();
    })
    .await;
    sim.wait_subscribed(3).await;
    let key = Signer::from_seed(9);
    let hostile = event(&key, 1, HOSTILE);
    sim.publish([0], hostile.json().clone());
    until("the event is in the log", || gateway.log.head().get() == 1).await;
    let (refused, forgery) = forged(&key);
    sim.publish([1, 2], forgery);
    let (stored, relay) = (hostile.id().to_string(), sim.url(0));
    let arguments = json!({ "hostile": HOSTILE, "stored": stored, "refused": refused, "relay": relay });
    drive("events", gateway.address, arguments).await;
    drop(gateway);
    sim.stop().await;
}
