//! Clients of event streams that are slow, pause or vanish.

use std::time::Duration;

use moltrade_relayer::config::Output;
use moltrade_relayer::serve::CloseReason;
use relay_sim::wait::{settled, until, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::event_client::{End, EventClient, request};
use crate::gateway::{Gateway, Setup};
use crate::websocket_slow::{append_large, impatient};

fn slow_at(lag: u64) -> Output {
    Output { slow_client_lag: lag, ..Output::default() }
}

fn closed(gateway: &Gateway, reason: CloseReason) -> u64 {
    gateway.metrics.websocket.closed[reason].get()
}

async fn until_slow(gateway: &Gateway) {
    until("the client is closed", || closed(gateway, CloseReason::Slow) > 0).await;
}

/// A client that sends its request and then never reads.
async fn stalled(gateway: &Gateway, query: &str) -> TcpStream {
    let mut socket = TcpStream::connect(gateway.address).await.unwrap();
    let request = request(&format!("/api/events/stream{query}"), &[]);
    socket.write_all(request.as_bytes()).await.unwrap();
    socket
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_nothing_is_told_its_cursor_and_misses_nothing() {
    const EVENTS: u64 = 300; // 20 MiB: more than sockets buffer.
    let gateway = impatient(EVENTS, slow_at(10)).await;
    let mut client = EventClient::connect(&gateway, "?cursor=7", 7).await;
    until_slow(&gateway).await;
    let (seqs, close, end) = client.until_closed().await;
    let last = seqs.last().copied().unwrap();
    assert_eq!(seqs, (8..=last).collect::<Vec<_>>());
    assert!(last < EVENTS, "it was not behind");
    let close = close.expect("a reason").json();
    assert_eq!((close["close"]["code"].as_u64(), end), (Some(1008), End::Complete));
    let reason = close["close"]["reason"].as_str().unwrap();
    let resume: u64 = reason.strip_prefix("slow: resume with cursor=").unwrap().parse().unwrap();
    assert!((last.saturating_sub(2)..=last).contains(&resume), "{resume}, and {last} was read");
    let mut client = EventClient::reconnect(&gateway, "?cursor=7", last).await;
    client.expect(last + 1..=EVENTS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_never_reads_again_frees_its_slot() {
    let gateway = impatient(300, slow_at(10)).await;
    let mut stalled = stalled(&gateway, "?cursor=0").await;
    until_slow(&gateway).await;
    until("its slot is free", || gateway.clients.connected() == 0).await;
    // The connection is aborted, although the response is not complete.
    let mut rest = Vec::new();
    drop(within("the end", stalled.read_to_end(&mut rest)).await);
    assert!(!rest.ends_with(b"0\r\n\r\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_client_stays_until_it_is_far_behind() {
    let gateway = impatient(300, slow_at(500)).await;
    let mut client = EventClient::connect(&gateway, "?cursor=0", 0).await;
    let sent = async || gateway.metrics.websocket.messages.get();
    settled("the socket is full", Duration::from_millis(200), sent).await;
    sleep(Duration::from_secs(2)).await; // Two windows.
    assert_eq!((closed(&gateway, CloseReason::Slow), gateway.clients.connected()), (0, 1));
    append_large(&gateway, 300).await;
    until_slow(&gateway).await;
    assert!(client.until_closed().await.1.is_some());
}

/// One event of 8 MiB takes several windows, but there is progress in each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_a_long_event_slowly_stays() {
    const LONG: usize = 8 << 20;
    let gateway = impatient(0, slow_at(10)).await;
    gateway.append(vec![gateway.signer.sign(0, 1, &[] as &[[&str; 0]], &"x".repeat(LONG))]).await;
    append_large(&gateway, 20).await;
    let mut client = stalled(&gateway, "?cursor=0").await;
    let (mut got, mut piece) = (0, vec![0; 256 << 10]);
    while got < LONG {
        got += within("more comes", client.read_exact(&mut piece)).await.expect("it is not closed");
        sleep(Duration::from_millis(150)).await; // Slows the client down.
    }
    assert_eq!((closed(&gateway, CloseReason::Slow), gateway.clients.connected()), (0, 1));
}

/// A client that disconnects in the middle of an event is noticed although the socket is full.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_while_its_socket_is_full_frees_its_slot() {
    let gateway = impatient(300, slow_at(100_000)).await;
    let client = stalled(&gateway, "?cursor=0").await;
    let sent = async || gateway.metrics.websocket.messages.get();
    settled("the socket is full", Duration::from_millis(200), sent).await;
    assert_eq!(gateway.clients.connected(), 1);
    drop(client);
    until("its slot is free", || gateway.clients.connected() == 0).await;
    assert_eq!(closed(&gateway, CloseReason::Left), 1);
}

/// Comments keep proxies from closing a quiet connection. They carry no id.
#[tokio::test(flavor = "multi_thread")]
async fn pings_are_comments_and_need_no_answer() {
    let output = Output { ping_interval: Some(Duration::from_millis(200)), ..Output::default() };
    let gateway = Gateway::start_with(Setup { output, ..Setup::default() }).await;
    let mut client = EventClient::connect(&gateway, "", 0).await;
    for _ in 0..5 {
        assert_eq!(client.raw_block().await, Ok(":".to_owned()));
    }
    assert_eq!((closed(&gateway, CloseReason::Silent), gateway.clients.connected()), (0, 1));
}
