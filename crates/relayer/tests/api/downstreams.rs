//! The sinks as they are shown. What they do is tested where they have somebody to connect to.

use serde_json::json;

use crate::gateway::Gateway;

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
