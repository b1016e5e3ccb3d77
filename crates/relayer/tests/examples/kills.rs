//! Kills each consumer example and the gateway with `kill -9`. Every event is printed in order, and
//! only events handled before the cursor was stored may repeat.

use std::net::SocketAddr;
use std::time::Duration;

use relay_sim::Sim;
use relay_sim::rng::Rng;

use crate::consumer::{Consumer, Language, Line, assert_complete, free_address};
use crate::http::SECRET;
use crate::program::{Running, Site};

const EVENTS: u64 = 1_500;
/// The number of kills of the consumer. Every third kill also kills the gateway.
const KILLS: u64 = 6;

#[tokio::test(flavor = "multi_thread")]
async fn rust_over_websocket() {
    over_websocket(Language::Rust, 31).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_over_websocket() {
    over_websocket(Language::Python, 32).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rust_over_tcp() {
    over_tcp(Language::Rust, 33).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_over_tcp() {
    over_tcp(Language::Python, 34).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rust_over_http() {
    over_http(Language::Rust, 35).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_over_http() {
    over_http(Language::Python, 36).await;
}

async fn over_websocket(language: Language, seed: u64) {
    let sim = start_sim(seed).await;
    let site = Site::on(&sim);
    let consumer = Consumer::new(language, "websocket", site.ws(""));
    survives_kills(&site, consumer, seed, 1).await;
}

async fn over_tcp(language: Language, seed: u64) {
    let sim = start_sim(seed).await;
    let address = free_address();
    let sinks = format!(
        "[{{ name = 'a', address = '{address}', framing = 'ndjson', ack = true, start = 'oldest' }}]"
    );
    let site = Site::on(&sim).set("RELAYER_OUTPUT__TCP", sinks);
    let consumer = Consumer::new(language, "tcp", address.to_string());
    survives_kills(&site, consumer, seed, 1).await;
}

/// The cursor is stored once per batch, so a whole batch may repeat.
async fn over_http(language: Language, seed: u64) {
    let sim = start_sim(seed).await;
    let address = free_address();
    let site = Site::on(&sim).set("RELAYER_OUTPUT__REST", http_sink(address));
    let consumer = Consumer::new(language, "http", address.to_string()).secret(SECRET);
    survives_kills(&site, consumer, seed, BATCH).await;
}

/// The maximum number of events in a request.
const BATCH: u64 = 100;

/// The configuration of a sink that posts to this address.
fn http_sink(address: SocketAddr) -> String {
    let target = format!("name = 'a', address = 'http://{address}/', start = 'oldest'");
    format!("[{{ {target}, batch = {BATCH}, secret = '{SECRET}' }}]")
}

async fn start_sim(seed: u64) -> Sim {
    let sim = Sim::builder().seed(seed).relays(4).events(EVENTS as usize).copies(2).per_second(500.0);
    sim.start().await.expect("starts")
}

/// Asserts that the consumer loses no event. After each kill, at most `repeats_max` events may
/// repeat.
async fn survives_kills(site: &Site, mut consumer: Consumer, seed: u64, repeats_max: u64) {
    let mut running = site.start().await;
    consumer.start();
    let mut rng = Rng::new(&[seed]);
    for kill in 1..=KILLS {
        consumer.until_printed(kill * EVENTS / (KILLS + 2)).await;
        // Each kill comes at a different moment.
        tokio::time::sleep(Duration::from_millis(rng.below(50) as u64)).await;
        if kill % 3 == 0 {
            running.kill();
            running = site.start().await;
        }
        consumer.kill();
        consumer.start();
    }
    // Only the gateway is killed, so the example must reconnect.
    running.kill();
    let running = site.start().await;
    consumer.until_printed(EVENTS).await;
    consumer.kill();
    let lives = consumer.printed();
    println!("lives: {:?}", lives.iter().map(Vec::len).collect::<Vec<_>>());
    let printed = assert_complete(&lives, repeats_max);
    assert_eq!(printed, logged(&running).await);
    assert_eq!(printed.len() as u64, EVENTS);
    assert!(lives.iter().filter(|life| !life.is_empty()).count() > 3, "too few kills hit a running transfer");
}

/// The events of the gateway's log.
async fn logged(running: &Running) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    loop {
        let after = lines.last().map_or(0, |line| line.seq);
        let page = running.json(&format!("/api/events?cursor={after}&limit=1000")).await;
        let events = page["events"].as_array().expect("a list");
        if events.is_empty() {
            return lines;
        }
        lines.extend(events.iter().map(|envelope| Line {
            seq: envelope["seq"].as_u64().expect("a number"),
            id: envelope["event"]["id"].as_str().expect("an id").to_owned(),
        }));
    }
}
