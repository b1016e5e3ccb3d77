//! `/api/events/stream`: events, ids, resumption, refusals, and the shared limits.

use std::num::NonZeroUsize;

use moltrade_relayer::config::Output;
use moltrade_relayer::limits::CLIENT_DRAIN_MAX;
use moltrade_relayer::serve::{ClientRefusal, CloseReason};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use relay_sim::wait::{until, until_async};
use serde_json::json;

use crate::event_client::{End, EventClient, StreamEvent, request};
use crate::gateway::{self, Gateway, Response, Setup, until_closed};

/// A closing event.
fn close(code: u16, reason: &str, retry: Option<u64>) -> StreamEvent {
    let data = json!({ "close": { "code": code, "reason": reason } }).to_string();
    StreamEvent { name: Some("close".to_owned()), id: None, retry, data }
}

/// Requests a stream and expects a refusal.
async fn refused(gateway: &Gateway, query: &str, headers: &[&str]) -> Response {
    gateway::request(gateway.address, &request(&format!("/api/events/stream{query}"), headers)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn stored_and_live_events_have_their_sequence_as_id() {
    let gateway = Gateway::start().await;
    gateway.append_numbered(50).await;
    let mut client = EventClient::connect(&gateway, "?cursor=0", 0).await;
    client.expect(1..=50).await;
    gateway.append_numbered(1_000).await;
    client.expect(51..=1_050).await;
    let log = gateway.log.id().to_string();
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-store"),
        ("x-accel-buffering", "no"),
        ("connection", "close"),
        ("content-encoding", ""),
        ("content-length", ""),
        ("relayer-log", &log),
    ] {
        assert_eq!(client.header(name).unwrap_or_default(), value, "{}", client.head);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_cursor_only_new_events_come_and_the_first_id_is_the_head() {
    let gateway = Gateway::start().await;
    gateway.append_numbered(5).await;
    let client = EventClient::connect(&gateway, "", 5).await;
    drop(client);
    // A browser whose connection broke before the first event misses nothing.
    gateway.append_numbered(5).await;
    EventClient::reconnect(&gateway, "", 5).await.expect(6..=10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_selection_and_the_format_are_those_of_ws() {
    let gateway = Gateway::start().await;
    let none: [[&str; 2]; 0] = [];
    let events = (1..=40).map(|seq| gateway.signer.sign(seq, if seq % 10 == 0 { 7 } else { 1 }, &none, ""));
    gateway.append(events.collect()).await;
    let author = gateway.signer.pubkey();
    let queries = ["kinds=7", &format!("kinds=7&authors={author}"), "filter=%7B%22kinds%22:[7]%7D"];
    for query in queries {
        let mut client = EventClient::connect(&gateway, &format!("?cursor=0&{query}"), 0).await;
        client.expect([10, 20, 30, 40]).await;
    }
    let mut client = EventClient::connect(&gateway, "?cursor=38&format=event", 38).await;
    for seq in [39, 40] {
        let event = client.block().await.unwrap();
        assert_eq!((event.id, event.json()["created_at"].as_u64()), (Some(seq), Some(seq)));
    }
    // The format does not change with a reconnection.
    let mut client = EventClient::reconnect(&gateway, "", 39).await;
    assert_eq!(client.block().await.unwrap().json()["event"]["created_at"], 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_event_id_replaces_an_old_cursor() {
    let gateway = Gateway::start().await;
    gateway.append_numbered(20).await;
    gateway.trim_below(10);
    refused(&gateway, "?cursor=3", &[]).await.error(410, "cursor_too_old");
    EventClient::reconnect(&gateway, "?cursor=3", 15).await.expect(16..=20).await;
    EventClient::reconnect(&gateway, "?since=1", 15).await.expect(16..=20).await;
    let gone = refused(&gateway, "?cursor=15", &["last-event-id: 3"]).await;
    gone.error(410, "cursor_too_old");
    assert_eq!((gone.json()["oldest"].as_u64(), gone.json()["newest"].as_u64()), (Some(10), Some(20)));
    refused(&gateway, "", &["last-event-id: 21"]).await.error(400, "cursor_ahead");
    let log = gateway.log.id();
    let mut client =
        EventClient::open(gateway.address, "?cursor=3", &[&format!("last-event-id: {log}:19")]).await;
    assert_eq!(client.block().await.unwrap().id, Some(19));
    client.expect([20]).await;
    let other = "00000000000000af";
    refused(&gateway, "", &[&format!("last-event-id: {other}:19")]).await.error(409, "cursor_of_another_log");
    // A cursor in the URL names the log also for reconnections.
    let answer = refused(&gateway, &format!("?cursor={other}:3"), &["last-event-id: 19"]).await;
    answer.error(409, "cursor_of_another_log");
    for bad in [&["last-event-id: x"][..], &["last-event-id: "], &["last-event-id: 1", "last-event-id: 19"]] {
        let told = refused(&gateway, "", bad).await.error(400, "bad_last_event_id");
        assert!(told.contains("`Last-Event-ID` must be a sequence number"), "{bad:?}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_parameters_are_refused() {
    let gateway = Gateway::start().await;
    for (query, code) in [
        ("?cursor=x", "bad_cursor"),
        ("?cursor=1", "cursor_ahead"),
        ("?kinds=one", "bad_kinds"),
        ("?heartbeat=1", "bad_heartbeat"),
        ("?format=xml", "bad_format"),
        // A stream cannot acknowledge.
        ("?consumer=a", "unknown_parameter"),
        ("?seek=0", "unknown_parameter"),
        ("?limit=1", "unknown_parameter"),
    ] {
        let answer = refused(&gateway, query, &[]).await;
        answer.error(400, code);
    }
    assert_eq!(gateway.clients.connected(), 0);
}

/// A browser remembers the last id and reconnects whenever a connection breaks.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reconnects_like_a_browser_misses_and_repeats_nothing() {
    const EVENTS: u64 = 3_000;
    let gateway = Gateway::start().await;
    let mut random = StdRng::seed_from_u64(13);
    let receive = async {
        let (mut seqs, mut last_id) = (Vec::new(), None);
        while last_id.is_none_or(|id| id < EVENTS) {
            let mut client = match last_id {
                None => EventClient::connect(&gateway, "", 0).await,
                Some(id) => EventClient::reconnect(&gateway, "", id).await,
            };
            last_id.get_or_insert(0);
            for _ in 0..random.random_range(0..300) {
                if last_id == Some(EVENTS) {
                    break;
                }
                let seq = client.next().await.unwrap();
                last_id = Some(seq);
                seqs.push(seq);
            }
        }
        seqs
    };
    let append = async {
        // The first connection has no cursor.
        until("a client", || gateway.clients.connected() > 0).await;
        gateway.append_numbered(EVENTS).await;
    };
    let (seqs, ()) = tokio::join!(receive, append);
    assert_eq!(seqs, (1..=EVENTS).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn on_shutdown_streams_get_the_remaining_events_and_end() {
    let gateway = Gateway::start().await;
    let mut idle = EventClient::connect(&gateway, "?kinds=7", 0).await;
    gateway.append_numbered(2_000).await;
    let mut behind = EventClient::connect(&gateway, "?cursor=0", 0).await;
    let stop = gateway.drain_clients(CLIENT_DRAIN_MAX);
    let (idle, behind, left) = tokio::join!(idle.until_closed(), behind.until_closed(), stop);
    // A browser that came back before the end of the process would be refused for good.
    let stopping = || Some(close(1001, "the gateway is stopping", Some(10_000)));
    assert_eq!(idle, (vec![], stopping(), End::Complete));
    assert_eq!(behind, ((1..=2_000).collect(), stopping(), End::Complete));
    assert_eq!(left, 0);
    refused(&gateway, "", &[]).await.error(503, "stopping");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_behind_retention_is_told_so() {
    const EVENTS: u64 = 500; // 32 MiB: more than sockets buffer.
    let gateway = Gateway::start_with(Setup { tail_bytes: 1, ..Setup::default() }).await;
    let content = "x".repeat(64 << 10);
    let events = (1..=EVENTS).map(|n| gateway.signer.sign(n, 1, &[] as &[[&str; 0]], &content));
    gateway.append(events.collect()).await;
    let mut client = EventClient::connect(&gateway, "?cursor=0", 0).await;
    client.expect([1]).await;
    gateway.trim_below(EVENTS + 1);
    let (seqs, closed, end) = client.until_closed().await;
    let last = seqs.last().copied().unwrap_or(1);
    assert!(last < EVENTS, "it was not behind");
    assert_eq!(seqs, (2..=last).collect::<Vec<_>>());
    let reason = format!("cursor {last} is no longer kept; oldest is {}", EVENTS + 1);
    assert_eq!((closed, end), (Some(close(1008, &reason, None)), End::Complete));
    refused(&gateway, "", &[&format!("last-event-id: {last}")]).await.error(410, "cursor_too_old");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_and_websockets_share_their_limits_and_metrics() {
    let output = Output { max_clients: NonZeroUsize::new(2).unwrap(), ..Output::default() };
    let gateway = Gateway::start_with(Setup { output, ..Setup::default() }).await;
    let metrics = &gateway.metrics.websocket;
    let (socket, mut stream) = (gateway.connect("").await, EventClient::connect(&gateway, "", 0).await);
    assert_eq!((metrics.clients.get(), metrics.streams.get()), (2, 1));
    let answer = refused(&gateway, "", &[]).await;
    answer.error(503, "too_many_clients");
    assert_eq!(answer.header("retry-after"), Some("5"));
    gateway.refused("/ws").await.error(503, "too_many_clients");
    assert_eq!(metrics.refused[ClientRefusal::TooManyClients].get(), 2);
    gateway.append_numbered(1).await;
    stream.expect([1]).await;
    until("both messages are counted", || metrics.messages.get() == 2).await;
    drop(socket);
    until("a slot is free", || gateway.clients.connected() == 1).await;
    let second = EventClient::connect(&gateway, "", 1).await;
    drop((stream, second));
    until("all slots are free", || gateway.clients.connected() == 0).await;
    assert_eq!((metrics.clients.get(), metrics.streams.get()), (0, 0));
    assert_eq!(metrics.closed[CloseReason::Left].get(), 3);
}

/// As a WebSocket does, a stream frees the slot of its connection for other requests.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_does_not_count_among_the_connections() {
    let gateway = Gateway::start().await;
    let stream = EventClient::connect(&gateway, "", 0).await;
    // The request for the metrics counts itself.
    let only_request = async || gateway.get("/metrics").await.text.contains("\nconnections 1\n");
    until_async("only the request counts", only_request).await;
    drop(stream);
    until("it is gone", || gateway.clients.connected() == 0).await;
    until_async("nothing counts twice", only_request).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_and_a_stream_get_the_same() {
    let gateway = Gateway::start().await;
    let mut stream = EventClient::connect(&gateway, "?cursor=0", 0).await;
    let mut socket = gateway.connect("?cursor=0").await;
    gateway.append_numbered(100).await;
    stream.expect(1..=100).await;
    let stop = gateway.drain_clients(CLIENT_DRAIN_MAX);
    let ((seqs, end), _) = tokio::join!(until_closed(&mut socket), stop);
    assert_eq!((seqs, end), ((1..=100).collect(), "1001 the gateway is stopping".to_owned()));
}
