//! A real nginx in front of the sink. After `keepalive_requests`, nginx closes an HTTP/2 connection
//! with GOAWAY.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;

use tempfile::TempDir;

use crate::gateway::{Gateway, until};
use crate::hook::Hook;
use crate::https::{certificates, sink};
use crate::nginx_process::Nginx;

/// Starts nginx with TLS that proxies to a server.
async fn before(behind: SocketAddr, parameters: &str, keepalive_requests: usize) -> Nginx {
    let (folder, (pem, certificate, key)) = (TempDir::new().unwrap(), certificates("localhost"));
    let path = |name: &str| folder.path().join(name);
    let as_pem = |label, der: &[u8]| {
        let text = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, der);
        format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
    };
    fs::write(path("ca.pem"), pem).unwrap();
    fs::write(path("cert.pem"), as_pem("CERTIFICATE", &certificate)).unwrap();
    fs::write(path("key.pem"), as_pem("PRIVATE KEY", key.secret_pkcs8_der())).unwrap();
    let http = |address| {
        format!(
            "log_format requests '$connection $connection_requests $server_protocol $status';
             access_log requests requests;
             server {{
                 listen {address} ssl{parameters};
                 ssl_certificate cert.pem; ssl_certificate_key key.pem;
                 keepalive_requests {keepalive_requests};
                 location / {{ proxy_pass http://{behind}; }}
             }}"
        )
    };
    Nginx::start(folder, http).await
}

/// The number of requests on each connection, and the protocols of the requests.
fn requests(nginx: &Nginx) -> (BTreeMap<u64, usize>, Vec<String>) {
    let log = fs::read_to_string(nginx.folder.path().join("requests")).unwrap();
    let (mut connections, mut protocols) = (BTreeMap::new(), Vec::new());
    for line in log.lines() {
        let fields: Vec<_> = line.split(' ').collect();
        *connections.entry(fields[0].parse().unwrap()).or_default() += 1;
        protocols.push(fields[2].to_owned());
    }
    protocols.sort_unstable();
    protocols.dedup();
    (connections, protocols)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_arrives_once_and_in_order_while_nginx_closes_connections() {
    const EVENTS: usize = 3_000;
    const REQUESTS: usize = 5;
    for (parameters, protocol) in [(" http2", "HTTP/2.0"), ("", "HTTP/1.1")] {
        let mut hook = Hook::start().await;
        let nginx = before(hook.address, parameters, REQUESTS).await;
        let folder = TempDir::new().unwrap();
        let gateway = Gateway::start_with(&folder, &sink(nginx.address, &nginx.folder.path().join("ca.pem")));
        gateway.append(1..=EVENTS as u64);
        assert_eq!(hook.dates(EVENTS).await, (1..=EVENTS as u64).collect::<Vec<_>>(), "{protocol}");
        gateway.until_delivered(0, EVENTS as u64).await;
        hook.nothing().await;
        assert_eq!((gateway.sink(0).retries.get(), gateway.sink(0).last_error()), (0, None), "{protocol}");
        gateway.stop().await;
        // nginx logs a request after the request has ended.
        until("the log of nginx", || requests(&nginx).0.values().sum::<usize>() == EVENTS).await;
        let (connections, protocols) = requests(&nginx);
        assert_eq!((connections.len(), protocols), (EVENTS / REQUESTS, vec![protocol.to_owned()]));
        assert!(connections.values().all(|requests| *requests == REQUESTS), "{connections:?}");
    }
}
