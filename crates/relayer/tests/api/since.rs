//! `since`: reading starts at a time of receipt.

use std::time::Instant;

use moltrade_relayer::clock::unix_secs;
use moltrade_relayer::event_log::{Submission, Verified};
use relay_sim::wait::until;

use crate::consumer_client::Client;
use crate::event_client::EventClient;
use crate::gateway::{Gateway, RELAY, next_seqs};

/// The first sequence of a page.
async fn first(gateway: &Gateway, query: &str) -> Option<u64> {
    let page = gateway.get(&format!("/api/events?{query}&limit=1")).await.json();
    page["events"]
        .as_array()
        .unwrap_or_else(|| panic!("{page}"))
        .first()
        .and_then(|event| event["seq"].as_u64())
}

/// Appends events that were received at these times, in Unix milliseconds, in this order.
async fn append_received(gateway: &Gateway, times: impl IntoIterator<Item = u64>) {
    let first = gateway.log.head().get() + 1;
    let received = |(seq, received_at_ms)| {
        let event = gateway.event(seq);
        let received = Instant::now();
        Submission::Event(Verified { event, relay: RELAY.into(), received_at_ms, received, budget: None })
    };
    let all: Vec<_> = (first..).zip(times).map(received).collect();
    let head = first - 1 + all.len() as u64;
    gateway.submit(all);
    until("the events are committed", || gateway.log.head().get() == head).await;
}

/// The events of these tests were received at 1, 2, 3 … seconds.
#[tokio::test(flavor = "multi_thread")]
async fn reading_starts_with_the_first_event_received_at_that_time() {
    let gateway = Gateway::start().await;
    gateway.append_numbered(200).await;
    for (since, seq) in [(0, 1), (1, 1), (2, 2), (120, 120), (200, 200)] {
        assert_eq!(first(&gateway, &format!("since={since}")).await, Some(seq), "{since}");
    }
    assert_eq!(first(&gateway, "since=195&kinds=7").await, None);
    // Without such an event, only new ones come.
    for since in ["201".to_owned(), unix_secs().to_string(), (unix_secs() + 30).to_string()] {
        assert_eq!(first(&gateway, &format!("since={since}")).await, None, "{since}");
    }
    let page = gateway.get("/api/events?since=150&limit=10").await.json();
    assert_eq!((page["next_cursor"].as_u64(), page["head"].as_u64()), (Some(159), Some(200)));
    let mut socket = gateway.connect("?since=198").await;
    assert_eq!(next_seqs(&mut socket, 3).await, [198, 199, 200], "envelopes, as with a cursor");
    let mut stream = EventClient::connect(&gateway, "?since=198", 197).await;
    stream.expect([198, 199, 200]).await;
    let mut late = EventClient::connect(&gateway, "?since=1000", 200).await;
    gateway.append_numbered(1).await;
    late.expect([201]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_consumer_may_start_at_a_time() {
    let gateway = Gateway::start().await;
    gateway.append_numbered(20).await;
    let mut consumer = Client::connect(&gateway, "?consumer=a&since=11").await;
    consumer.expect([11]).await;
    consumer.ack(11).await;
    consumer.leave(&gateway, "a").await;
    Client::connect(&gateway, "?consumer=a&since=1").await.expect(12..=20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_before_the_oldest_stored_event_means_that_event() {
    let gateway = Gateway::start().await;
    gateway.append_numbered(20).await;
    gateway.trim_below(10);
    for since in [0, 5, 10] {
        assert_eq!(first(&gateway, &format!("since={since}")).await, Some(10), "{since}");
    }
    assert_eq!(first(&gateway, "since=11").await, Some(11));
    gateway.trim_below(21);
    let mut socket = gateway.connect("?since=5").await;
    gateway.append_numbered(1).await;
    assert_eq!(next_seqs(&mut socket, 1).await, [21]);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_start_positions_and_the_future_are_refused() {
    let gateway = Gateway::start().await;
    gateway.append_numbered(5).await;
    let future = unix_secs() + 3_600;
    for path in ["/ws", "/api/events", "/api/events/stream"] {
        let told = gateway.get(&format!("{path}?since=1&cursor=1")).await.error(400, "bad_since");
        assert!(told.contains("without `cursor` and `seek`"), "{told}");
        let told = gateway.get(&format!("{path}?since={future}")).await.error(400, "since_ahead");
        assert!(told.contains("is in the future: the gateway's clock says"), "{told}");
        // Milliseconds are a likely mistake.
        gateway.get(&format!("{path}?since={}000", unix_secs())).await.error(400, "since_ahead");
        gateway.get(&format!("{path}?since=yesterday")).await.error(400, "bad_since");
    }
    gateway.get("/fanout?since=1").await.error(400, "unknown_parameter");
}

/// A batch is sorted by `created_at`, so the time of receipt is not.
#[tokio::test(flavor = "multi_thread")]
async fn events_that_were_committed_out_of_order_are_not_missed() {
    let gateway = Gateway::start().await;
    append_received(&gateway, (1..=1_000).map(|n| 100_000 + n)).await;
    append_received(&gateway, (1..=1_000).rev().map(|n| 200_000 + n)).await;
    append_received(&gateway, [150_000, 400_000, 199_000, 399_000, 150_000, 500_000]).await;
    assert_eq!(first(&gateway, "since=101").await, Some(1_000), "the first event received at 101 s");
    assert_eq!(first(&gateway, "since=201").await, Some(1_001), "it is before events received earlier");
    for since in [202, 300, 399, 400] {
        assert_eq!(first(&gateway, &format!("since={since}")).await, Some(2_002), "{since}");
    }
    assert_eq!(first(&gateway, "since=401").await, Some(2_006));
}

/// After a step of the clock, a time may occur twice. Reading starts at the second at the latest.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_was_set_back_does_not_hide_later_events() {
    let gateway = Gateway::start().await;
    const HOUR: u64 = 30_000;
    append_received(&gateway, (1..=HOUR).map(|n| 1_000 * n)).await;
    append_received(&gateway, (1..=HOUR).map(|n| 1_000 * (n + HOUR / 2))).await;
    let since = HOUR * 3 / 4;
    let seq = first(&gateway, &format!("since={since}")).await.expect("an event");
    assert!((since..=HOUR + since - HOUR / 2).contains(&seq), "{seq}");
}
