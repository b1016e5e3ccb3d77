//! Operator actions on the running program, and its protection against connecting to itself.

use std::time::{Duration, Instant};

use relay_sim::{Count, Sim};
use serde_json::Value;

use crate::program::{PATIENCE, Running, Site};

/// Waits until `/api/relays` shows the relay in this state, and returns its entry.
async fn until_in(running: &Running, url: &str, status: &str) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let list = running.json("/api/relays").await;
        let relays = list["relays"].as_array().expect("a list");
        let found = relays.iter().find(|relay| relay["url"] == url && relay["status"] == status);
        if let Some(found) = found {
            return found.clone();
        }
        assert!(Instant::now() < deadline, "{url} is not {status}: {list}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_that_leads_to_the_gateway_itself_is_refused() {
    let site = Site::empty();
    let itself = site.ws("");
    let site = site.set("RELAY_URLS", itself.as_str());
    let running = site.start().await;
    let relay = until_in(&running, &itself, "refused").await;
    assert_eq!(relay["reason"], "the URL leads back to this gateway itself");
    assert_eq!(relay["connections_opened"], 0, "{relay}");
}

fn configuration(sim: &Sim, relays: &[usize], kinds: &str) -> String {
    let urls: Vec<String> = relays.iter().map(|relay| format!("'{}'", sim.url(*relay))).collect();
    format!("[relay]\nbootstrap_relays = [{}]\n[filters]\nallowed_kinds = [{kinds}]\n", urls.join(", "))
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_takes_up_a_good_file_and_leaves_a_broken_one() {
    let sim = Sim::builder().seed(16).scripted(3).start().await.expect("starts");
    let site = Site::empty().unset("RELAY_URLS");
    let file = site.folder().join("config.toml");
    std::fs::write(&file, configuration(&sim, &[0, 1], "1")).expect("written");
    let running = site.start().await;
    until_in(&running, &sim.url(0), "live").await;
    until_in(&running, &sim.url(1), "live").await;

    // A valid file: the second relay stays connected and gets a request for the new kind.
    std::fs::write(&file, configuration(&sim, &[1, 2], "7")).expect("written");
    running.signal("HUP");
    until_in(&running, &sim.url(2), "live").await;
    let deadline = Instant::now() + PATIENCE;
    while sim.open_connections(0) > 0 || !sim.requests(1).iter().any(|request| request.contains("[7]")) {
        assert!(Instant::now() < deadline, "{:?}", sim.requests(1));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    // An invalid file: the error is reported, and the configuration does not change.
    std::fs::write(&file, configuration(&sim, &[0], "'seven'")).expect("written");
    running.signal("HUP");
    running.until_stderr_contains("the configuration was not reloaded, the old one stays in effect").await;
    let list = running.json("/api/relays").await;
    assert_eq!(list["total"], 2, "{list}");
    let connections = [0, 1, 2].map(|relay| sim.stats().of(relay, Count::Connections));
    assert_eq!(connections, [1, 1, 1]);
    assert_eq!([0, 1, 2].map(|relay| sim.open_connections(relay)), [0, 1, 1]);
}
