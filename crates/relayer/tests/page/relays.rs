//! The list of 10,000 relays, with hostile texts.

use std::num::NonZeroUsize;

use moltrade_relayer::config::Config;
use moltrade_relayer::ingest::DropReason;
use moltrade_relayer::relay::ConnectionState;
use moltrade_relayer::testing::{Setup, TestGateway};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::browser::drive;

const RELAYS: usize = 10_000;

/// A gateway with relays that it does not dial.
pub async fn with_relays(count: usize, folder: &TempDir, change: impl FnOnce(&mut Setup)) -> TestGateway {
    let mut config = Config::default();
    let url = |number| format!("wss://relay-{number:05}.example").parse().unwrap();
    config.relay.bootstrap_relays = (0..count).map(url).collect();
    config.relay.max_connections = NonZeroUsize::new(count + 10).unwrap();
    config.deduplication.rocksdb_path = folder.path().join("log");
    config.storage.fsync = false;
    let mut setup = Setup { dials: false, ..Setup::new(config) };
    change(&mut setup);
    setup.start().await.unwrap()
}

/// Sets reasons that would do something if they were interpreted.
fn set_hostile_reasons(gateway: &TestGateway) -> Value {
    let peers = gateway.pool.peers();
    let script =
        "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>${window.hacked = 3}";
    // Direction overrides, an isolate, a zero-width space, a terminal's escape, a tag character.
    let hidden = "auth-required: \u{202e}dnuop\u{202c} \u{2066}a\u{200b}b \u{1b}[31m\u{e0041}\u{feff} c\nd";
    let long = format!("<b>{}</b>", "NOTICE! ".repeat(1_280));
    let long: String = long.chars().take(10_240).collect();
    let until_ms = 4_102_444_800_000;
    let quarantined = |reason: &str| ConnectionState::Quarantined { until_ms, reason: reason.to_owned() };
    let states = [
        quarantined(script),
        ConnectionState::BackingOff { until_ms, reason: hidden.to_owned() },
        quarantined(&long),
    ];
    let texts = [script, hidden, &long];
    let shown = peers.iter().skip(5).step_by(2).zip(states).zip(texts).map(|((peer, state), reason)| {
        peer.set_state(state);
        json!({ "relay": peer.url.as_str(), "reason": reason })
    });
    shown.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_relays_are_listed_sorted_and_filtered() {
    let folder = TempDir::new().unwrap();
    let gateway = with_relays(RELAYS, &folder, |_| {}).await;
    for (number, peer) in (0..).zip(gateway.pool.peers()) {
        peer.stats.events.add(number);
    }
    let peers = gateway.pool.peers();
    peers[3].set_state(ConnectionState::Connecting);
    (0..5).for_each(|_| peers[42].stats.refuse(DropReason::BadSignature));
    let texts = set_hostile_reasons(&gateway);
    assert_eq!(texts.as_array().map(Vec::len), Some(3));
    drive("relays", gateway.address, json!({ "texts": texts })).await;
}
