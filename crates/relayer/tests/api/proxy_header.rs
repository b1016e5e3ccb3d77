//! `[api] proxy_protocol`: the header of the PROXY protocol, version 2, from trusted proxies.

use std::net::SocketAddr;

use relay_sim::wait::{until, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::gateway::Gateway;
use crate::haproxy_process::Haproxy;
use crate::proxies::{start, status};

const API: &str = "trusted_proxies = ['127.0.0.2']\nproxy_protocol = true";

async fn connect(from: u8, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, from], 0))).unwrap();
    socket.connect(to).await.unwrap()
}

/// The header for a connection from this IPv4 address.
fn header(command: u8, source: [u8; 4]) -> Vec<u8> {
    let addresses = [&source[..], &[127, 0, 0, 1, 0x30, 0x39, 0, 80]].concat();
    [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[command, 0x11, 0, 12], &addresses].concat()
}

/// Opens a stream behind a trusted proxy.
async fn open(gateway: &Gateway, header: &[u8], headers: &str) -> (u16, TcpStream) {
    let mut stream = connect(2, gateway.address).await;
    stream.write_all(header).await.unwrap();
    status(stream, headers).await
}

fn refused(gateway: &Gateway) -> String {
    let text = gateway.metrics_text();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("connections_refused_total{reason=\"bad_proxy_header\"} "));
    line.unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_header_has_the_address_of_the_client() {
    let gateway = start(API).await;
    let mut open_streams = Vec::new();
    for (source, headers, expected) in [
        ([192, 0, 2, 1], "", 200),
        ([192, 0, 2, 1], "", 200),
        ([192, 0, 2, 1], "", 429),
        ([192, 0, 2, 2], "", 200),
        // The client is no trusted proxy.
        ([192, 0, 2, 1], "x-forwarded-for: 192.0.2.3\r\n", 429),
        // No client can have such an address, so the proxy's own address counts, not the client's
        // X-Forwarded-For.
        ([127, 0, 0, 1], "", 200),
        ([127, 0, 0, 9], "", 200),
        ([0, 0, 0, 0], "", 429),
        ([127, 0, 0, 1], "x-forwarded-for: 192.0.2.4\r\n", 429),
    ] {
        let (status, stream) = open(&gateway, &header(0x21, source), headers).await;
        assert_eq!(status, expected, "{source:?}");
        open_streams.push(stream);
    }
    drop(open_streams);
    until("they are gone", || gateway.clients.connected() == 0).await;
    // A health check of the proxy.
    assert_eq!(open(&gateway, &header(0x20, [0; 4]), "").await.0, 200);
    // In pieces, and together with the request.
    let mut stream = connect(2, gateway.address).await;
    stream.set_nodelay(true).unwrap();
    for byte in header(0x21, [192, 0, 2, 1]) {
        stream.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(status(stream, "").await.0, 200);
    assert_eq!(refused(&gateway), "0");
}

/// Reads until the connection is closed.
async fn answer(mut stream: TcpStream, sent: &[u8]) -> String {
    stream.write_all(sent).await.unwrap();
    let mut answer = Vec::new();
    drop(within("the end", stream.read_to_end(&mut answer)).await);
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_without_a_valid_header_is_closed() {
    let gateway = start(API).await;
    let request = b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let unix_datagram = [&header(0x21, [192, 0, 2, 1])[..13], &[0x32, 0, 0]].concat();
    let long = [&header(0x21, [192, 0, 2, 1])[..14], &[0xff, 0xff]].concat();
    let invalid: [&[u8]; 5] = [
        request,
        b"PROXY TCP4 192.0.2.1 127.0.0.1 4660 80\r\nGET /health HTTP/1.1\r\n\r\n",
        &header(0x22, [192, 0, 2, 1]),
        &unix_datagram,
        &long,
    ];
    for (count, bytes) in (1..).zip(invalid) {
        assert_eq!(answer(connect(2, gateway.address).await, bytes).await, "", "{bytes:?}");
        until("it is counted", || refused(&gateway) == count.to_string()).await;
    }
    // A slow one costs nobody else anything, and is closed as well.
    let mut slow = connect(2, gateway.address).await;
    slow.write_all(&header(0x21, [192, 0, 2, 1])[..20]).await.unwrap();
    let quick = [&header(0x21, [192, 0, 2, 1])[..], request].concat();
    assert!(answer(connect(2, gateway.address).await, &quick).await.starts_with("HTTP/1.1 200 "));
    assert_eq!(answer(slow, b"").await, "");
    until("it is counted", || refused(&gateway) == "6").await;
    until("all slots are free", || gateway.metrics_text().contains("\nconnections 0\n")).await;
}

/// To any other peer, the header is a malformed request.
#[tokio::test(flavor = "multi_thread")]
async fn the_header_of_another_peer_is_not_read() {
    let gateway = start(API).await;
    let request = b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let with_header = [&header(0x21, [127, 0, 0, 1])[..], request].concat();
    for from in [1, 3] {
        let stream = connect(from, gateway.address).await;
        let told = answer(stream, &with_header).await;
        assert!(!told.contains(" 200 "), "{told}");
        let stream = connect(from, gateway.address).await;
        assert!(answer(stream, request).await.starts_with("HTTP/1.1 200 "));
    }
    // Without the option, a trusted proxy sends plain HTTP.
    let gateway = start("trusted_proxies = ['127.0.0.2']").await;
    let told = answer(connect(2, gateway.address).await, &with_header).await;
    assert!(!told.contains(" 200 "), "{told}");
}

/// The request itself does not show that it came through a proxy for TCP.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_behind_the_proxy_is_not_local() {
    let gateway = start(API).await;
    let reload = b"POST /api/config/reload HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                   content-length: 0\r\nconnection: close\r\n\r\n";
    assert!(answer(connect(1, gateway.address).await, reload).await.starts_with("HTTP/1.1 200 "));
    for source in [[192, 0, 2, 1], [127, 0, 0, 1]] {
        let sent = [&header(0x21, source)[..], reload].concat();
        let told = answer(connect(2, gateway.address).await, &sent).await;
        assert!(told.starts_with("HTTP/1.1 403 ") && told.contains("admin_token_required"), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_work_through_haproxy() {
    let gateway = start(API).await;
    let server = format!("{} send-proxy-v2 source 127.0.0.2", gateway.address);
    for mode in ["tcp", "http"] {
        let haproxy = Haproxy::start(mode, &server).await;
        // Its clients have loopback addresses here, so all count as the proxy.
        let first = status(connect(4, haproxy.address).await, "").await;
        let second = status(connect(5, haproxy.address).await, "x-forwarded-for: 192.0.2.1\r\n").await;
        let third = status(connect(6, haproxy.address).await, "").await;
        assert_eq!([first.0, second.0, third.0], [200, 200, 429], "{mode}");
        drop((first, second));
        until("they are gone", || gateway.clients.connected() == 0).await;
    }
    // Two proxies: one adds the header, and the other passes on the header that it received.
    let gateway = start("trusted_proxies = ['127.0.0.2']\nproxy_protocol = true").await;
    let server = format!("{} send-proxy-v2 source 127.0.0.2", gateway.address);
    let haproxy = Haproxy::start_accepting_proxy("tcp", &server).await;
    let mut open_streams = Vec::new();
    for (source, expected) in [(1, 200), (1, 200), (1, 429), (2, 200)] {
        let mut stream = connect(1, haproxy.address).await;
        stream.write_all(&header(0x21, [192, 0, 2, source])).await.unwrap();
        let (status, stream) = status(stream, "").await;
        assert_eq!(status, expected, "{source}");
        open_streams.push(stream);
    }
    assert_eq!(refused(&gateway), "0");
}
