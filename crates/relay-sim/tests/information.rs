//! NIP-11: what relays claim about themselves, truthfully or not.
#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests say what they expect")]

mod support;

use relay_sim::{Cap, Count, Fault, Information, Limits, Sim, SimBuilder, Who};
use serde_json::{Value, json};
use support::{Client, MOMENT, PATIENCE, information};

const NOSTR: &str = "application/nostr+json";

fn one() -> SimBuilder {
    let limits = Limits::new().subscriptions(3).filters(2);
    let cap = Cap::clamping(500).default_limit(100);
    Sim::builder().scripted(1).caps(Who::All, cap).limits(Who::All, limits)
}

async fn document(sim: SimBuilder) -> Value {
    let sim = sim.start().await.expect("started");
    let answer = information(&sim, 0, NOSTR, usize::MAX, PATIENCE).await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains(NOSTR), "{head}");
    serde_json::from_str(body).expect("JSON")
}

#[tokio::test]
async fn the_document_tells_caps_and_limits() {
    let told = document(one()).await;
    let limitation = json!({ "auth_required": false, "max_limit": 500, "default_limit": 100,
        "max_subscriptions": 3, "max_filters": 2 });
    assert_eq!((&told["limitation"], &told["supported_nips"]), (&limitation, &json!([1, 11, 42])));
    let told = document(Sim::builder().scripted(1).fault(Fault::AuthRequired, Who::All, 1.0)).await;
    assert_eq!(told["limitation"], json!({ "auth_required": true }));
}

#[tokio::test]
async fn a_document_may_say_nothing_or_lie() {
    let told = document(one().information(Who::All, Information::without_limits())).await;
    assert_eq!(told.get("limitation"), None);
    let told = document(one().information(Who::All, Information::claiming_max_limit(9000))).await;
    assert_eq!(
        (&told["limitation"]["max_limit"], &told["limitation"]["max_filters"]),
        (&9000.into(), &2.into())
    );
    let lie = Information::Altered(json!({ "supported_nips": [1, 77], "name": null }));
    let told = document(one().information(Who::All, lie)).await;
    assert_eq!((told.get("name"), &told["supported_nips"]), (None, &json!([1, 77])));
}

#[tokio::test]
async fn there_may_be_no_document() {
    for (kind, start, ends) in [
        (Information::NotFound, "HTTP/1.1 404 ", true),
        (Information::Garbage, "HTTP/1.1 200 OK\r\n", true),
        (Information::Endless, "HTTP/1.1 200 OK\r\n", false),
        (Information::Hanging, "", false),
    ] {
        let sim = one().information(Who::All, kind.clone()).start().await.expect("started");
        let patience = if kind == Information::Hanging { MOMENT } else { PATIENCE };
        let answer = information(&sim, 0, NOSTR, 1 << 20, patience).await;
        assert!(answer.starts_with(start), "{kind:?}: {answer}");
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        assert!(serde_json::from_str::<Value>(body).is_err());
        assert_eq!(answer.len() >= 1 << 20, kind == Information::Endless, "{kind:?}: {}", answer.len());
        assert_eq!(answer.contains("Content-Length"), ends);
        assert_eq!(sim.stats().of(0, Count::Information), 1);
        // The relay still serves requests.
        assert_eq!(Client::connect(&sim.url(0)).await.ask("{}").await, Ok(Vec::new()));
    }
}

#[tokio::test]
async fn who_asks_is_remembered_and_who_accepts_no_document_gets_none() {
    let sim = one().start().await.expect("started");
    assert_eq!(sim.user_agent(0), None);
    assert!(!information(&sim, 0, "text/html", usize::MAX, PATIENCE).await.contains("supported_nips"));
    assert_eq!((sim.stats().get(Count::Information), sim.user_agent(0)), (0, None));
    information(&sim, 0, "text/html, application/nostr+json;q=0.9", usize::MAX, PATIENCE).await;
    assert_eq!((sim.stats().get(Count::Information), sim.user_agent(0)), (1, Some("test/1".to_owned())));
}
