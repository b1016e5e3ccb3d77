//! `/health`, `/ready`, `/status`, `/api/relays`, and unknown paths.

use moltrade_relayer::ingest::DropReason;
use moltrade_relayer::relay::ConnectionState;
use relay_sim::wait::{until, until_async};
use serde_json::json;

use crate::gateway::{Gateway, Setup};

#[tokio::test(flavor = "multi_thread")]
async fn it_is_healthy_and_ready_without_any_relay() {
    let gateway = Gateway::start_with(Setup { relays: vec![], ..Setup::default() }).await;
    let health = gateway.get("/health").await;
    assert_eq!(
        (health.status, health.json()),
        (
            200,
            json!({ "status": "healthy", "service": "moltrade-relayer", "version": env!("CARGO_PKG_VERSION") })
        )
    );
    let ready = gateway.get("/ready").await;
    assert_eq!((ready.status, &ready.json()["status"]), (200, &json!("ready")));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_not_ready_while_the_disk_is_full() {
    let gateway = Gateway::start().await;
    gateway.set_free_bytes(0);
    gateway.offer(vec![gateway.event(1)]);
    until("ingest pauses", || gateway.disk_full.is_paused()).await;
    let told = gateway.get("/ready").await.error(503, "not_ready");
    assert!(told.contains("disk is full") && told.contains("min_free_bytes"), "{told}");
    assert_eq!(gateway.get("/health").await.status, 200);
    assert_eq!(gateway.get("/status").await.json()["ingest_paused"], true);
    assert!(gateway.get("/metrics").await.text.contains("\ningest_paused 1\n"));
    gateway.set_free_bytes(u64::MAX);
    until_async("it is ready again", async || gateway.get("/ready").await.status == 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn relays_are_shown_with_what_they_did() {
    let relays = vec!["wss://a.example", "wss://b.example", "wss://c.example"];
    let gateway = Gateway::start_with(Setup { relays, supervised: false, ..Setup::default() }).await;
    gateway.append_numbered(4).await;
    let peers = gateway.pool.peers();
    peers[0].set_state(ConnectionState::Live { since_ms: 5 });
    peers[0].stats.frames.add(9);
    peers[0].stats.refuse(DropReason::BadSignature);
    peers[0].stats.refuse(DropReason::TooOld);
    peers[1].set_state(ConnectionState::BackingOff { until_ms: 7, reason: "refused".to_owned() });
    let status = gateway.get("/status").await.json();
    assert_eq!(status["active_connections"], 1);
    assert_eq!(status["log"], json!({ "id": gateway.log.id(), "head": 4, "floor": 1 }));
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    let mut first = status["connections"][0].clone();
    let history = first.as_object_mut().unwrap().remove("history").unwrap();
    assert_eq!((&history[0]["status"], history.as_array().unwrap().len()), (&json!("live"), 1));
    assert!(history[0]["at_ms"].as_u64().unwrap() > 1_700_000_000_000);
    assert_eq!(
        first,
        json!({
            "url": "wss://a.example", "status": "live", "since_ms": 5, "silent": false,
            "connections_opened": 0, "reconnects": 0, "uptime_seconds": 0, "rtt_ms": null,
            "frames": 9, "bytes": 0, "events": 0, "first": 0, "copies": 0, "late_ms": null, "notices": 0,
            "requests": 0, "rate_limited": 0, "offences": 1, "forgeries": 1,
            "refused": { "bad_signature": 1, "too_old": 1 }, "proven_until": null, "gaps": 0,
        })
    );
    let backing_off = &status["connections"][1];
    assert_eq!(
        (&backing_off["status"], &backing_off["until_ms"], &backing_off["reason"]),
        (&json!("backing_off"), &json!(7), &json!("refused"))
    );
    assert_eq!(status["connections"][2]["status"], "connecting");
    assert_eq!(gateway.get("/api/relays").await.json()["relays"], status["connections"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_of_the_clock_is_shown_until_the_operator_confirms_the_clock() {
    let gateway = Gateway::start().await;
    let clock = async || gateway.get("/status").await.json()["clock"].clone();
    let right = json!({ "steps": 0, "last_step": null, "agrees": null, "deletes_by_age": true });
    assert_eq!(clock().await, right);
    gateway.manual_clock.step_secs(-60);
    gateway.log.clock().now();
    let stepped = clock().await;
    assert_eq!((&stepped["steps"], &stepped["deletes_by_age"]), (&json!(1), &json!(false)));
    let by_ms = stepped["last_step"]["by_ms"].as_i64().unwrap();
    assert!((-61_000..=-59_000).contains(&by_ms), "{by_ms}");
    let confirmed = gateway.change("POST", "/api/clock/confirm", "").await;
    assert_eq!((confirmed.status, confirmed.json()), (200, json!({ "was_in_doubt": true })));
    assert_eq!(clock().await["deletes_by_age"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_paths_are_answered_in_json() {
    let gateway = Gateway::start().await;
    for path in ["/", "/api", "/api/relays/", "/ws/", "/%ff", "/api/events/a/b"] {
        gateway.get(path).await.error(404, "not_found");
    }
    for (method, path, allowed) in [
        ("POST", "/health", "GET,HEAD"),
        ("POST", "/ws", "GET,HEAD"),
        ("POST", "/api/events", "GET,HEAD"),
        ("DELETE", "/api/relays/wss://relay.example", "GET,HEAD"),
        ("GET", "/api/relays/add", "POST"),
        ("POST", "/api/relays/remove", "DELETE"),
        ("GET", "/api/config/reload", "POST"),
    ] {
        let answer = gateway.call(method, path, &["host: x"], "").await;
        answer.error(405, "method_not_allowed");
        assert_eq!(answer.header("allow"), Some(allowed), "{path}");
    }
}
