//! Real events and invalid events pass through the whole program.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

use relay_sim::Sim;
use serde_json::Value;

use crate::program::{PATIENCE, Site};

/// A file of the collection. `FIXTURES_DIR` selects another collection in the same format.
fn fixture(name: &str) -> PathBuf {
    let folder = std::env::var_os("FIXTURES_DIR").map(PathBuf::from);
    folder.unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../wire/tests/fixtures").into()).join(name)
}

/// The drop reasons that match a fault named in the collection.
fn fitting(reason: &str) -> &'static [&'static str] {
    match reason {
        "id mismatch; signature VALID for the claimed id"
        | "id mismatch; signature invalid too"
        | "id mismatch; pubkey not on curve" => &["id_mismatch", "malformed_kind"],
        "tags not array of arrays of strings" => &["malformed_tags"],
        "bad pubkey hex" => &["malformed_pubkey"],
        "bad id hex" => &["malformed_id"],
        "signature invalid" => &["bad_signature"],
        "created_at not integer" => &["malformed_created_at"],
        other => panic!("the collection has a new reason: {other}"),
    }
}

/// Three relays that serve a file, and a gateway that admits events of every age and size.
async fn serving(seed: u64, file: &Path) -> (Sim, Site) {
    let sim = Sim::builder().seed(seed).relays(6).events(0).file(file).copies(3).stored(0.5);
    let sim = sim.start().await.expect("starts");
    let site = Site::on(&sim)
        .set("RELAYER_RELAY__BACKFILL_HOURS", "1000000")
        .set("RELAYER_FILTERS__MAX_FUTURE_SECS", "10000000000000")
        .set("RELAYER_FILTERS__MAX_EVENT_BYTES", "1048576")
        .set("RELAYER_FILTERS__ADMIT_EXPIRED", "true");
    (sim, site)
}

fn lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).expect("readable");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_real_event_passes_with_its_seven_fields_unchanged() {
    let file = fixture("real-events.jsonl");
    let (_sim, site) = serving(13, &file).await;
    let _running = site.start().await;
    let mut consumer = site.consumer("?cursor=0").await;
    let expected =
        lines(&file).into_iter().map(|event| (event["id"].as_str().expect("an id").to_owned(), event));
    let mut expected: HashMap<String, Value> = expected.collect();
    let total = expected.len();
    while !expected.is_empty() {
        let next = tokio::time::timeout(PATIENCE, consumer.next()).await;
        let delivery = next.unwrap_or_else(|_| panic!("{} of {total} are missing", expected.len()));
        let event: Value = serde_json::from_slice(&delivery.expect("delivered").event).expect("JSON");
        let original = expected.remove(event["id"].as_str().expect("an id")).expect("expected, and once");
        for field in ["id", "pubkey", "created_at", "kind", "tags", "content", "sig"] {
            assert_eq!(event[field], original[field], "{field}");
        }
        assert_eq!(event.as_object().map(serde_json::Map::len), Some(7), "nothing unsigned passes");
    }
    println!("{total} real events passed unchanged");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_invalid_event_is_refused_for_its_reason() {
    let file = fixture("invalid-events.jsonl");
    let (_sim, site) = serving(14, &file).await;
    let running = site.start().await;
    // Three relays serve each invalid event, and each copy is refused. An event that arrives live
    // during the backfill may come twice.
    let mut wanted: BTreeMap<&'static [&'static str], u64> = BTreeMap::new();
    for line in lines(&file) {
        *wanted.entry(fitting(line["reason"].as_str().expect("a reason"))).or_default() += 3;
    }
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let status = running.json("/status").await;
        let refused = refused(&status);
        let found = |reasons: &[&str]| reasons.iter().filter_map(|reason| refused.get(*reason)).sum::<u64>();
        if wanted.iter().all(|(reasons, count)| found(reasons) >= *count) {
            let is_wanted = |reason: &String| wanted.keys().any(|reasons| reasons.contains(&reason.as_str()));
            assert!(refused.keys().all(is_wanted), "nothing else was refused: {refused:?}");
            assert_eq!(status["log"]["head"], 0, "nothing passed");
            println!("refused: {refused:?}");
            break;
        }
        assert!(std::time::Instant::now() < deadline, "wanted {wanted:?}, refused {refused:?}: {status}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The number of refused events by reason, over all relays.
fn refused(status: &Value) -> HashMap<String, u64> {
    let mut total = HashMap::new();
    for connection in status["connections"].as_array().expect("connections") {
        for (reason, count) in connection["refused"].as_object().expect("reasons") {
            *total.entry(reason.clone()).or_default() += count.as_u64().expect("a count");
        }
    }
    total
}
