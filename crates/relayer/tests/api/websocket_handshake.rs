//! What a client's handshake offers, and who it says that it is.

use moltrade_relayer::config::Output;
use moltrade_relayer::telemetry::Metrics;

use crate::gateway::{Answer, Gateway, Setup};

/// Asks for a WebSocket with more headers.
async fn handshake(gateway: &Gateway, headers: &[&str]) -> Answer {
    let upgrade = [
        "host: x",
        "connection: Upgrade",
        "upgrade: websocket",
        "sec-websocket-version: 13",
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    gateway.call("GET", "/ws", &[&upgrade, headers].concat(), "").await
}

#[tokio::test]
async fn subprotocols_and_extensions_are_offered_in_vain() {
    let gateway = Gateway::start().await;
    for offer in [
        "sec-websocket-extensions: permessage-deflate; client_max_window_bits",
        "sec-websocket-protocol: nostr, soap",
    ] {
        let answer = handshake(&gateway, &[offer]).await;
        assert_eq!(answer.status, 101, "{offer}");
        assert_eq!(answer.header("sec-websocket-extensions"), None);
        assert_eq!(answer.header("sec-websocket-protocol"), None);
    }
}

#[tokio::test]
async fn an_upgrade_names_the_log() {
    let gateway = Gateway::start().await;
    let log = gateway.context.log.id().to_string();
    let answer = handshake(&gateway, &[]).await;
    assert_eq!((answer.status, answer.header("relayer-log")), (101, Some(&*log)));
}

#[tokio::test]
async fn any_page_may_read_unless_some_are_named() {
    let gateway = Gateway::start().await;
    assert_eq!(handshake(&gateway, &["origin: https://anywhere.example"]).await.status, 101);
    assert_eq!(handshake(&gateway, &["origin: null"]).await.status, 101);
}

#[tokio::test]
async fn pages_of_other_origins_are_refused() {
    let allowed_origins =
        ["https://app.example", "http://localhost:3000"].map(|origin| origin.parse().unwrap()).to_vec();
    let output = Output { allowed_origins, ..Output::default() };
    let gateway = Gateway::start_with(Setup { output, ..Setup::default() }).await;
    for origin in ["https://app.example", "http://localhost:3000"] {
        assert_eq!(handshake(&gateway, &[&format!("origin: {origin}")]).await.status, 101, "{origin}");
    }
    assert_eq!(handshake(&gateway, &[]).await.status, 101, "a program is no page");
    let others = [
        &["origin: https://evil.example"][..],
        &["origin: http://app.example"],
        &["origin: https://app.example:8443"],
        &["origin: https://app.example.evil.example"],
        &["origin: null"],
        &["origin: "],
        &["origin: https://app.example", "origin: https://evil.example"],
    ];
    for headers in others {
        let told = handshake(&gateway, headers).await.error(403, "origin_not_allowed");
        assert!(told.contains("[output] allowed_origins"), "{headers:?}: {told}");
    }
    let refused = |metrics: &Metrics| metrics.client_refused("origin_not_allowed").get();
    assert_eq!(refused(&gateway.context.metrics), others.len() as u64);
    assert_eq!(gateway.get("/health").await.status, 200);
}
