//! WebSocket examples whose connection gets an error or a close frame instead of events.

use relay_sim::Sim;
use relay_sim::wait::until_async;

use crate::consumer::{Consumer, Language};
use crate::program::{PATIENCE, Site};

#[tokio::test(flavor = "multi_thread")]
async fn rust_resumes_at_the_oldest_event_if_its_cursor_is_too_old() {
    resumes_at_the_oldest(Language::Rust).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_resumes_at_the_oldest_event_if_its_cursor_is_too_old() {
    resumes_at_the_oldest(Language::Python).await;
}

async fn resumes_at_the_oldest(language: Language) {
    const EVENTS: u64 = 3_000;
    let sim = Sim::builder().seed(41).relays(2).events(EVENTS as usize).start().await.expect("starts");
    let site = Site::on(&sim);
    let running = site.start().await;
    let mut everything = site.consumer("?cursor=0").await;
    for _ in 0..EVENTS {
        tokio::time::timeout(PATIENCE, everything.next()).await.expect("in time").expect("an event");
    }
    running.kill();
    // Retention runs as soon as the program starts.
    let running = site.start_with(&[("RELAYER_STORAGE__MAX_BYTES", (1 << 20).to_string())]).await;
    running.until_stderr_contains("events are served").await;
    let mut oldest = 1;
    let is_trimmed = async || {
        let summary = running.json("/api/metrics/summary").await;
        oldest = summary["log_floor_seq"].as_u64().expect("a number");
        oldest > 1
    };
    until_async("something is trimmed", is_trimmed).await;
    assert!(oldest > 101, "hardly anything was trimmed: {oldest}");
    let mut consumer = Consumer::new(language, "websocket", site.ws(""));
    consumer.write_state("100");
    consumer.start();
    consumer.until_printed(EVENTS).await;
    consumer.until_stderr_contains(&format!("events 101 to {} are lost", oldest - 1)).await;
    let seqs: Vec<u64> = consumer.printed().concat().iter().map(|line| line.seq).collect();
    assert_eq!(seqs, (oldest..=EVENTS).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_of_another_gateway_ends_it() {
    let site = Site::empty();
    let _running = site.start().await;
    for (language, reason) in [(Language::Rust, "400"), (Language::Python, "newest")] {
        let mut consumer = Consumer::new(language, "websocket", site.ws("?kinds=1"));
        consumer.write_state("7");
        consumer.start();
        assert!(!consumer.ended().await.success());
        assert!(consumer.stderr().contains(reason), "{}", consumer.stderr());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reason_of_a_close_is_printed() {
    let site = Site::empty();
    for language in [Language::Rust, Language::Python] {
        let mut running = site.start().await;
        let mut consumer = Consumer::new(language, "websocket", site.ws(""));
        consumer.start();
        consumer.until_stderr_contains("connected; going on after event 0").await;
        running.signal("TERM");
        assert!(running.ended().await.success());
        consumer.until_stderr_contains("1001").await;
        consumer.until_stderr_contains("the gateway is stopping").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_file_with_something_else_ends_it() {
    for language in [Language::Rust, Language::Python] {
        for (transport, target) in
            [("websocket", "ws://127.0.0.1:1/ws"), ("tcp", "127.0.0.1:0"), ("http", "127.0.0.1:0")]
        {
            let mut consumer = Consumer::new(language, transport, target);
            consumer.write_state("shopping list");
            consumer.start();
            assert!(!consumer.ended().await.success());
            assert!(consumer.stderr().contains("cursor.txt"), "{}", consumer.stderr());
        }
    }
}
