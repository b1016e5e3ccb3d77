//! `/api/relays`: the list and its order, one relay's page, adding and removing.

use moltrade_relayer::ingest::DropReason;
use moltrade_relayer::relay::{ConnectionState, Coverage};
use serde_json::{Value, json};

use crate::gateway::{Gateway, RELAYS_MAX, Setup};

async fn with_relays(relays: &[&'static str]) -> Gateway {
    Gateway::start_with(Setup { relays: relays.to_vec(), ..Setup::default() }).await
}

/// Starts a gateway whose relays have the states and figures that the test sets, and no others.
async fn with_still_relays(relays: &[&'static str]) -> Gateway {
    let relays = relays.to_vec();
    Gateway::start_with(Setup { relays, supervised: false, ..Setup::default() }).await
}

/// The first letter of each host, in the order of the list.
fn names(list: &Value) -> String {
    let urls = list["relays"].as_array().unwrap().iter().map(|relay| relay["url"].as_str().unwrap());
    urls.map(|url| &url["wss://".len().."wss://x".len()]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn relays_are_ranked_by_what_they_do() {
    let gateway =
        with_still_relays(&["wss://c.example", "wss://a.example", "wss://b.example", "wss://d.example"])
            .await;
    let peers = gateway.pool.peers();
    for (peer, count) in peers.iter().zip([5, 7, 7, 0]) {
        let stats = &peer.stats;
        for figure in [&stats.first, &stats.copies, &stats.frames, &stats.bytes] {
            figure.add(count);
        }
        stats.connections.add(count);
        (0..count).for_each(|_| stats.refuse(DropReason::TooOld));
        // Sorting by forgeries gives a different order.
        (0..10 - count).for_each(|_| stats.refuse(DropReason::BadSignature));
    }
    let ranked = async |query: &str| names(&gateway.get(&format!("/api/relays?{query}")).await.json());
    assert_eq!(ranked("").await, "cabd", "in the order in which they were added");
    assert_eq!(ranked("order=desc").await, "dbac");
    assert_eq!(ranked("sort=url").await, "abcd");
    assert_eq!(ranked("sort=url&order=desc").await, "dcba");
    for sort in ["first_seen", "copies", "frames", "bytes", "reconnects"] {
        assert_eq!(ranked(&format!("sort={sort}")).await, "dcab", "{sort}: equals stay in order");
        assert_eq!(ranked(&format!("order=desc&sort={sort}")).await, "abcd", "{sort}");
    }
    assert_eq!(ranked("sort=forgeries").await, "abcd");
    assert_eq!(ranked("sort=forgeries&order=desc").await, "dcab");
    assert_eq!(ranked("sort=refused").await, "cabd", "all have the same sum");
}

#[tokio::test(flavor = "multi_thread")]
async fn relays_are_ranked_by_state_share_and_offences() {
    let gateway =
        with_still_relays(&["wss://c.example", "wss://a.example", "wss://b.example", "wss://d.example"])
            .await;
    let peers = gateway.pool.peers();
    // The relay that delivers most has the smallest share.
    for (peer, (first, copies)) in peers.iter().zip([(90, 910), (5, 5), (1, 3), (0, 0)]) {
        peer.stats.first.add(first);
        peer.stats.copies.add(copies);
        peer.stats.events.add(first + copies);
    }
    peers[1].set_state(ConnectionState::Live { since_ms: 1 });
    peers[3].set_state(ConnectionState::Quarantined { until_ms: 1, reason: "forgeries".to_owned() });
    (0..3).for_each(|_| peers[3].stats.refuse(DropReason::BadSignature));
    // Refused by our own policy, so it is no offence.
    (0..9).for_each(|_| peers[2].stats.refuse(DropReason::TooOld));
    let ranked = async |query: &str| names(&gateway.get(&format!("/api/relays?{query}")).await.json());
    assert_eq!(ranked("sort=events&order=desc").await, "cabd");
    assert_eq!(ranked("sort=first_share&order=desc").await, "abcd", "unknown shares come last");
    assert_eq!(ranked("sort=first_share").await, "cbad", "unknown shares come last");
    assert_eq!(ranked("sort=state").await, "cbad");
    assert_eq!(ranked("sort=offences&order=desc").await, "dcab");
    for sort in ["gaps", "proven_until"] {
        assert_eq!(ranked(&format!("sort={sort}")).await, "cabd", "{sort}: nothing is known yet");
    }
    let now = gateway.log.clock().now();
    for (peer, (from, to)) in peers.iter().zip([(500, 600), (900, 1_000), (100, 700)]) {
        let mut coverage = Coverage::first_contact([], 100, 1_000);
        coverage.prove(100, 200);
        coverage.prove(from, to);
        peer.restore_coverage(coverage, now);
    }
    // Two gaps, one gap from 201 on, and one gap from 701 on.
    assert_eq!(ranked("sort=gaps&order=desc").await, "cabd");
    assert_eq!(ranked("sort=proven_until&order=desc").await, "bcad");
    assert_eq!(ranked("has=gaps").await, "cab");
    let offences: Vec<u64> = gateway.get("/api/relays").await.json()["relays"]
        .as_array()
        .unwrap()
        .iter()
        .map(|relay| relay["offences"].as_u64().unwrap())
        .collect();
    assert_eq!(offences, [0, 0, 0, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn relays_are_found_by_what_they_have_and_by_their_url() {
    let gateway =
        with_still_relays(&["wss://a.example", "wss://b.example/Nostr", "wss://c.example", "wss://d.test"])
            .await;
    let peers = gateway.pool.peers();
    peers[0].set_state(ConnectionState::Live { since_ms: 1 });
    peers[1].set_state(ConnectionState::Live { since_ms: 1 });
    peers[1].stats.refuse(DropReason::BadSignature);
    peers[2].stats.refuse(DropReason::BadSignature);
    peers[2].stats.rate_limited.add(1);
    let found = async |query: &str| {
        let list = gateway.get(&format!("/api/relays?{query}")).await.json();
        (names(&list), list["total"].as_u64().unwrap())
    };
    assert_eq!(found("has=offences").await, ("bc".to_owned(), 2));
    assert_eq!(found("has=offences,rate_limited").await, ("c".to_owned(), 1));
    assert_eq!(found("has=silent").await, (String::new(), 0));
    assert_eq!(found("has=gaps").await, (String::new(), 0));
    assert_eq!(found("search=EXAMPLE").await, ("abc".to_owned(), 3));
    assert_eq!(found("search=%2Fnostr").await, ("b".to_owned(), 1));
    assert_eq!(found("search=nowhere").await, (String::new(), 0));
    assert_eq!(found("search=example&has=offences&state=live&limit=1").await, ("b".to_owned(), 1));
    // The states are counted as if no state were asked for.
    let list = gateway.get("/api/relays?search=example&state=live&limit=1").await.json();
    assert_eq!(
        (&list["states"]["live"], &list["states"]["connecting"], &list["states"]["refused"]),
        (&json!(2), &json!(1), &json!(0))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_the_list_can_be_asked_for() {
    let gateway =
        with_still_relays(&["wss://a.example", "wss://b.example", "wss://c.example", "wss://d.example"])
            .await;
    let peers = gateway.pool.peers();
    peers[1].set_state(ConnectionState::Live { since_ms: 1 });
    peers[2].set_state(ConnectionState::BackingOff { until_ms: 1, reason: "refused".to_owned() });
    let part = async |query: &str| {
        let list = gateway.get(&format!("/api/relays?{query}")).await.json();
        (names(&list), list["total"].as_u64().unwrap())
    };
    assert_eq!(part("limit=2").await, ("ab".to_owned(), 4));
    assert_eq!(part("limit=2&offset=1").await, ("bc".to_owned(), 4));
    assert_eq!(part("offset=3").await, ("d".to_owned(), 4));
    assert_eq!(part("offset=9").await, (String::new(), 4));
    assert_eq!(part("state=live").await, ("b".to_owned(), 1));
    assert_eq!(part("state=live,connecting&offset=1&sort=url").await, ("bd".to_owned(), 3));
    assert_eq!(part("state=backfilling").await, (String::new(), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_queries_are_explained() {
    let gateway = Gateway::start().await;
    for (query, code, message) in [
        ("sort=speed", "bad_sort", "one of url, state, events, first_seen"),
        ("sort=", "bad_sort", "one of"),
        ("order=down", "bad_order", "`asc` or `desc`"),
        ("state=dead", "bad_state", "connecting, backfilling, live"),
        ("state=live,", "bad_state", "a list of states"),
        ("has=", "bad_has", "a list of silent, gaps, offences, rate_limited"),
        ("has=gaps,luck", "bad_has", "a list of"),
        ("search=", "bad_search", "a text of 1 to 200 characters"),
        (&format!("search={}", "x".repeat(201)), "bad_search", "a text of 1 to 200 characters"),
        ("limit=0", "bad_limit", "from 1 to 100000"),
        ("limit=-1", "bad_limit", "`limit`"),
        ("offset=x", "bad_offset", "from 0 to 100000"),
        ("sort=url&sort=url", "repeated_parameter", "`sort` occurs more than once"),
        ("cursor=1", "unknown_parameter", "takes sort, order, state, has, search, limit, offset"),
        ("sort=%ff", "malformed_query", "UTF-8"),
    ] {
        let told = gateway.get(&format!("/api/relays?{query}")).await.error(400, code);
        assert!(told.contains(message), "{query}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_relay_is_found_by_its_url_in_every_spelling() {
    let gateway = with_relays(&["wss://a.example", "wss://b.example/r/?x=1&y=%2F"]).await;
    for same in ["wss%3A%2F%2Fa.example", "wss://a.example", "wss://A.example:443/", "wss%3a//a.example"] {
        let answer = gateway.get(&format!("/api/relays/{same}")).await;
        assert_eq!((answer.status, &answer.json()["url"]), (200, &json!("wss://a.example")), "{same}");
    }
    for same in ["wss%3A%2F%2Fb.example%2Fr%2F%3Fx%3D1%26y%3D%252F", "wss://b.example/r/?x=1&y=%2F"] {
        let answer = gateway.get(&format!("/api/relays/{same}")).await;
        assert_eq!(answer.json()["url"], "wss://b.example/r/?x=1&y=%2F", "{same}");
    }
    gateway.get("/api/relays/wss://c.example").await.error(404, "relay_not_found");
    for (bad, why) in [
        ("https://a.example", "its scheme is not ws:// or wss://"),
        ("a.example", "it has no scheme"),
        ("wss://", "it has no host"),
        ("%ff", "it is not percent-encoded UTF-8"),
    ] {
        let told = gateway.get(&format!("/api/relays/{bad}")).await.error(400, "bad_relay_url");
        assert!(told.ends_with(why), "{bad}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_relay_is_shown_in_full() {
    let gateway = with_still_relays(&["wss://a.example"]).await;
    gateway.pool.peers()[0].stats.frames.add(3);
    let one = gateway.get("/api/relays/wss://a.example").await.json();
    let listed = &gateway.get("/api/relays").await.json()["relays"][0];
    for (key, value) in listed.as_object().unwrap() {
        assert_eq!(&one[key], value, "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_is_added_once_and_removed_once() {
    let gateway = with_relays(&[]).await;
    let add = async |url: &str| {
        let answer = gateway.change("POST", "/api/relays/add", &json!({ "url": url }).to_string()).await;
        (answer.status, answer.json())
    };
    let remove = async |url: &str| {
        let answer = gateway.change("DELETE", "/api/relays/remove", &json!({ "url": url }).to_string()).await;
        (answer.status, answer.json())
    };
    let a = "wss://new.example";
    assert_eq!(add("wss://new.example:443/").await, (201, json!({ "url": a, "added": true })));
    assert_eq!(add(a).await, (200, json!({ "url": a, "added": false })));
    assert_eq!(gateway.get("/api/relays").await.json()["relays"][0]["url"], a);
    assert_eq!(remove("WSS://new.example").await, (200, json!({ "url": a, "removed": true })));
    assert_eq!(remove(a).await, (200, json!({ "url": a, "removed": false })));
    let list = gateway.get("/api/relays").await.json();
    assert_eq!((&list["total"], &list["relays"]), (&json!(0), &json!([])));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_cannot_be_added_is_explained() {
    let gateway = with_relays(&[]).await;
    let add =
        async |url: &str| gateway.change("POST", "/api/relays/add", &json!({ "url": url }).to_string()).await;
    for (url, why) in [
        ("", "it has no scheme"),
        ("https://a.example", "its scheme is not ws:// or wss://"),
        ("wss://a.example/#x", "it has a fragment (#…), which is never sent"),
        ("wss://me:hunter2@a.example", "it carries a user or a password, which would end up in logs"),
    ] {
        let told = add(url).await.error(400, "bad_relay_url");
        assert!(told.ends_with(why), "{url}: {told}");
        let body = json!({ "url": url }).to_string();
        gateway.change("DELETE", "/api/relays/remove", &body).await.error(400, "bad_relay_url");
    }
    add("ws://127.0.0.1:7777").await.error(400, "address_not_public");
    add("ws://nowhere.invalid").await.error(400, "unresolvable_host");
    for n in 0..RELAYS_MAX {
        assert_eq!(add(&format!("wss://new{n}.example")).await.status, 201);
    }
    let told = add("wss://newer.example").await.error(409, "pool_full");
    assert!(told.starts_with("5 relays are wanted, and [relay] max_connections allows no more"), "{told}");
    assert_eq!(add("wss://new0.example").await.status, 200, "a relay of the list needs no more room");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_json_and_nothing_else() {
    let gateway = with_relays(&[]).await;
    for (method, path) in [("POST", "/api/relays/add"), ("DELETE", "/api/relays/remove")] {
        for (body, message) in [
            ("", "it is not an object"),
            ("wss://a.example", "it is not an object"),
            (r#"["wss://a.example"]"#, "it is not an object"),
            ("{", "EOF"),
            ("{}", "missing field `url`"),
            (r#"{"url":7}"#, "expected a string"),
            (r#"{"url":"wss://a.example","name":1}"#, "unknown field `name`"),
            (r#"{"url":"wss://a.example","url":"wss://b.example"}"#, "duplicate field `url`"),
            (r#"{"url":"wss://a.example"}x"#, "trailing characters"),
        ] {
            let told = gateway.change(method, path, body).await.error(400, "bad_body");
            assert!(
                told.starts_with("the body must be {\"url\":") && told.contains(message),
                "{body}: {told}"
            );
        }
        let long = format!(r#"{{"{}":1}}"#, "x".repeat(16_000));
        let told = gateway.change(method, path, &long).await.error(400, "bad_body");
        assert!(told.len() < 300, "{told}");
        let huge = format!(r#"{{"url":"wss://a.example"}}{}"#, " ".repeat(16 << 10));
        gateway.change(method, path, &huge).await.error(413, "body_too_large");
    }
    assert_eq!(gateway.pool.peers().len(), 0);
}

/// With a token, authorization accepts any content type. The body must still be declared as JSON.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_says_that_it_is_json() {
    let token = "0123456789abcdef";
    let gateway = Gateway::start_with(Setup { admin_token: Some(token), ..Setup::default() }).await;
    let (authorization, body) = (format!("authorization: Bearer {token}"), r#"{"url":"wss://new.example"}"#);
    for kind in ["content-type: application/x-www-form-urlencoded", "accept: */*"] {
        let headers = ["host: x", &authorization, kind];
        gateway.call("POST", "/api/relays/add", &headers, body).await.error(415, "json_expected");
    }
}
