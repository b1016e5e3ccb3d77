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
use crate::gateway::{HOSTILE, TOKEN, event, start, submit};

/// The kind of the events that arrive faster than a browser can draw them.
const FAST: u16 = 42;

/// Adds events to the log until it is dropped: a few of the kinds 1 and 7, a hostile one of the
/// author, and many of the kind [`FAST`].
async fn fill(gateway: Arc<TestGateway>, author: Signer) {
    let key = Signer::from_seed(8);
    let mut ticks = interval(Duration::from_millis(250));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let slow = [1, 7].map(|kind| event(&key, kind, &format!("an event of kind {kind}")));
        let slow = slow.into_iter().chain([event(&author, 1, HOSTILE)]);
        let fast = (0..200).map(|number| event(&key, FAST, &number.to_string()));
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
async fn the_log_is_followed_and_events_are_explained() {
    let folder = TempDir::new().unwrap();
    let sim = Sim::builder().scripted(3).start().await.unwrap();
    let text = "[[output.tcp]]\nname = 'nowhere'\naddress = '127.0.0.1:1'\nstart = 'oldest'";
    let gateway = start(&folder, text, |setup| {
        setup.loaded.config.relay.bootstrap_relays =
            sim.urls().iter().map(|url| url.parse().unwrap()).collect();
    })
    .await;
    sim.wait_subscribed(3).await;
    let (key, author) = (Signer::from_seed(9), Signer::from_seed(10));
    let hostile = event(&key, 1, HOSTILE);
    sim.publish([0], hostile.json().clone());
    until("the event is in the log", || gateway.log.head().get() == 1).await;
    let (refused, forgery) = forged(&key);
    sim.publish([1, 2], forgery);
    let url = sim.url(0);
    let pubkey = author.pubkey().to_string();
    let gateway = Arc::new(gateway);
    let filling = tokio::spawn(fill(Arc::clone(&gateway), author));
    let arguments = json!({
        "token": TOKEN, "hostile": HOSTILE, "stored": hostile.id().to_string(), "refused": refused, "relay": url,
        "author": pubkey, "fast": FAST,
    });
    drive("log", gateway.address, arguments).await;
    filling.abort();
    let _ = filling.await;
    drop(gateway);
    sim.stop().await;
}
