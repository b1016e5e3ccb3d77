//! `[api] trusted_proxies` with X-Forwarded-For: limits per address apply to the clients of a
//! proxy.

use std::net::SocketAddr;
use std::num::NonZeroUsize;

use moltrade_relayer::config::Output;
use relay_sim::wait::{until, within};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::event_client::EventClient;
use crate::gateway::{Gateway, Setup, request, sinks};
use crate::nginx_process::Nginx;

/// Two clients of event streams may have one address.
pub async fn start(api: &str) -> Gateway {
    let output = Output { max_clients_per_address: NonZeroUsize::new(2), ..sinks("") };
    Gateway::start_with(Setup { output, api: api.to_owned(), ..Setup::default() }).await
}

/// Opens a stream from 127.0.0.`host`, and returns the status of the answer.
async fn open(from: u8, to: SocketAddr, headers: &str) -> (u16, TcpStream) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, from], 0))).unwrap();
    let stream = socket.connect(to).await.unwrap();
    status(stream, headers).await
}

/// Sends a request for a stream over a connection, and returns the status of the answer.
pub async fn status(mut stream: TcpStream, headers: &str) -> (u16, TcpStream) {
    let request = format!("GET /api/events/stream HTTP/1.1\r\nhost: x\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = [0; 12];
    within("a status", stream.read_exact(&mut head)).await.unwrap();
    (std::str::from_utf8(&head[9..]).unwrap().parse().unwrap(), stream)
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_a_trusted_proxy_are_limited_by_their_own_addresses() {
    let gateway = start("trusted_proxies = ['127.0.0.1', '10.0.0.0/8']").await;
    let mut open_streams = Vec::new();
    for (header, expected) in [
        ("x-forwarded-for: 192.0.2.1\r\n", 200),
        ("x-forwarded-for: 198.51.100.7, 192.0.2.1\r\n", 200),
        ("x-forwarded-for: 192.0.2.9\r\nx-forwarded-for: 192.0.2.1, 10.1.2.3\r\n", 429),
        ("x-forwarded-for: 192.0.2.2\r\n", 200),
        ("x-forwarded-for: 192.0.2.1\r\n", 429),
        // Without a usable address, the proxy's own counts.
        ("", 200),
        ("x-forwarded-for: 127.0.0.9\r\n", 200),
        ("x-forwarded-for: unknown\r\n", 429),
        ("forwarded: for=192.0.2.3\r\nx-real-ip: 192.0.2.4\r\n", 429),
    ] {
        let (status, stream) = open(1, gateway.address, header).await;
        assert_eq!(status, expected, "{header}");
        if status == 200 {
            open_streams.push(stream);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_of_another_peer_changes_nothing() {
    for api in ["trusted_proxies = ['127.0.0.1']", ""] {
        let gateway = start(api).await;
        let mut open_streams = Vec::new();
        for (header, expected) in [
            ("x-forwarded-for: 192.0.2.1\r\n", 200),
            ("x-forwarded-for: 192.0.2.2\r\n", 200),
            ("x-forwarded-for: 192.0.2.3\r\n", 429),
            ("x-forwarded-for: 127.0.0.1\r\n", 429),
            ("", 429),
        ] {
            let (status, stream) = open(2, gateway.address, header).await;
            assert_eq!(status, expected, "{api}: {header}");
            open_streams.push(stream);
        }
    }
}

/// A call that came through a proxy is not local, whatever address it claims.
#[tokio::test(flavor = "multi_thread")]
async fn trust_gives_no_rights() {
    let gateway = start("trusted_proxies = ['127.0.0.1']").await;
    let local = ["host: localhost", "content-type: application/json"];
    assert_eq!(gateway.call("POST", "/api/config/reload", &local, "").await.status, 200);
    for claim in ["127.0.0.1", "::1", "127.0.0.1, 127.0.0.1", ""] {
        let header = format!("x-forwarded-for: {claim}");
        let headers = [&local[..], &[header.as_str()]].concat();
        let answer = gateway.call("POST", "/api/config/reload", &headers, "").await;
        answer.error(403, "admin_token_required");
    }
}

/// The header as nginx writes it, from clients with different addresses.
#[tokio::test(flavor = "multi_thread")]
async fn limits_work_through_nginx() {
    // nginx connects from 127.0.0.3.
    let gateway = start("trusted_proxies = ['127.0.0.3']").await;
    let behind = gateway.address;
    let http = |address: SocketAddr| {
        format!(
            "access_log off; server {{ listen {address}; location / {{ proxy_pass http://{behind}; proxy_bind 127.0.0.3;
             proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_buffering off; }} }}"
        )
    };
    let nginx = Nginx::start(TempDir::new().unwrap(), http).await;
    // The addresses 127.0.0.x of these clients count as nginx's own, because they are loopback.
    let client = |invented: &str| format!("x-forwarded-for: {invented}\r\n");
    let first = open(1, nginx.address, &client("192.0.2.1")).await;
    let second = open(1, nginx.address, &client("192.0.2.2")).await;
    let third = open(1, nginx.address, &client("192.0.2.3")).await;
    assert_eq!([first.0, second.0, third.0], [200, 200, 429], "what clients invent changes nothing");
    drop((first, second));
    until("they are gone", || gateway.clients.connected() == 0).await;

    // A chain of two proxies. The first one is trusted, too.
    let gateway = start("trusted_proxies = ['127.0.0.0/8']").await;
    let behind = gateway.address;
    let http = |address: SocketAddr| {
        format!(
            "access_log off; server {{ listen {address}; location / {{ proxy_pass http://{behind};
             proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_buffering off; }} }}"
        )
    };
    let nginx = Nginx::start(TempDir::new().unwrap(), http).await;
    for last in 1..=6 {
        let header = client(&format!("198.51.100.9, 192.0.2.{last}"));
        std::mem::forget(open(1, nginx.address, &header).await.1);
    }
    assert_eq!(gateway.clients.connected(), 6);
    let mut stream = EventClient::open(nginx.address, "", &["x-forwarded-for: 192.0.2.1"]).await;
    stream.block().await.unwrap();
    assert_eq!(open(1, nginx.address, &client("192.0.2.1")).await.0, 429);
    let health = request(nginx.address, "GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(health.status, 200);
}
