//! The API of sinks. Delivery is tested in `tests/sink`.

use relay_sim::wait;
use serde_json::json;

use crate::gateway::{Gateway, Setup, sinks};

#[tokio::test(flavor = "multi_thread")]
async fn sinks_are_shown_with_their_lag() {
    let gateway = Gateway::start().await;
    let events = (1..=3).map(|n| gateway.signer.sign(n, 1, &[] as &[Vec<String>], "")).collect();
    gateway.append(events).await;
    let answer = gateway.get("/api/downstreams").await;
    assert_eq!(answer.status, 200);
    let mut answer = answer.json();
    let lag_seconds = answer["downstreams"][0]["lag_seconds"].take().as_f64().unwrap();
    assert!(lag_seconds > 1e9, "the event is from 1970: {lag_seconds}");
    let sink = json!({
        "name": "archive", "kind": "tcp", "address": "archive.example:9000", "status": "connecting",
        "cursor": 0, "lag": 3, "lag_seconds": null, "delivered": 0, "events_per_second": 0.0, "reconnects": 0,
        "ack_errors": 0, "retries": 0, "refused": 0, "dead_letters": 0, "dead_letters_dropped": 0,
        "replaying": 0, "lost": 0, "lost_ranges": [], "last_error": null,
    });
    assert_eq!(answer, json!({ "head": 3, "downstreams": [sink] }));
    let mut one = gateway.get("/api/downstreams/archive").await.json();
    one["lag_seconds"].take();
    assert_eq!(one, sink);
    gateway.get("/api/downstreams/nobody").await.error(404, "downstream_not_found");
    let metrics = gateway.get("/metrics").await.text;
    for line in [
        "downstream_lag_events{sink=\"archive\"} 3",
        "downstream_state{sink=\"archive\",state=\"connecting\"} 1",
        "downstream_state{sink=\"archive\",state=\"live\"} 0",
        "downstream_lost_events_total{sink=\"archive\"} 0",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} in\n{metrics}");
    }
}

const BASE: &str = "/api/downstreams";

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_is_paused_moved_and_resumed() {
    let gateway = Gateway::start().await;
    gateway.append_numbered(5).await;
    let paused = gateway.change("POST", &format!("{BASE}/archive/pause"), "").await;
    assert_eq!((paused.status, &paused.json()["status"]), (200, &json!("paused")));
    let moved = gateway.change("POST", &format!("{BASE}/archive/seek"), "{\"cursor\":3}").await.json();
    assert_eq!((&moved["cursor"], &moved["lag"], &moved["status"]), (&json!(3), &json!(2), &json!("paused")));
    let resumed = gateway.change("POST", &format!("{BASE}/archive/resume"), "").await.json();
    assert_ne!(resumed["status"], "parked");
    let one = gateway.get(&format!("{BASE}/archive")).await.json();
    assert_eq!((&one["status"], &one["cursor"]), (&json!("connecting"), &json!(3)));
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_commands_are_refused_with_a_reason() {
    let gateway = Gateway::start().await;
    gateway.append_numbered(20).await;
    gateway.trim_below(10);
    let seek = format!("{BASE}/archive/seek");
    let change = |path: String, body: &'static str| {
        let gateway = &gateway;
        async move { gateway.change("POST", &path, body).await }
    };
    change(seek.clone(), "{\"cursor\":21}").await.error(400, "cursor_ahead");
    let answer = change(seek.clone(), "{\"cursor\":3}").await;
    answer.error(410, "cursor_too_old");
    assert_eq!(answer.json()["oldest"], 10);
    for body in ["", "{}", "[3]", "{\"cursor\":-1}", "{\"cursor\":\"3\"}", "{\"cursor\":3,\"x\":1}"] {
        let message = change(seek.clone(), body).await.error(400, "bad_body");
        assert!(message.starts_with("the body must be {\"cursor\":N}: "), "{message}");
    }
    for call in ["pause", "resume", "seek", "dead-letters/replay"] {
        let path = format!("{BASE}/nobody/{call}");
        let body = if call == "seek" { "{\"cursor\":15}" } else { "{\"all\":true}" };
        change(path, body).await.error(404, "downstream_not_found");
        // Authorization precedes the check of the name.
        let answer = gateway.call("POST", &format!("{BASE}/archive/{call}"), &["via: x"], "").await;
        answer.error(403, "admin_token_required");
        gateway.get(&format!("{BASE}/archive/{call}")).await.error(405, "method_not_allowed");
    }
    gateway.get(&format!("{BASE}/%ff/dead-letters")).await.error(404, "downstream_not_found");
    gateway.get(&format!("{BASE}/a%2Fb")).await.error(404, "downstream_not_found");
}

/// An HTTP receiver that refuses events until the test changes its status.
pub async fn refusing() -> (String, tokio::sync::watch::Sender<u16>) {
    let status = tokio::sync::watch::Sender::new(422_u16);
    let told = status.subscribe();
    let answer = axum::routing::post(move || async move {
        axum::http::StatusCode::from_u16(*told.borrow()).expect("a status")
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().route("/", answer)).await });
    (format!("http://{address}/"), status)
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_listed_sent_again_and_dropped() {
    let (url, status) = refusing().await;
    let output = sinks(&format!("output.downstream_rest = ['{url}']"));
    let gateway = Gateway::start_with(Setup { output, ..Setup::default() }).await;
    gateway.append_numbered(4).await;
    let name: String = url.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let letters = format!("{BASE}/{name}/dead-letters");
    let until = |count: usize| {
        let (gateway, path) = (&gateway, format!("{BASE}/{name}"));
        async move {
            let has = async || gateway.get(&path).await.json()["dead_letters"] == count;
            wait::until_async(&format!("{count} dead letters"), has).await;
        }
    };
    until(4).await;
    let page = gateway.get(&format!("{letters}?limit=2&cursor=1")).await.json();
    assert_eq!((&page["total"], &page["next_cursor"]), (&json!(4), &json!(3)));
    let seqs: Vec<_> = page["dead_letters"].as_array().unwrap().iter().map(|letter| &letter["seq"]).collect();
    assert_eq!(seqs, [2, 3]);
    let letter = &page["dead_letters"][0];
    assert_eq!(
        (&letter["reason"], &letter["tries"]),
        (&json!("it answered 422 Unprocessable Entity"), &json!(1))
    );
    assert_eq!(letter["envelope"]["event"]["content"], "event 2");
    assert!(letter["refused_at"].as_u64() > Some(1_700_000_000_000));
    gateway.get(&format!("{letters}?limit=0")).await.error(400, "bad_limit");
    gateway.get(&format!("{letters}?kinds=1")).await.error(400, "unknown_parameter");

    let none = gateway.change("DELETE", &letters, "{\"seq\":99}").await;
    none.error(404, "dead_letter_not_found");
    for body in ["{}", "{\"all\":false}", "{\"seq\":1,\"all\":true}", "{\"seq\":0}", "true"] {
        let message = gateway.change("DELETE", &letters, body).await.error(400, "bad_body");
        assert!(message.starts_with("the body must be {\"seq\":N} or {\"all\":true}: "), "{message}");
    }
    assert_eq!(gateway.change("DELETE", &letters, "{\"seq\":2}").await.json(), json!({ "dropped": 1 }));
    status.send_replace(204);
    let replay = gateway.change("POST", &format!("{letters}/replay"), "{\"seq\":3}").await;
    assert_eq!((replay.status, replay.json()), (202, json!({ "replaying": 1 })));
    until(2).await;
    gateway.change("POST", &format!("{letters}/replay"), "{\"all\":true}").await;
    until(0).await;
    let again = gateway.change("POST", &format!("{letters}/replay"), "{\"all\":true}").await;
    assert_eq!((again.status, again.json()), (202, json!({ "replaying": 0 })));
    let shown = gateway.get(&format!("{BASE}/{name}")).await.json();
    assert_eq!(
        (&shown["delivered"], &shown["refused"], &shown["kind"]),
        (&json!(3), &json!(4), &json!("http"))
    );
}
