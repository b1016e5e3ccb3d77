//! Selection by `kinds`, `authors` and `filter`.

use wire::Signer;

use crate::gateway::{Gateway, next_seqs};

/// Expects that a client gets exactly the events `expected` out of events 1 to 6. Event 7 always
/// matches and ends the test.
async fn check(query: &str, expected: &[u64]) {
    let gateway = Gateway::start().await;
    let (alice, bob) = (Signer::from_seed(10), Signer::from_seed(11));
    let tagged = [["t", "nostr"], ["e", "x y"]];
    let none: [[&str; 2]; 0] = [];
    gateway
        .append(vec![
            alice.sign(1, 1, &none, ""),
            alice.sign(2, 7, &none, ""),
            bob.sign(3, 1, &tagged, ""),
            bob.sign(4, 30_931, &none, ""),
            alice.sign(5, 7, &tagged, ""),
            bob.sign(6, 0, &none, ""),
        ])
        .await;
    let query = query.replace("ALICE", &alice.pubkey().to_string()).replace("BOB", &bob.pubkey().to_string());
    let mut replayed = gateway.connect(&format!("?cursor=0&{query}")).await;
    assert_eq!(next_seqs(&mut replayed, expected.len()).await, expected, "{query}");
    let page = gateway.get(&format!("/api/events?{query}")).await.json();
    let seqs: Vec<_> = page["events"].as_array().unwrap().iter().map(|event| event["seq"].as_u64()).collect();
    assert_eq!(seqs, expected.iter().copied().map(Some).collect::<Vec<_>>(), "{query}");
    assert_eq!(page["next_cursor"], 6, "events that do not match were scanned too");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_condition_that_is_given_must_hold() {
    check("", &[1, 2, 3, 4, 5, 6]).await;
    check("kinds=1,7", &[1, 2, 3, 5]).await;
    check("kinds=0", &[6]).await;
    check("kinds=30931&authors=ALICE", &[]).await;
    check("authors=ALICE", &[1, 2, 5]).await;
    check("authors=ALICE,BOB&kinds=7,30931", &[2, 4, 5]).await;
    check("filter=%7B%22%23t%22%3A%5B%22nostr%22%5D%7D", &[3, 5]).await;
    check("filter=%7B%22%23e%22:[%22x+y%22]%7D&kinds=7", &[5]).await;
    check("filter=%7B%22kinds%22:[1,7],%22since%22:3%7D&authors=BOB", &[3]).await;
    check("filter=%7B%22kinds%22:[1]%7D&kinds=7", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selection_holds_for_live_events() {
    let gateway = Gateway::start().await;
    let mut client = gateway.connect("?format=envelope&kinds=7").await;
    let none: [[&str; 2]; 0] = [];
    let events = (1..=40).map(|seq| gateway.signer.sign(seq, if seq % 10 == 0 { 7 } else { 1 }, &none, ""));
    gateway.append(events.collect()).await;
    assert_eq!(next_seqs(&mut client, 4).await, [10, 20, 30, 40]);
}
