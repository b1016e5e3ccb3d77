//! `/api/events`: a single event, and pages of events.

use moltrade_relayer::limits::PAGE_BYTES_MAX;
use serde_json::Value;

use crate::gateway::Gateway;

fn seqs(page: &Value) -> Vec<u64> {
    page["events"].as_array().unwrap().iter().map(|envelope| envelope["seq"].as_u64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_found_by_its_id() {
    let gateway = Gateway::start().await;
    gateway.append_numbered(3).await;
    let event = gateway.event(2);
    let answer = gateway.get(&format!("/api/events/{}", event.id())).await;
    let json = std::str::from_utf8(event.json()).unwrap();
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(
        (answer.status, answer.text),
        (
            200,
            format!(
                r#"{{"seq":2,"log":"{}","received_at":2000,"relay":"wss://relay.example","event":{json}}}"#,
                gateway.log.id()
            )
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_not_there_is_not_found() {
    let gateway = Gateway::start().await;
    gateway.append_numbered(3).await;
    gateway.get(&format!("/api/events/{}", "0f".repeat(32))).await.error(404, "event_not_found");
    gateway.trim_below(3);
    gateway.get(&format!("/api/events/{}", gateway.event(2).id())).await.error(404, "event_not_found");
    for id in ["note1xyz", "0f", &"0F".repeat(32), "%ff", "%20"] {
        let told = gateway.get(&format!("/api/events/{id}")).await.error(400, "bad_event_id");
        assert!(told.contains("64 lower-case hex"), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_follow_each_other_to_the_head() {
    let gateway = Gateway::start().await;
    gateway.append_numbered(250).await;
    let first = gateway.get("/api/events").await.json();
    assert_eq!(seqs(&first), (1..=100).collect::<Vec<_>>());
    assert_eq!((&first["next_cursor"], &first["head"]), (&100.into(), &250.into()));
    let (mut seen, mut cursor) = (Vec::new(), 0);
    while cursor < 250 {
        let page = gateway.get(&format!("/api/events?cursor={cursor}&limit=33")).await.json();
        seen.extend(seqs(&page));
        cursor = page["next_cursor"].as_u64().unwrap();
    }
    assert_eq!(seen, (1..=250).collect::<Vec<_>>());
    let end = gateway.get("/api/events?cursor=250").await;
    let log = gateway.log.id();
    assert_eq!(end.text, format!(r#"{{"events":[],"next_cursor":250,"head":250,"log":"{log}"}}"#));
    gateway.trim_below(200);
    assert_eq!(seqs(&gateway.get("/api/events?limit=2").await.json()), [200, 201]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_bounded_in_bytes() {
    let gateway = Gateway::start().await;
    let content = "x".repeat(PAGE_BYTES_MAX / 4);
    let events = (1..=10).map(|n| gateway.signer.sign(n, 1, &[] as &[[&str; 0]], &content));
    gateway.append(events.collect()).await;
    let page = gateway.get("/api/events?limit=1000").await.json();
    assert_eq!((seqs(&page), page["next_cursor"].as_u64()), (vec![1, 2, 3, 4], Some(4)));
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_queries_are_explained() {
    let gateway = Gateway::start().await;
    gateway.append_numbered(1).await;
    for (query, code) in [
        ("limit=0", "bad_limit"),
        ("limit=1001", "bad_limit"),
        ("limit=x", "bad_limit"),
        ("format=event", "unknown_parameter"),
        ("cursor=2", "cursor_ahead"),
        ("cursor=x", "bad_cursor"),
        ("kinds=x", "bad_kinds"),
        ("authors=x", "bad_authors"),
        ("filter=x", "bad_filter"),
        ("limit=1&limit=1", "repeated_parameter"),
    ] {
        gateway.get(&format!("/api/events?{query}")).await.error(400, code);
    }
}
