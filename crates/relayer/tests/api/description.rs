//! The OpenAPI document and its page. The helpers in `gateway.rs` compare every answer in these
//! tests with the document.

use std::collections::BTreeSet;
use std::path::Path;

use futures_util::StreamExt;
use moltrade_relayer::testing::api_description;
use relay_sim::wait::within;
use serde_json::json;
use tokio_websockets::ClientBuilder;

use crate::described::{check_answer, check_message, operations};
use crate::gateway::Gateway;

const API: &str = include_str!("../../../../docs/API.md");
const FANOUT: &str = include_str!("../../../../docs/fanout.md");

/// A route that is registered in another way would not be described.
#[test]
fn every_route_is_registered_with_its_description() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut registering = BTreeSet::new();
    let mut folders = vec![sources.clone()];
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir().unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let source = std::fs::read_to_string(&path).unwrap_or_default();
            let code = source.split("\n#[cfg(test)]\n").next().unwrap();
            if [".route(", ".route_service(", ".nest(", ".nest_service("]
                .iter()
                .any(|call| code.contains(call))
            {
                registering.insert(path.strip_prefix(&sources).unwrap().display().to_string());
            }
        }
    }
    assert_eq!(registering, BTreeSet::from(["api/description/routes.rs".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_described_route_is_served() {
    let gateway = Gateway::start().await;
    let mut count = 0;
    for (method, path, _) in operations() {
        count += 1;
        let target = path.replace("{url}", "wss%3A%2F%2Fa.example").replace(['{', '}'], "");
        let answer = gateway.call(&method, &target, &["host: x", "accept: text/html"], "").await;
        // No file has the version `version`.
        if answer.status >= 400 && !path.contains("{version}") {
            let code = answer.json()["error"].clone();
            assert!(code != "not_found" && code != "method_not_allowed", "{method} {path}: {code}");
        }
    }
    assert!(count >= 38, "only {count} routes are described");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_is_served() {
    let gateway = Gateway::start().await;
    let answer = gateway.get("/api/openapi.json").await;
    assert_eq!(answer.json(), api_description());
    let tag = answer.header("etag").unwrap();
    let again =
        gateway.call("GET", "/api/openapi.json", &["host: x", &format!("if-none-match: {tag}")], "").await;
    assert_eq!((again.status, again.text.as_str(), again.header("etag")), (304, "", Some(tag)));
    let changed = gateway.call("GET", "/api/openapi.json", &["host: x", "if-none-match: \"0\""], "").await;
    assert_eq!(changed.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_loads_nothing_from_elsewhere() {
    let gateway = Gateway::start().await;
    let page = gateway.get("/api/docs").await;
    assert_eq!((page.status, page.header("cache-control")), (200, Some("no-cache")));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    assert!(!page.text.contains("://") && !page.text.contains("style="), "{}", page.text);
    let files = page.text.split('"').filter(|text| text.starts_with("docs/"));
    let mut kinds = Vec::new();
    for file in files {
        let answer = gateway.get(&format!("/api/{file}")).await;
        assert_eq!(answer.status, 200, "{file}");
        assert_eq!(answer.header("cache-control"), Some("public, max-age=31536000, immutable"));
        assert!(!answer.text.contains("://") && !answer.text.contains("innerHTML"), "{file}");
        kinds.push(answer.header("content-type").unwrap().to_owned());
        let (_, name) = file.rsplit_once('/').unwrap();
        gateway.get(&format!("/api/docs/0123456789abcdef/{name}")).await.error(404, "not_found");
    }
    assert_eq!(kinds, ["text/css; charset=utf-8", "text/javascript; charset=utf-8"]);
    gateway.get("/api/docs/x/..%2fCargo.toml").await.error(404, "not_found");
}

/// The answers that docs/API.md and docs/fanout.md list and those of the document are the same.
#[test]
fn the_errors_are_those_of_the_documentation() {
    let mut described = BTreeSet::new();
    for (_, _, operation) in operations() {
        for (status, answer) in operation["responses"].as_object().unwrap() {
            let codes =
                &answer["content"]["application/json"]["schema"]["allOf"][1]["properties"]["error"]["enum"];
            let codes = codes.as_array().into_iter().flatten();
            described.extend(codes.map(|code| (status.clone(), code.as_str().unwrap().to_owned())));
        }
    }
    let mut documented = BTreeSet::new();
    for text in [API, FANOUT] {
        let (_, errors) = text.split_once("\n## Errors\n").unwrap();
        let errors = errors.split("\n## ").next().unwrap();
        for line in errors.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| status")) {
            let mut cells = line.split('|').map(str::trim).skip(1);
            let (status, codes) = (cells.next().unwrap(), cells.next().unwrap());
            documented
                .extend(codes.split('`').skip(1).step_by(2).map(|code| (status.to_owned(), code.to_owned())));
        }
    }
    // Answered to requests that no route takes.
    documented.remove(&("405".to_owned(), "method_not_allowed".to_owned()));
    let missing: Vec<_> = documented.difference(&described).collect();
    let undocumented: Vec<_> = described.difference(&documented).collect();
    assert!(
        missing.is_empty() && undocumented.is_empty(),
        "missing: {missing:?}, undocumented: {undocumented:?}"
    );
}

#[test]
fn the_routes_are_those_of_the_documentation() {
    let text =
        format!("{API}{FANOUT}").replace("bot_pubkey}", "bot}").replace("follower_pubkey}", "follower}");
    for (method, path, _) in operations() {
        let full = format!("`{method} {path}");
        let shortened = format!("`{method} …{}", path.trim_start_matches("/api/downstreams/{name}"));
        let command = path.replace("/api/downstreams/{name}", "$api/archive");
        let is_there = [full, shortened, command].iter().any(|name| text.contains(name));
        assert!(is_there || path.starts_with("/api/docs/"), "{method} {path} is in no documentation");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_the_websocket_are_described() {
    let gateway = Gateway::start().await;
    gateway.append_numbered(1).await;
    for (format, field) in [("event", "sig"), ("envelope", "received_at")] {
        let url = format!("ws://{}/ws?cursor=0&format={format}", gateway.address);
        let builder = ClientBuilder::new().uri(&url).unwrap();
        let (mut socket, _) = within("the handshake", builder.connect()).await.unwrap();
        let message = within("a message", socket.next()).await.unwrap().unwrap();
        let text = message.as_text().unwrap();
        assert!(text.contains(&format!("\"{field}\":")), "{text}");
        check_message("/ws", text);
    }
}

#[test]
#[should_panic(expected = "Unevaluated properties are not allowed")]
fn a_field_that_is_not_described_is_noticed() {
    let body = json!({ "status": "healthy", "service": "x", "new": 1 }).to_string();
    check_answer("GET", "/health", 200, Some("application/json"), &body);
}

#[test]
#[should_panic(expected = "the status is not described")]
fn a_status_that_is_not_described_is_noticed() {
    check_answer("GET", "/health", 410, Some("application/json"), "{}");
}
