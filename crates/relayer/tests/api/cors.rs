//! `[api] allowed_origins`: which web pages may use the HTTP API.

use crate::gateway::{Gateway, Response, Setup};

const APP: &str = "https://app.example";
const EVIL: &str = "https://evil.example";
const JSON: &str = "content-type: application/json";

async fn start(admin_token: Option<&'static str>) -> Gateway {
    let api_origins = vec![APP, "http://localhost:3000"];
    Gateway::start_with(Setup { api_origins, admin_token, ..Setup::default() }).await
}

fn from(origin: &str) -> String {
    format!("origin: {origin}")
}

/// The origin that a browser lets read the response.
fn allowed(answer: &Response) -> Option<&str> {
    assert_eq!(answer.header("access-control-allow-credentials"), None);
    answer.header("access-control-allow-origin")
}

async fn preflight(gateway: &Gateway, path: &str, origin: &str, method: &str) -> Response {
    let headers = [
        "host: x",
        &from(origin),
        &format!("access-control-request-method: {method}"),
        "access-control-request-headers: authorization,content-type",
    ];
    gateway.call("OPTIONS", path, &headers, "").await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_list_no_page_of_another_origin_may_read() {
    let gateway = Gateway::start().await;
    let answer = gateway.call("GET", "/status", &["host: x", &from(APP)], "").await;
    assert_eq!((answer.status, allowed(&answer)), (200, None));
    let answer = preflight(&gateway, "/status", APP, "GET").await;
    assert_eq!((answer.status, allowed(&answer)), (405, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_the_listed_origins_may_read() {
    let gateway = start(None).await;
    gateway.append_numbered(1).await;
    // Errors, too: a page must be able to show them.
    for path in ["/status", "/api/events", "/api/relays", "/metrics", "/api/events?cursor=x", "/nothing"] {
        for origin in [APP, "http://localhost:3000"] {
            let answer = gateway.call("GET", path, &["host: x", &from(origin)], "").await;
            assert_eq!(allowed(&answer), Some(origin), "{path}");
            assert!(answer.header("vary").unwrap_or_default().contains("origin"), "{path}");
            let exposed = answer.header("access-control-expose-headers").unwrap_or_default();
            assert!(exposed.contains("relayer-log") && exposed.contains("retry-after"), "{exposed}");
        }
        for origin in [
            EVIL,
            "http://app.example",
            "https://app.example:8443",
            "https://APP.example",
            "https://app.example.evil.example",
            "https://app.example/",
            "null",
            "*",
            "",
        ] {
            let answer = gateway.call("GET", path, &["host: x", &from(origin)], "").await;
            assert_eq!(allowed(&answer), None, "{path} from {origin}");
        }
    }
    let answer = gateway.get("/status").await;
    assert_eq!((answer.status, allowed(&answer)), (200, None), "programs send no origin");
}

#[tokio::test(flavor = "multi_thread")]
async fn preflights_are_answered_without_a_token() {
    let gateway = start(Some("0123456789abcdef")).await;
    for (path, method) in
        [("/api/relays/add", "POST"), ("/api/relays/remove", "DELETE"), ("/api/events/stream", "GET")]
    {
        let answer = preflight(&gateway, path, APP, method).await;
        assert_eq!((answer.status, allowed(&answer)), (200, Some(APP)), "{path}");
        let methods = answer.header("access-control-allow-methods").unwrap_or_default();
        assert_eq!(methods, "GET,POST,DELETE");
        let headers = answer.header("access-control-allow-headers").unwrap_or_default();
        assert_eq!(headers, "authorization,content-type,last-event-id");
        assert_eq!(answer.header("access-control-max-age"), Some("3600"));
        let answer = preflight(&gateway, path, EVIL, method).await;
        assert_eq!(allowed(&answer), None, "{path}");
    }
    assert!(gateway.pool.peers().len() == 1, "a preflight changes nothing");
}

/// CORS decides what a page may read. What it may change is decided by the token, as before.
#[tokio::test(flavor = "multi_thread")]
async fn a_listed_page_may_change_something_only_with_the_token() {
    let body = r#"{"url":"wss://new.example"}"#;
    let gateway = start(Some("0123456789abcdef")).await;
    let call = async |headers: &[&str]| gateway.call("POST", "/api/relays/add", headers, body).await;
    let (app, evil, right) = (from(APP), from(EVIL), "authorization: Bearer 0123456789abcdef");
    let answer = call(&["host: x", &app, JSON]).await;
    answer.error(401, "unauthorized");
    assert_eq!(allowed(&answer), Some(APP), "the page may read why");
    call(&["host: x", &app, JSON, "authorization: Bearer fedcba9876543210"]).await.error(401, "unauthorized");
    let answer = call(&["host: x", &app, JSON, right]).await;
    assert_eq!((answer.status, allowed(&answer)), (201, Some(APP)));
    // A browser does not send this, because the preflight fails.
    assert_eq!(allowed(&call(&["host: x", &evil, JSON, right]).await), None);

    let gateway = start(None).await;
    let host = format!("host: {}", gateway.address);
    for headers in [&[&*host, &app, JSON][..], &["host: localhost", &app, JSON], &[&host, &evil, JSON]] {
        let answer = gateway.call("POST", "/api/relays/add", headers, body).await;
        answer.error(403, "admin_token_required");
    }
    assert_eq!(gateway.pool.peers().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_can_be_read_by_a_listed_page() {
    let gateway = start(None).await;
    let client = crate::event_client::EventClient::open(gateway.address, "?cursor=0", &[&from(APP)]).await;
    assert_eq!(client.header("access-control-allow-origin"), Some(APP));
}

/// `[output] allowed_origins` alone decides about WebSockets.
#[tokio::test(flavor = "multi_thread")]
async fn the_list_does_not_open_websockets() {
    let gateway = start(None).await;
    let upgrade = [
        "host: x",
        &from(APP),
        "connection: Upgrade",
        "upgrade: websocket",
        "sec-websocket-version: 13",
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    let answer = gateway.call("GET", "/ws?consumer=a", &upgrade, "").await;
    answer.error(403, "origin_not_allowed");
    assert!(gateway.consumers.list().is_empty());
}
