//! The log gets a new identity, as after a restore. An example that has a stored cursor is refused,
//! reports the refusal, and starts over.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use relay_sim::Sim;
use wire::Signer;

use crate::consumer::{Consumer, Language};
use crate::follower::{Follower, register};
use crate::program::{Running, Site};

/// Stops the gateway, gives its log a new identity, and restarts the gateway.
async fn renew(site: &Site, running: Running) -> (Running, String) {
    running.kill();
    let output = site.run_with(&["new-log-id"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let running = site.start().await;
    let log = running.json("/status").await["log"]["id"].as_str().expect("an identity").to_owned();
    (running, log)
}

#[tokio::test(flavor = "multi_thread")]
async fn rust_starts_over() {
    consumer_starts_over(Language::Rust).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_starts_over() {
    consumer_starts_over(Language::Python).await;
}

async fn consumer_starts_over(language: Language) {
    const EVENTS: u64 = 40;
    let sim = Sim::builder().seed(61).relays(2).events(EVENTS as usize).start().await.expect("starts");
    let site = Site::on(&sim);
    let running = site.start().await;
    let mut consumer = Consumer::new(language, "websocket", site.ws(""));
    consumer.start();
    consumer.until_printed(EVENTS).await;
    consumer.kill();
    let (running, log) = renew(&site, running).await;
    consumer.start();
    consumer.until_stderr_contains("a backup of the gateway was restored; starting over").await;
    consumer.until_state(&format!("{log}:{EVENTS}")).await;
    let lives = consumer.printed();
    assert_eq!(lives[0], lives[1], "all that there is came again");
    drop(running);
}

#[tokio::test(flavor = "multi_thread")]
async fn rust_follows_anew() {
    follower_starts_over(Language::Rust).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_follows_anew() {
    follower_starts_over(Language::Python).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn javascript_follows_anew() {
    follower_starts_over(Language::JavaScript).await;
}

async fn follower_starts_over(language: Language) {
    let sim = Arc::new(Sim::builder().seed(62).scripted(1).start().await.expect("starts"));
    let site = Site::on(&sim);
    let running = site.start().await;
    let gateway = format!("http://127.0.0.1:{}", site.port());
    let [bot, key] = [1, 2].map(Signer::from_seed);
    register(language, &gateway, &bot, "Momentum");
    let mut follower = Follower::new(language, &gateway, &bot.pubkey().to_string(), &key);
    follower.start();
    follower.until_stderr_contains("connected; going on after 0").await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    for name in ["one", "two"] {
        let event = bot.sign(now, 30931, &[["d", name]], "buy");
        sim.publish(0..1, event.json().clone());
    }
    follower.until_lines(2).await;
    follower.kill();
    let (running, log) = renew(&site, running).await;
    follower.start();
    follower.until_stderr_contains("a backup was restored; starting over").await;
    follower.until_lines(4).await;
    let lives = follower.printed();
    assert_eq!(lives[0], lives[1], "all that there is came again");
    follower.until_state_contains(&log).await;
    drop(running);
}
