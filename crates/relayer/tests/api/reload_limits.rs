//! Limits, tokens and options across reloads. Connections that are open stay open.

use relay_sim::wait::until;
use serde_json::json;

use crate::gateway::{Gateway, next_seqs, until_closed};
use crate::readers::ask;
use crate::reload::reload;

const PREFLIGHT: &[&str] = &["host: x", "origin: https://app.example", "access-control-request-method: GET"];

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_token_is_replaced() {
    let gateway = Gateway::start().await;
    let call = async |token: &str| {
        let token = format!("authorization: Bearer {token}");
        gateway.call("POST", "/api/config/reload", &["host: localhost", &token], "").await
    };
    let (one, other) = ("correct-horse-battery-staple", "another-correct-horse-battery");
    assert_eq!(reload(&gateway, &format!("api.admin_token = '{one}'")).await.status, 200);
    gateway.change("POST", "/api/config/reload", "").await.error(401, "unauthorized");
    std::fs::write(gateway.config_file(), format!("api.admin_token = '{other}'")).unwrap();
    let answer = call(one).await;
    assert_eq!((answer.status, &answer.json()["changed"]), (200, &json!(["api.admin_token"])));
    assert!(!answer.text.contains(other), "{}", answer.text);
    call(one).await.error(401, "unauthorized");
    assert_eq!(call(other).await.json()["changed"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_are_added_changed_and_removed() {
    let gateway = Gateway::start().await;
    let status = async |token: &str| ask(&gateway, "GET", "/status", token).await.status;
    let (one, other) = ("correct-horse-battery-staple", "another-correct-horse-battery");
    let file = |token: &str| format!("[[api.readers]]\nname = 'desk'\ntoken = '{token}'");
    assert_eq!(status("").await, 200);
    let mut anonymous = gateway.connect("?cursor=0").await;
    let added = reload(&gateway, &file(one)).await;
    assert_eq!(added.json()["readers"], json!({ "added": 1, "changed": 0, "removed": 0 }), "{}", added.text);
    assert_eq!(until_closed(&mut anonymous).await.1, "1008 reading needs a token that is valid now");
    assert_eq!((status("").await, status(one).await), (401, 200));
    let changed = reload(&gateway, &file(other)).await;
    assert_eq!(changed.json()["readers"], json!({ "added": 0, "changed": 1, "removed": 0 }));
    assert_eq!(changed.json()["changed"], json!(["api.readers"]));
    assert!(![one, other].iter().any(|token| changed.text.contains(token)), "{}", changed.text);
    assert_eq!((status(one).await, status(other).await), (401, 200));
    assert_eq!(reload(&gateway, &file("short")).await.status, 422);
    assert_eq!((status("").await, status(other).await), (401, 200));
    let removed = reload(&gateway, "").await;
    assert_eq!(removed.json()["readers"], json!({ "added": 0, "changed": 0, "removed": 1 }));
    assert_eq!(status("").await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_and_origins_apply_to_new_clients_and_open_ones_stay() {
    let gateway = Gateway::start().await;
    let mut client = gateway.connect("?cursor=0&consumer=first").await;
    let file = "output.max_clients = 1\noutput.max_consumers = 1";
    assert_eq!(reload(&gateway, file).await.json()["needs_restart"], json!(BASE));
    gateway.refused("/ws").await.error(503, "too_many_clients");
    reload(&gateway, "output.max_clients = 2\noutput.max_consumers = 1").await;
    gateway.refused("/ws?consumer=second").await.error(503, "too_many_consumers");
    reload(&gateway, "output.max_clients_per_address = 1").await;
    gateway.refused("/ws").await.error(429, "too_many_clients_from_address");
    reload(&gateway, "output.websocket_enabled = false").await;
    gateway.refused("/ws").await.error(404, "websocket_disabled");
    reload(&gateway, "").await;
    let mut second = gateway.connect("?cursor=0&consumer=second").await;
    gateway.append_numbered(3).await;
    assert_eq!(next_seqs(&mut client, 3).await, [1, 2, 3]);
    assert_eq!(next_seqs(&mut second, 3).await, [1, 2, 3]);

    reload(&gateway, "fanout.max_clients = 1").await;
    let follower = gateway.connect_stalled_to("/fanout").await;
    until("the follower is connected", || gateway.fanout().unwrap().clients.connected() == 1).await;
    gateway.refused("/fanout").await.error(503, "too_many_clients");
    drop(follower);

    let preflight = async || gateway.call("OPTIONS", "/api/events", PREFLIGHT, "").await;
    assert_eq!(preflight().await.status, 405);
    reload(&gateway, "api.allowed_origins = ['https://app.example']").await;
    let allowed = preflight().await;
    assert_eq!(allowed.header("access-control-allow-origin"), Some("https://app.example"));
    reload(&gateway, "").await;
    assert_eq!(preflight().await.status, 405);
}

/// The keys that the tests' gateway sets in another way than by its file.
const BASE: [&str; 3] = ["deduplication.rocksdb_path", "storage.fsync", "storage.tail_bytes"];

#[tokio::test(flavor = "multi_thread")]
async fn the_space_that_must_stay_free_is_replaced() {
    let gateway = Gateway::start().await;
    gateway.set_free_bytes(300 * 1024 * 1024);
    let back_up = async || gateway.change("POST", "/api/backup", "").await;
    assert_eq!(back_up().await.status, 200);
    assert_eq!(reload(&gateway, "storage.min_free_bytes = 1000000000").await.status, 200);
    back_up().await.error(507, "disk_full");
    let metrics = gateway.get("/metrics").await.text;
    assert!(metrics.lines().any(|line| line == "disk_min_free_bytes 1000000000"), "{metrics}");
    reload(&gateway, "storage.min_free_bytes = 0").await;
    assert_eq!(back_up().await.status, 200);
}
