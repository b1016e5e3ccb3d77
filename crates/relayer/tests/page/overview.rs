//! The overview of a gateway under load.

use std::path::Path;

use moltrade_relayer::config::Config;
use moltrade_relayer::testing::Setup;
use relay_sim::Sim;
use serde_json::json;
use tempfile::TempDir;

use crate::browser::drive;

const RELAYS: usize = 6;

#[tokio::test(flavor = "multi_thread")]
async fn the_overview_shows_what_happens() {
    let folder = TempDir::new().unwrap();
    let sim = Sim::builder().relays(RELAYS).events(6_000).copies(4).per_second(50.0).start().await.unwrap();
    // A port on which nothing listens.
    let text = "[[output.tcp]]\nname = 'nowhere'\naddress = '127.0.0.1:1'";
    let mut loaded = Config::parse(Some((Path::new("config.toml"), text)), []).unwrap();
    let config = &mut loaded.config;
    config.relay.bootstrap_relays = sim.urls().iter().map(|url| url.parse().unwrap()).collect();
    config.deduplication.rocksdb_path = folder.path().join("log");
    config.storage.fsync = false;
    let gateway = Setup::loaded(loaded).start().await.unwrap();
    sim.wait_subscribed(RELAYS).await;
    drive("overview", gateway.address, json!({})).await;
    drop(gateway);
    sim.stop().await;
}
