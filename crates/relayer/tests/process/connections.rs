//! Connections that send or read little or nothing are limited and closed, and affect no other
//! connections.

use std::net::SocketAddr;
use std::time::Duration;

use relay_sim::Sim;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::program::{PATIENCE, Running, Site, get};

/// Connects from the address 127.0.0.`host`.
async fn connect_from(host: u8, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from(([127, 0, 0, host], 0))).expect("all of 127/8 is ours");
    socket.connect(to).await.expect("connects")
}

/// The response that a connection gets before it is closed.
async fn told(mut socket: TcpStream) -> String {
    let mut text = Vec::new();
    // If the gateway closes the connection while we write, the connection may be reset.
    let _ = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut text)).await.expect("it is closed");
    String::from_utf8(text).expect("UTF-8")
}

fn open_files(running: &Running) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", running.id())).expect("it runs").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_of_one_address_keep_nobody_else_out() {
    let sim = Sim::builder().seed(51).relays(2).events(3_000).copies(2).per_second(1_000.0).hold();
    let sim = sim.start().await.expect("starts");
    let site = Site::on(&sim).set("RELAYER_API__MAX_CONNECTIONS_PER_ADDRESS", "20");
    let running = site.start().await;
    let address = running.address();
    let mut idle = Vec::new();
    for _ in 0..20 {
        idle.push(connect_from(9, address).await);
    }
    running.until("they are there", async |running| running.metric("connections").await >= 20).await;
    let refused = told(connect_from(9, address).await).await;
    assert!(refused.starts_with("HTTP/1.1 429 Too Many Requests\r\n"), "{refused}");
    assert!(refused.contains("retry-after: 5\r\n"), "{refused}");
    assert!(refused.contains("\"too_many_connections_from_address\""), "{refused}");
    // Other addresses, here 127.0.0.1, are not affected.
    sim.go();
    let mut consumer = site.consumer("?cursor=0").await;
    for seq in 1..=sim.ids().len() as u64 {
        assert_eq!(consumer.next().await.expect("delivered").seq, Some(seq));
    }
    assert!(get(address, "/health").await.expect("an answer").contains("\"healthy\""));
    let metrics = running.get("/metrics").await.expect("an answer");
    assert!(
        metrics.contains("\nconnections_refused_total{reason=\"too_many_from_address\"} 1\n"),
        "{metrics}"
    );
    // Closed connections free slots.
    idle.truncate(10);
    running.until("there is room", async |running| running.metric("connections").await <= 11).await;
    let mut again = connect_from(9, address).await;
    again.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.expect("written");
    assert!(told(again).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_of_all_addresses_are_limited_and_those_to_the_metrics_apart_from_them() {
    let metrics_port = Site::empty().port();
    let site = Site::empty()
        .set("RELAYER_API__MAX_CONNECTIONS", "20")
        .set("RELAYER_MONITORING__PROMETHEUS_PORT", metrics_port.to_string());
    let running = site.start().await;
    let address = running.address();
    let mut idle = Vec::new();
    for host in 100..120 {
        idle.push(connect_from(host, address).await);
    }
    let refused = told(connect_from(9, address).await).await;
    assert!(refused.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{refused}");
    assert!(refused.contains("\"too_many_connections\""), "{refused}");
    let metrics_address = SocketAddr::new(address.ip(), metrics_port);
    let metrics = get(metrics_address, "/metrics").await.expect("an answer");
    assert!(metrics.contains("\nconnections_refused_total{reason=\"too_many\"}"), "{metrics}");
    drop(idle);
    running.until_healthy().await;
}

/// The header of the PROXY protocol, version 2, for a client at 192.0.2.`host`.
fn proxy_header(host: u8) -> Vec<u8> {
    let addresses = [192, 0, 2, host, 127, 0, 0, 1, 0x30, 0x39, 0, 80];
    [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..], &addresses].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_through_a_proxy_are_limited_by_client() {
    let site = Site::empty()
        .set("RELAYER_API__MAX_CONNECTIONS_PER_ADDRESS", "3")
        .set("RELAYER_API__TRUSTED_PROXIES", "127.0.0.9");
    let running = site.start().await;
    let mut idle = Vec::new();
    for _ in 0..10 {
        idle.push(connect_from(9, running.address()).await);
    }
    running.until("they are there", async |running| running.metric("connections").await >= 10).await;
    assert_eq!(running.metric("connections_refused_total{reason=\"too_many_from_address\"}").await, 0);
    drop((running, idle));

    let site = site.set("RELAYER_API__PROXY_PROTOCOL", "true");
    let running = site.start().await;
    let address = running.address();
    let open = async |host| {
        let mut socket = connect_from(9, address).await;
        socket.write_all(&proxy_header(host)).await.expect("written");
        socket
    };
    let mut idle = Vec::new();
    for host in [1, 1, 1, 2] {
        idle.push(open(host).await);
    }
    running.until("they are there", async |running| running.metric("connections").await >= 4).await;
    let refused = told(open(1).await).await;
    assert!(refused.starts_with("HTTP/1.1 429 "), "{refused}");
    assert!(refused.contains("\"too_many_connections_from_address\""), "{refused}");
    assert!(refused.contains("trusted_proxies"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn descriptors_are_left_for_the_database() {
    const LIMIT: u64 = 1_100;
    let sim = Sim::builder().seed(52).relays(2).events(5_000).copies(2).per_second(1_000.0).hold();
    let sim = sim.start().await.expect("starts");
    let last = format!("\nlog_head_seq {}\n", sim.ids().len());
    // Only the system's file descriptors limit the number of connections.
    let site = Site::on(&sim).set("RELAYER_OUTPUT__MAX_CLIENTS_PER_ADDRESS", "0");
    let running = site.start_with_files(LIMIT).await;
    running.until_stderr_contains("the system lets this process open 1100 files").await;
    running.until_healthy().await;
    let address = running.address();
    let mut idle = Vec::new();
    for _ in 0..LIMIT {
        idle.push(connect_from(9, address).await);
    }
    running
        .until("some are refused", async |running| {
            let files = open_files(running);
            files > 30 && files < 700
        })
        .await;
    sim.go();
    // The gateway also refuses the test's own requests; a client admitted earlier stays connected.
    drop(idle.split_off(200));
    running
        .until("all events are there", async |running| {
            running.get("/metrics").await.is_some_and(|metrics| metrics.contains(&last))
        })
        .await;
    assert!(open_files(&running) < 700);
    // After descriptors were exhausted, the gateway still accepts connections.
    let pid = Pid::from_raw(running.id().try_into().expect("a pid")).expect("a pid");
    let files = |soft: u64| Rlimit { current: Some(soft), maximum: Some(LIMIT) };
    prlimit(Some(pid), Resource::Nofile, files(3)).expect("lowered");
    let waiting = connect_from(8, address).await;
    running.until_stderr_contains("accept_failed").await;
    prlimit(Some(pid), Resource::Nofile, files(LIMIT)).expect("raised");
    drop(waiting);
    running.until_healthy().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_few_descriptors_stop_the_start_with_a_reason() {
    let mut running = Site::empty().start_with_files(300).await;
    assert_eq!(running.ended().await.code(), Some(1));
    let said = running.stderr();
    assert!(said.contains("open 300 files (ulimit -n)") && said.contains("needs at least"), "{said}");
}

/// Clients that send no request, half a header or no body, or do not read the response.
#[tokio::test(flavor = "multi_thread")]
async fn stalled_clients_are_closed() {
    let sim =
        Sim::builder().seed(53).relays(1).events(4_000).copies(1).sizes(relay_sim::Sizes::Exactly(4_000));
    let sim = sim.start().await.expect("starts");
    let last = format!("\nlog_head_seq {}\n", sim.ids().len());
    let site = Site::on(&sim);
    let running = site.start().await;
    running
        .until("all events are there", async |running| {
            running.get("/metrics").await.is_some_and(|metrics| metrics.contains(&last))
        })
        .await;
    let address = running.address();
    let ended = async |text: &str| {
        let mut socket = connect_from(7, address).await;
        socket.write_all(text.as_bytes()).await.expect("written");
        let mut answer = Vec::new();
        let closed = async { drop(socket.read_to_end(&mut answer).await) };
        tokio::time::timeout(2 * PATIENCE, closed).await.expect("it is closed");
        String::from_utf8(answer).expect("UTF-8")
    };
    let trickled = async {
        let mut socket = connect_from(7, address).await;
        let head = format!(
            "POST /api/relays/add HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
             content-length: 100\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).await.expect("written");
        let (mut read, mut write) = socket.into_split();
        let mut answer = Vec::new();
        tokio::select! {
            _ = read.read_to_end(&mut answer) => {}
            () = async {
                loop {
                    drop(write.write_all(b" ").await);
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            } => {}
        }
        String::from_utf8(answer).expect("UTF-8")
    };
    let not_taken = async {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4_096).expect("set");
        let mut socket = socket.connect(address).await.expect("connects");
        // More responses than the buffers of both sides can hold.
        let request = "GET /api/events?limit=1000 HTTP/1.1\r\nhost: x\r\n\r\n";
        socket.write_all(request.repeat(4).as_bytes()).await.expect("written");
        running
            .until_within(4 * PATIENCE, "it is given up", async |running| {
                let metrics = running.get("/metrics").await.unwrap_or_default();
                metrics.contains("connections_timed_out_total{reason=\"response\"} 1")
            })
            .await;
        drop(socket);
    };
    let (silent, half, body, ()) =
        tokio::join!(ended(""), ended("GET /health HTTP/1.1\r\nhost: x\r\nx-half: "), trickled, not_taken);
    assert_eq!((&*silent, &*half), ("", ""));
    assert!(body.starts_with("HTTP/1.1 408 ") && body.contains("\"body_too_slow\""), "{body}");
    let metrics = running.get("/metrics").await.expect("an answer");
    assert!(metrics.contains("connections_timed_out_total{reason=\"request\"} 2"), "{metrics}");
}
