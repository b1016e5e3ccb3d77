//! The limits and the consumers of readers.

use relay_sim::wait::until;
use serde_json::json;
use tokio_websockets::Message;

use crate::event_client::EventClient;
use crate::gateway::{Gateway, Setup};
use crate::readers::{ADMIN, Socket, ask, bearer, closed, connect, next, ticket};

const A: &str = "token-of-the-reader-a";
const B: &str = "token-of-the-reader-b";

async fn start(options_of_a: &str) -> Gateway {
    let api = format!(
        "[[api.readers]]\nname = 'a'\ntoken = '{A}'\n{options_of_a}\n[[api.readers]]\nname = 'b'\ntoken = '{B}'"
    );
    Gateway::start_with(Setup { api, admin_token: Some(ADMIN), ..Setup::default() }).await
}

/// Requests a WebSocket with a token, and expects that the gateway refuses it.
async fn refused(gateway: &Gateway, query: &str, token: &str) -> crate::gateway::Response {
    let upgrade = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==";
    gateway.call("GET", &format!("/ws{query}"), &["host: x", upgrade, &bearer(token)], "").await
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_of_a_reader_are_limited() {
    let gateway = start("max_connections = 2").await;
    let first = connect(&gateway, "", &bearer(A)).await.unwrap();
    let query = format!("?ticket={}", ticket(&gateway, A).await);
    let _second = EventClient::open(gateway.address, &query, &[]).await;
    let answer = refused(&gateway, "", A).await;
    let told = answer.error(429, "too_many_connections_of_reader");
    assert!(told.contains("max_connections"), "{told}");
    assert_eq!(answer.header("retry-after"), Some("5"));
    ask(&gateway, "GET", "/api/events/stream", A).await.error(429, "too_many_connections_of_reader");
    assert_eq!(ask(&gateway, "GET", "/status", A).await.status, 200, "other requests are not counted");
    connect(&gateway, "", &bearer(B)).await.unwrap();
    connect(&gateway, "", &bearer(ADMIN)).await.unwrap();
    drop(first);
    until("there is room", || gateway.metrics_text().contains("reader_connections{reader=\"a\"} 1")).await;
    connect(&gateway, "", &bearer(A)).await.unwrap();
    // A refused handshake frees its place.
    let gateway = start("max_connections = 1").await;
    for _ in 0..3 {
        refused(&gateway, "?cursor=9", A).await.error(400, "cursor_ahead");
    }
    connect(&gateway, "", &bearer(A)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_a_reader_are_limited() {
    let gateway = start("max_requests_per_minute = 3").await;
    let ticket = ticket(&gateway, A).await;
    for target in ["/status", "/api/events"] {
        assert_eq!(ask(&gateway, "GET", target, A).await.status, 200);
    }
    for target in ["/status", "/api/events", "/api/events/stream", &format!("/status?ticket={ticket}")] {
        let token = if target.contains("ticket") { "" } else { A };
        let answer = ask(&gateway, "GET", target, token).await;
        let told = answer.error(429, "too_many_requests_of_reader");
        assert!(told.contains("max_requests_per_minute"), "{told}");
        let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=20).contains(&wait), "{wait}");
    }
    ask(&gateway, "POST", "/api/tickets", A).await.error(429, "too_many_requests_of_reader");
    assert_eq!(ask(&gateway, "GET", "/status", B).await.status, 200);
    assert_eq!(ask(&gateway, "GET", "/status", ADMIN).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn unused_tickets_of_a_reader_are_limited() {
    let gateway = start("").await;
    for _ in 0..100 {
        ticket(&gateway, A).await;
    }
    let answer = ask(&gateway, "POST", "/api/tickets", A).await;
    answer.error(429, "too_many_tickets");
    assert_eq!(answer.header("retry-after"), Some("31"));
    ticket(&gateway, B).await;
    ticket(&gateway, ADMIN).await;
}

async fn acknowledge(socket: &mut Socket, seq: u64) {
    use futures_util::SinkExt;
    socket.send(Message::text(format!("{{\"ack\":{seq}}}"))).await.unwrap();
}

fn cursor(gateway: &Gateway, key: &str) -> Option<u64> {
    let list = gateway.consumers.list();
    list.into_iter().find(|(name, _)| **name == *key).map(|(_, row)| row.cursor.get())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_cannot_touch_the_consumers_of_others() {
    let gateway = start("").await;
    gateway.append_numbered(5).await;
    let query = "?consumer=indexer&cursor=0";
    let mut of_a = connect(&gateway, query, &bearer(A)).await.unwrap();
    assert_eq!(next(&mut of_a).await["seq"], 1);
    assert_eq!(next(&mut of_a).await["seq"], 2);
    acknowledge(&mut of_a, 2).await;
    until("the cursor moved", || cursor(&gateway, "a/indexer") == Some(2)).await;
    // The same name, with another token, is another consumer.
    let mut of_b = connect(&gateway, query, &bearer(B)).await.unwrap();
    assert_eq!(next(&mut of_b).await["seq"], 1);
    drop(connect(&gateway, "?consumer=indexer&seek=5", &bearer(B)).await.unwrap());
    drop(connect(&gateway, "?consumer=indexer&seek=4", &bearer(ADMIN)).await.unwrap());
    until("they are there", || {
        let cursors = ["a/indexer", "b/indexer", "indexer"].map(|key| cursor(&gateway, key));
        cursors == [Some(2), Some(5), Some(4)]
    })
    .await;
    assert_eq!(closed(&mut of_b).await.0, 1008, "a reader takes over its own consumer");
    // A's connection has not been taken over.
    assert_eq!(next(&mut of_a).await["seq"], 3);
    refused(&gateway, "?consumer=a%2Findexer", B).await.error(400, "bad_consumer");
    // Reconnecting continues.
    drop(of_a);
    let mut of_a = connect(&gateway, query, &bearer(A)).await.unwrap();
    assert_eq!(next(&mut of_a).await["seq"], 3);
    let listed = ask(&gateway, "GET", "/api/consumers", B).await.json();
    let names: Vec<_> =
        listed["consumers"].as_array().unwrap().iter().map(|one| one["name"].clone()).collect();
    assert_eq!(names, [json!("a/indexer"), json!("b/indexer"), json!("indexer")]);
    until("b is gone", || gateway.clients.connected() == 1).await;
    let forgotten = ask(&gateway, "DELETE", "/api/consumers/b%2Findexer", ADMIN).await.json();
    assert_eq!(forgotten, json!({ "forgotten": true, "name": "b/indexer" }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_gets_a_token_loses_nothing_silently() {
    let gateway = start("").await;
    gateway.append_numbered(5).await;
    drop(connect(&gateway, "?consumer=indexer&seek=2", &bearer(ADMIN)).await.unwrap());
    let told = refused(&gateway, "?consumer=indexer", A).await.error(409, "consumer_without_reader");
    assert!(
        told.contains("is at cursor 2") && told.contains("cursor=2") && told.contains("cursor=5"),
        "{told}"
    );
    assert_eq!(cursor(&gateway, "a/indexer"), None);
    let mut continued = connect(&gateway, "?consumer=indexer&cursor=2", &bearer(A)).await.unwrap();
    assert_eq!(next(&mut continued).await["seq"], 3);
    acknowledge(&mut continued, 3).await;
    until("the cursor moved", || cursor(&gateway, "a/indexer") == Some(3)).await;
    drop(continued);
    // From now on, the reader's own consumer counts.
    let mut continued = connect(&gateway, "?consumer=indexer", &bearer(A)).await.unwrap();
    assert_eq!(next(&mut continued).await["seq"], 4);
    assert_eq!(cursor(&gateway, "indexer"), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn consumers_of_a_reader_are_limited() {
    let gateway = start("max_consumers = 2").await;
    for name in ["x", "y"] {
        let mut socket =
            connect(&gateway, &format!("?consumer={name}&heartbeat=5"), &bearer(A)).await.unwrap();
        gateway.append_numbered(1).await;
        let seq = next(&mut socket).await["seq"].as_u64().unwrap();
        acknowledge(&mut socket, seq).await;
        until("acknowledged", || cursor(&gateway, &format!("a/{name}")) == Some(seq)).await;
    }
    let told = refused(&gateway, "?consumer=z", A).await.error(409, "too_many_consumers_of_reader");
    assert!(told.contains("max_consumers"), "{told}");
    connect(&gateway, "?consumer=z", &bearer(B)).await.unwrap();
    connect(&gateway, "?consumer=z", &bearer(ADMIN)).await.unwrap();
    connect(&gateway, "?consumer=y", &bearer(A)).await.unwrap();
}
