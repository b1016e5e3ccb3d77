//! Authorization over real sockets. Unit tests cover each rule.

use std::net::Ipv4Addr;

use crate::gateway::{Gateway, Setup};

const TOKEN: &str = "correct-horse-battery-staple";

/// Every route that changes state, with a valid body.
const CHANGING: &[(&str, &str, &str)] = &[
    ("POST", "/api/relays/add", r#"{"url":"wss://new.example"}"#),
    ("DELETE", "/api/relays/remove", r#"{"url":"wss://new.example"}"#),
    ("POST", "/api/config/reload", ""),
];

/// Sends every change with these headers, and expects that each is refused with the same error.
async fn refused(gateway: &Gateway, headers: &[&str], status: u16, code: &str, told: &str) {
    for (method, path, body) in CHANGING {
        let answer = gateway.call(method, path, headers, body).await;
        let message = answer.error(status, code);
        assert!(message.contains(told), "{path}: {message}");
        let challenge = (status == 401).then_some("Bearer realm=\"moltrade-relayer\"");
        assert_eq!(answer.header("www-authenticate"), challenge);
    }
    assert_eq!(gateway.pool.peers().len(), 1, "nothing has changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_token_it_must_be_sent() {
    for bind_address in [Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED] {
        let (admin_token, bind_address) = (Some(TOKEN), bind_address.into());
        let gateway = Gateway::start_with(Setup { admin_token, bind_address, ..Setup::default() }).await;
        let json = "content-type: application/json";
        let missing = "send `Authorization: Bearer <token>`";
        refused(&gateway, &["host: localhost", json], 401, "unauthorized", missing).await;
        let wrong = ["host: localhost", json, "authorization: Bearer correct-horse-battery-stapl"];
        refused(&gateway, &wrong, 401, "unauthorized", "is not the admin_token").await;
        for (method, path, body) in CHANGING {
            let token = format!("authorization: Bearer {TOKEN}");
            let headers = ["host: relayer.example", json, "x-forwarded-for: 8.8.8.8", &token];
            let answer = gateway.call(method, path, &headers, body).await;
            assert!(matches!(answer.status, 200 | 201), "{path}: {}", answer.text);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_only_programs_on_this_machine_may() {
    let gateway = Gateway::start().await;
    let (host, json) = ("host: 127.0.0.1:8080", "content-type: application/json");
    let code = "admin_token_required";
    let mend = "set admin_token under [api]";
    refused(&gateway, &[host, json, "x-forwarded-for: 127.0.0.1"], 403, code, "`x-forwarded-for`").await;
    refused(&gateway, &[host, json, "via: 1.1 proxy"], 403, code, mend).await;
    refused(&gateway, &["host: relayer.example", json], 403, code, "`relayer.example`").await;
    refused(&gateway, &[host, json, "origin: http://a.example"], 403, code, "`http://a.example`").await;
    refused(&gateway, &[host], 415, "json_expected", "application/json").await;
    refused(&gateway, &[host, "content-type: text/plain"], 415, "json_expected", "application/json").await;
    for (method, path, body) in CHANGING {
        let answer = gateway.call(method, path, &[host, json], body).await;
        assert!(matches!(answer.status, 200 | 201), "{path}: {}", answer.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_nobody_may_if_others_can_reach_it() {
    let bind_address = Ipv4Addr::UNSPECIFIED.into();
    let gateway = Gateway::start_with(Setup { bind_address, ..Setup::default() }).await;
    let headers = ["host: 127.0.0.1:8080", "content-type: application/json"];
    let told =
        "has no admin token and listens on 0.0.0.0, where others may reach it; set admin_token under [api]";
    refused(&gateway, &headers, 403, "admin_token_required", told).await;
    assert_eq!(gateway.get("/api/relays").await.status, 200, "reading needs no authorization");
}
