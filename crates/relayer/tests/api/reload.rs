//! `POST /api/config/reload`: the answer, and files that are refused.

use serde_json::json;

use crate::gateway::{Gateway, Setup};

pub async fn reload(gateway: &Gateway, configuration: &str) -> crate::gateway::Response {
    std::fs::write(gateway.config_file(), configuration).unwrap();
    gateway.change("POST", "/api/config/reload", "").await
}

#[tokio::test(flavor = "multi_thread")]
async fn differences_are_applied_and_reported() {
    let relays = vec!["wss://a.example", "wss://b.example"];
    let gateway = Gateway::start_with(Setup { relays, ..Setup::default() }).await;
    let kept = gateway.pool.peers().remove(1);
    let new = "
        relay.max_connections = 3
        relay.bootstrap_relays = ['wss://b.example', 'wss://c.example', 'wss://d.example']
        filters.allowed_kinds = [1]
        output.batch_size = 7
        api.admin_token = 'correct-horse-battery-staple'";
    let answer = reload(&gateway, new).await;
    assert_eq!(
        (answer.status, answer.json()),
        (
            200,
            json!({
                "relays_added": 2,
                "relays_removed": 1,
                "filters_changed": true,
                "changed": [
                    "relay.bootstrap_relays",
                    "relay.max_connections",
                    "filters.allowed_kinds",
                    "output.tcp",
                    "api.admin_token",
                ],
                // The file lacks the sink of the running gateway.
                "sinks": { "added": [], "changed": [], "removed": ["archive"], "unchanged": [] },
                "readers": { "added": 0, "changed": 0, "removed": 0 },
                // The file lacks the log's settings, too.
                "needs_restart": [
                    "deduplication.rocksdb_path",
                    "storage.fsync",
                    "storage.tail_bytes",
                    "output.batch_size",
                ],
                "restart_reasons": {
                    "deduplication.rocksdb_path": "the database is opened at the start",
                    "storage.fsync": "the database is opened at the start",
                    "storage.tail_bytes": "tables in memory get their size at the start",
                    "output.batch_size": "the threads that verify and commit events get it at the start",
                },
            })
        )
    );
    let peers = gateway.pool.peers();
    assert!(peers.iter().any(|peer| std::sync::Arc::ptr_eq(peer, &kept)), "it was not touched");
    let urls: Vec<_> = peers.iter().map(|peer| peer.url.as_str()).collect();
    assert_eq!(urls, ["wss://b.example", "wss://c.example", "wss://d.example"]);

    let token = "authorization: Bearer correct-horse-battery-staple";
    let again = gateway.call("POST", "/api/config/reload", &["host: localhost", token], "{}").await.json();
    assert_eq!((&again["changed"], &again["needs_restart"]), (&json!([]), &answer.json()["needs_restart"]));
    assert_eq!((&again["relays_added"], &again["filters_changed"]), (&json!(0), &json!(false)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_changes_nothing_and_its_problems_are_listed() {
    let gateway = Gateway::start().await;
    let broken = "[relay]\nbootstrap_relays = ['wss://h.example', 'https://a.example']\n[api]\nadmin_token = 'hunter2'";
    let answer = reload(&gateway, broken).await;
    let told = answer.error(422, "bad_config");
    assert!(
        told.contains("the old one stays in effect") && told.contains("(2 in all; the first: "),
        "{told}"
    );
    let file = gateway.config_file().display().to_string();
    let problems = &answer.json()["problems"];
    assert_eq!(
        problems[0],
        json!({
            "file": file, "line": 2, "column": 40, "key": "relay.bootstrap_relays",
            "message": "found \"https://a.example\" (its scheme is not ws:// or wss://); \
                        allowed: a relay URL (ws:// or wss://, and a host)",
        })
    );
    assert_eq!((&problems[1]["key"], &problems[1]["line"]), (&json!("api.admin_token"), &json!(4)));
    assert!(!answer.text.contains("hunter2"), "{}", answer.text);
    assert_eq!(gateway.pool.peers().len(), 1);

    std::fs::remove_file(gateway.config_file()).unwrap();
    let gone = gateway.change("POST", "/api/config/reload", "").await;
    gone.error(422, "bad_config");
    let problem = &gone.json()["problems"][0];
    assert_eq!(
        (&problem["file"], &problem["line"], &problem["key"]),
        (&json!(file), &json!(null), &json!(null))
    );
    assert_eq!(gateway.pool.peers().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_of_problems_is_limited() {
    let gateway = Gateway::start().await;
    let answer = reload(&gateway, &format!("relay.bootstrap_relays = [{}]", "7,".repeat(10_000))).await;
    let told = answer.error(422, "bad_config");
    assert!(told.contains("(10000 in all; "), "{told}");
    assert_eq!(answer.json()["problems"].as_array().unwrap().len(), 100);
    assert!(answer.text.len() < 50_000);
}
