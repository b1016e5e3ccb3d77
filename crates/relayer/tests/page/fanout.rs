//! Bots with their followers and last signals, which only the operator may see.

use moltrade_relayer::clock::unix_ms;
use moltrade_relayer::fanout::registry::{BotName, BotRow, Change, Row};
use serde_json::json;
use tempfile::TempDir;
use wire::Signer;

use crate::browser::drive;
use crate::gateway::{TOKEN, append, event, start};

const SIGNAL: u16 = 30_931;

#[tokio::test(flavor = "multi_thread")]
async fn bots_are_listed_for_the_operator() {
    let folder = TempDir::new().unwrap();
    let bots = [("Momentum", true), ("<b onclick='hacked = 1'>Bold</b>", true), ("Newcomer", false)];
    let keys: Vec<Signer> = (100..).take(bots.len()).map(Signer::from_seed).collect();
    let rows = bots.iter().zip(&keys).map(|((name, is_approved), key)| {
        let (pubkey, name) = (*key.pubkey(), BotName::new(name).unwrap());
        Change::Put(Row::Bot(BotRow { pubkey, name, registered_at_ms: unix_ms(), is_approved: *is_approved }))
    });
    let rows = rows.collect();
    let gateway = start(&folder, "[fanout]\nenabled = true", |setup| setup.registry = Some(rows)).await;
    let signal = event(&keys[0], SIGNAL, "buy");
    let id = signal.id().to_string();
    append(&gateway, vec![signal]).await;
    drive("fanout", gateway.address, json!({ "token": TOKEN, "signal": id })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_without_fanout_sinks_and_consumers_says_so() {
    let folder = TempDir::new().unwrap();
    let gateway = start(&folder, "[fanout]\nenabled = false", |_| {}).await;
    drive("nothing", gateway.address, json!({})).await;
}
