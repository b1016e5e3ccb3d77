//! Handshakes: subprotocols, extensions and origins.

use moltrade_relayer::config::Output;
use moltrade_relayer::serve::ClientRefusal;

use crate::gateway::{Gateway, Response, Setup};

/// Requests a WebSocket with extra headers.
async fn handshake(gateway: &Gateway, headers: &[&str]) -> Response {
    handshake_at(gateway, "/ws", &[&["host: x"], headers].concat()).await
}

async fn handshake_at(gateway: &Gateway, path: &str, headers: &[&str]) -> Response {
    let upgrade = [
        "connection: Upgrade",
        "upgrade: websocket",
        "sec-websocket-version: 13",
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    gateway.call("GET", path, &[&upgrade, headers].concat(), "").await
}

#[tokio::test(flavor = "multi_thread")]
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

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_names_the_log() {
    let gateway = Gateway::start().await;
    let log = gateway.log.id().to_string();
    let answer = handshake(&gateway, &[]).await;
    assert_eq!((answer.status, answer.header("relayer-log")), (101, Some(&*log)));
}

#[tokio::test(flavor = "multi_thread")]
async fn any_page_may_read_unless_some_are_named() {
    let gateway = Gateway::start().await;
    assert_eq!(handshake(&gateway, &["origin: https://anywhere.example"]).await.status, 101);
    assert_eq!(handshake(&gateway, &["origin: null"]).await.status, 101);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_origins_are_refused() {
    let allowed_origins =
        ["https://app.example", "http://localhost:3000"].map(|origin| origin.parse().unwrap()).to_vec();
    let output = Output { allowed_origins, ..Output::default() };
    let gateway = Gateway::start_with(Setup { output, ..Setup::default() }).await;
    for origin in ["https://app.example", "http://localhost:3000"] {
        assert_eq!(handshake(&gateway, &[&format!("origin: {origin}")]).await.status, 101, "{origin}");
    }
    assert_eq!(handshake(&gateway, &[]).await.status, 101, "programs send no origin");
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
    let refused = || gateway.metrics.websocket.refused[ClientRefusal::OriginNotAllowed].get();
    assert_eq!(refused(), others.len() as u64);
    assert_eq!(gateway.get("/health").await.status, 200);
}

/// Without configured origins, only the gateway's own pages are allowed, as for requests that
/// change state.
#[tokio::test(flavor = "multi_thread")]
async fn no_page_moves_a_consumers_cursor_unless_it_is_named() {
    let gateway = Gateway::start().await;
    let own = format!("origin: http://{}", gateway.address);
    let host = format!("host: {}", gateway.address);
    let foreign = [
        &["host: x", "origin: https://evil.example"][..],
        &[&host, "origin: https://evil.example"],
        &[&host, "origin: null"],
        &[&host, "origin: http://127.0.0.1:1"],
        &[&host, &own, "origin: https://evil.example"],
        // DNS rebinding: the page's own host resolves to this server.
        &["host: evil.example", "origin: http://evil.example"],
    ];
    for query in ["consumer=a", "consumer=a&cursor=0", "consumer=a&seek=0"] {
        for headers in foreign {
            let answer = handshake_at(&gateway, &format!("/ws?{query}"), headers).await;
            let told = answer.error(403, "origin_not_allowed");
            assert!(told.contains("[output] allowed_origins"), "{headers:?}: {told}");
        }
    }
    assert_eq!(
        gateway.metrics.websocket.refused[ClientRefusal::OriginNotAllowed].get(),
        3 * foreign.len() as u64
    );
    assert!(gateway.consumers.list().is_empty());
    assert_eq!(
        handshake_at(&gateway, "/ws?cursor=0", foreign[0]).await.status,
        101,
        "reading changes nothing"
    );
    for headers in [&[host.as_str()][..], &[&host, &own]] {
        assert_eq!(handshake_at(&gateway, "/ws?consumer=a", headers).await.status, 101, "{headers:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_named_may_move_a_cursor() {
    let allowed_origins = vec!["https://app.example".parse().unwrap()];
    let output = Output { allowed_origins, ..Output::default() };
    let gateway = Gateway::start_with(Setup { output, ..Setup::default() }).await;
    let from = async |origin| handshake_at(&gateway, "/ws?consumer=a", &["host: x", origin]).await;
    assert_eq!(from("origin: https://app.example").await.status, 101);
    from("origin: https://evil.example").await.error(403, "origin_not_allowed");
}
