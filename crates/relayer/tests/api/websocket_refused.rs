//! Refusals before the upgrade, and their error messages.

use moltrade_relayer::config::Output;

use crate::gateway::{Gateway, Setup, next_seqs, request};

#[tokio::test(flavor = "multi_thread")]
async fn invalid_queries_are_explained() {
    let gateway = Gateway::start().await;
    gateway.append_numbered(3).await;
    for (query, code, message) in [
        ("cursor=", "bad_cursor", "`cursor` must be a sequence number"),
        ("cursor=-1", "bad_cursor", "`cursor`"),
        ("cursor=latest", "bad_cursor", "`cursor`"),
        ("cursor=18446744073709551616", "bad_cursor", "`cursor`"),
        ("cursor=18446744073709551615", "cursor_ahead", "the newest sequence, 3"),
        ("cursor=4", "cursor_ahead", "cursor 4 is beyond the newest sequence, 3"),
        ("cursor=1&cursor=1", "repeated_parameter", "`cursor` occurs more than once"),
        ("since=1", "unknown_parameter", "takes cursor, format, kinds, authors, filter"),
        ("limit=1", "unknown_parameter", "unknown parameter `limit`"),
        ("format=xml", "bad_format", "`event` or `envelope`"),
        ("kinds=70000", "bad_kinds", "0 to 65535"),
        ("kinds=1,,2", "bad_kinds", "0 to 65535"),
        ("authors=npub1xyz", "bad_authors", "64 lower-case hex"),
        ("filter=kinds", "bad_filter", "a filter is a JSON object"),
        ("filter=%7B%22kind%22:[1]%7D", "bad_filter", "unknown key `kind`"),
        ("filter=%7B%22kinds%22:[%22x%22]%7D", "bad_filter", "`kinds` must be"),
        ("filter=%FF", "malformed_query", "percent-encoded UTF-8"),
    ] {
        let answer = gateway.refused(&format!("/ws?{query}")).await;
        let told = answer.error(400, code);
        assert!(told.contains(message), "{query}: {told}");
        // Plain HTTP, as with curl, gets the same answer.
        assert_eq!(gateway.get(&format!("/ws?{query}")).await.error(400, code), told);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deep_nesting_and_great_length_are_refused() {
    let gateway = Gateway::start().await;
    let nested = format!("/ws?filter={}", "[".repeat(60_000));
    gateway.refused(&nested).await.error(400, "bad_filter");
    let long = format!("/ws?kinds={}1", "1,".repeat(40_000));
    assert_eq!(gateway.refused(&long).await.status, 414);
    let authors = vec!["0f".repeat(32); 900].join(",");
    gateway.connect(&format!("?authors={authors}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_that_is_no_longer_kept_is_gone() {
    let gateway = Gateway::start().await;
    gateway.append_numbered(30).await;
    gateway.trim_below(21);
    for path in ["/ws", "/api/events"] {
        let answer = gateway.refused(&format!("{path}?cursor=19")).await;
        let told = answer.error(410, "cursor_too_old");
        assert!(told.contains("cursor 19") && told.contains("go on with cursor 20"), "{told}");
        let body = answer.json();
        assert_eq!((body["oldest"].as_u64(), body["newest"].as_u64()), (Some(21), Some(30)));
        gateway.refused(&format!("{path}?cursor=31")).await.error(400, "cursor_ahead");
    }
    gateway.connect("?cursor=20").await;
    gateway.trim_below(31);
    gateway.connect("?cursor=30").await;
    gateway.connect("?cursor=0").await;
    gateway.refused("/ws?cursor=29").await.error(410, "cursor_too_old");
}

/// A cursor of another log names different events, so nothing may be delivered after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_of_another_log_is_refused() {
    let gateway = Gateway::start().await;
    gateway.append_numbered(3).await;
    let log = gateway.log.id().to_string();
    let other = "0123456789abcdef";
    let letters = "/api/downstreams/archive/dead-letters";
    for query in [
        format!("/ws?cursor={other}:2"),
        format!("/ws?cursor={other}:0"),
        format!("/ws?consumer=a&cursor={other}:2"),
        format!("/ws?consumer=a&seek={other}:2"),
        format!("/api/events?cursor={other}:2"),
        format!("{letters}?cursor={other}:2"),
    ] {
        let answer = gateway.refused(&query).await;
        let told = answer.error(409, "cursor_of_another_log");
        assert!(told.contains("a backup was restored") && told.contains(&format!("{log}:N")), "{told}");
        assert_eq!((answer.json()["log"].as_str(), answer.header("relayer-log")), (Some(&*log), Some(&*log)));
    }
    // A cursor that names this log works like a bare sequence.
    assert_eq!(next_seqs(&mut gateway.connect(&format!("?cursor={log}:2")).await, 1).await, [3]);
    assert_eq!(next_seqs(&mut gateway.connect(&format!("?consumer=a&cursor={log}:2")).await, 1).await, [3]);
    assert_eq!(gateway.get(&format!("/api/events?cursor={log}:2")).await.json()["next_cursor"], 3);
    gateway.refused(&format!("/ws?cursor={log}:4")).await.error(400, "cursor_ahead");
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_is_told_to_upgrade() {
    let gateway = Gateway::start().await;
    let answer = gateway.get("/ws?cursor=0").await;
    let told = answer.error(426, "upgrade_required");
    assert!(told.contains("WebSocket client"), "{told}");
    assert_eq!(answer.header("upgrade"), Some("websocket"));
    assert_eq!(answer.header("sec-websocket-version"), Some("13"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_that_is_switched_off_says_so() {
    let output = Output { websocket_enabled: false, ..Output::default() };
    let gateway = Gateway::start_with(Setup { output, ..Setup::default() }).await;
    for path in ["/ws", "/ws?cursor=0"] {
        let told = gateway.refused(path).await.error(404, "websocket_disabled");
        assert!(told.contains("websocket_enabled = true"), "{told}");
    }
    assert_eq!(gateway.get("/health").await.status, 200);
}

/// A relay's URL may point to any path of this server.
#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_does_not_serve_itself() {
    let gateway = Gateway::start().await;
    let instance = gateway.instance.to_string();
    for path in ["/ws", "/", "/api/relays", "/metrics"] {
        let header = format!("relayer-instance: {instance}");
        let answer = gateway.call("GET", path, &["host: x", &header], "").await;
        let told = answer.error(508, "loop_detected");
        assert!(told.contains("comes from this gateway itself"), "{told}");
        assert_eq!(answer.header("relayer-instance"), Some(instance.as_str()));
    }
    let other = "relayer-instance: ff0102030405060708090a0b0c0d0e0f";
    gateway.call("GET", "/ws", &["host: x", other], "").await.error(426, "upgrade_required");
    let metrics = format!("GET /metrics HTTP/1.1\r\nhost: x\r\nrelayer-instance: {instance}\r\n\r\n");
    request(gateway.metrics_address, &metrics).await.error(508, "loop_detected");
}
