//! `/api/refusals`: the ids that were refused lately, over sockets.

use relay_sim::wait::until;
use serde_json::{Value, json};

use crate::gateway::{Gateway, Setup};
use crate::trace::{connected, now, text};

fn ids(page: &Value) -> Vec<&str> {
    page["refusals"].as_array().unwrap().iter().map(|refusal| refusal["id"].as_str().unwrap()).collect()
}

/// The text of an event of the far future, which is refused before anything else is checked. Its id
/// is `number`.
fn of_future(gateway: &Gateway, number: u64) -> (String, String) {
    let event = gateway.signer.sign(now(gateway) + 86_400, 1, &[] as &[[&str; 0]], "later");
    let id = format!("{number:064x}");
    (text(&event).replace(&event.id().to_string(), &id), id)
}

async fn until_refused(gateway: &Gateway, count: u64) {
    until("all are refused", || gateway.metrics.ingest.dropped.total() == count).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_listed_by_relay_and_reason() {
    let (sim, gateway) = connected(3, Setup::default()).await;
    let (event, first) = of_future(&gateway, 1);
    sim.publish([0], event.clone());
    until_refused(&gateway, 1).await;
    sim.publish([1], event);
    until_refused(&gateway, 2).await;
    // Refusals of the same millisecond have no order.
    let before = gateway.log.clock().unix_ms();
    until("another millisecond", || gateway.log.clock().unix_ms() > before).await;
    let expired = gateway.signer.sign(now(&gateway), 1, &[["expiration", "1700000000"]], "");
    sim.publish([1], expired.json().clone());
    until_refused(&gateway, 3).await;
    let second = expired.id().to_string();
    let all = gateway.get("/api/refusals").await.json();
    assert_eq!(ids(&all), [&second, &first]);
    let refusal = &all["refusals"][1];
    assert_eq!((&refusal["reason"], &refusal["times"]), (&json!("too_far_in_future"), &json!(2)));
    assert_eq!(refusal["relays"], json!([sim.url(0), sim.url(1)]));
    let (first_at, last_at) = (refusal["first_at"].as_u64(), refusal["last_at"].as_u64());
    assert!(all["since"].as_u64() <= first_at && first_at <= last_at, "{all}");
    assert_eq!((&all["forgotten"], &all["complete_since"]), (&json!(0), &all["since"]));
    let url = |relay: usize| sim.url(relay).replace(':', "%3A").replace('/', "%2F");
    for (query, expected) in [
        (format!("relay={}", url(0)), vec![&first]),
        (format!("relay={}", url(1)), vec![&second, &first]),
        (format!("relay={}", url(2)), vec![]),
        ("reason=expired".to_owned(), vec![&second]),
        (format!("reason=expired&relay={}", url(0)), vec![]),
        ("limit=1".to_owned(), vec![&second]),
    ] {
        assert_eq!(ids(&gateway.get(&format!("/api/refusals?{query}")).await.json()), expected, "{query}");
    }
    for (query, code) in [
        ("relay=x", "bad_relay"),
        ("reason=x", "bad_reason"),
        ("limit=0", "bad_limit"),
        ("limit=1001", "bad_limit"),
        ("kinds=1", "unknown_parameter"),
        ("limit=1&limit=1", "repeated_parameter"),
    ] {
        gateway.get(&format!("/api/refusals?{query}")).await.error(400, code);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_neither_grows_the_record_nor_pushes_out_what_others_sent() {
    const FLOOD: u64 = 2_000;
    let (sim, gateway) = connected(2, Setup::default()).await;
    let (event, honest) = of_future(&gateway, 1);
    sim.publish([0], event);
    until_refused(&gateway, 1).await;
    for number in 2..FLOOD + 2 {
        sim.publish([1], of_future(&gateway, number).0);
    }
    until_refused(&gateway, FLOOD + 1).await;
    let found = gateway.get(&format!("/api/events/{honest}/trace")).await.json();
    assert_eq!(found["refusals"][0]["relays"], json!([sim.url(0)]));
    let page = gateway.get("/api/refusals?limit=1000").await.json();
    let kept = ids(&page).len() as u64;
    assert!((100..1_000).contains(&kept), "{kept}");
    assert_eq!(page["forgotten"], FLOOD + 1 - kept);
    assert!(page["complete_since"].as_u64() > page["since"].as_u64());
    let other = gateway.get("/api/refusals?reason=expired").await.json();
    assert_eq!((&other["forgotten"], &other["complete_since"]), (&json!(0), &other["since"]));
    // The flood's last ids are kept, and its first are not.
    let answer = gateway.get(&format!("/api/events/{:064x}/trace", FLOOD + 1)).await;
    assert_eq!(answer.json()["state"], "not_stored");
    gateway.get(&format!("/api/events/{:064x}/trace", 2)).await.error(404, "event_not_found");
}
