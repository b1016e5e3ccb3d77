//! `/api/events/stream` through a real nginx with its default settings, which buffer responses and
//! use HTTP/1.0 behind it.

use relay_sim::wait::until;
use tempfile::TempDir;

use crate::event_client::EventClient;
use crate::gateway::Gateway;
use crate::nginx_process::Nginx;

async fn before(gateway: &Gateway, options: &str) -> Nginx {
    let behind = gateway.address;
    let http = |address| {
        format!(
            "access_log off; gzip on; gzip_types *; gzip_min_length 0;
             server {{ listen {address}; location / {{ proxy_pass http://{behind}; {options} }} }}"
        )
    };
    Nginx::start(TempDir::new().unwrap(), http).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_comes_through_nginx_at_once() {
    let gateway = Gateway::start().await;
    for options in ["", "proxy_http_version 1.1; proxy_set_header Connection \"\";"] {
        let nginx = before(&gateway, options).await;
        let head = gateway.log.head().get();
        let mut client = EventClient::open(nginx.address, "", &[]).await;
        assert_eq!(client.header("content-type"), Some("text/event-stream"), "{options}");
        assert_eq!(client.block().await.unwrap().id, Some(head), "{options}");
        // Each event arrives before the next one is appended.
        for seq in head + 1..=head + 20 {
            gateway.append_numbered(1).await;
            client.expect([seq]).await;
        }
        gateway.append_numbered(2_000).await;
        client.expect(head + 21..=head + 2_020).await;
        drop(client);
        until("the gateway notices that the client left", || gateway.clients.connected() == 0).await;
    }
}

/// As a browser does, the client reconnects when nginx is restarted.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_resumes_when_the_proxy_is_restarted() {
    let gateway = Gateway::start().await;
    gateway.append_numbered(100).await;
    let nginx = before(&gateway, "").await;
    let mut client = EventClient::open(nginx.address, "?cursor=0", &[]).await;
    assert_eq!(client.block().await.unwrap().id, Some(0));
    client.expect(1..=100).await;
    drop(nginx);
    assert!(client.block().await.is_err());
    gateway.append_numbered(100).await;
    let nginx = before(&gateway, "").await;
    let mut client = EventClient::open(nginx.address, "?cursor=0", &["last-event-id: 100"]).await;
    assert_eq!(client.block().await.unwrap().id, Some(100));
    client.expect(101..=200).await;
}
