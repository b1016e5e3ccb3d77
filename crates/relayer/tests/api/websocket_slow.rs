//! The gateway closes slow or silent clients, but not clients that only seem slow or silent.

use std::num::NonZeroUsize;
use std::time::Duration;

use futures_util::StreamExt;
use moltrade_relayer::config::Output;
use moltrade_relayer::serve::ClientRefusal;
use moltrade_relayer::telemetry::metrics::label_value;
use relay_sim::Consumer;
use relay_sim::wait::{settled, until};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_websockets::ClientBuilder;
use wire::VerifiedEvent;

use crate::gateway::{Gateway, Setup, next, next_seqs, until_closed};

const LARGE: usize = 64 << 10;

/// A time limit that no test reaches.
const LONG: Duration = Duration::from_secs(30);

/// A gateway that has events of 64 KiB and closes slow clients after a second.
pub async fn impatient(events: u64, output: Output) -> Gateway {
    let output = Output { slow_client: Duration::from_secs(1), ..output };
    let gateway = Gateway::start_with(Setup { output, ..Setup::default() }).await;
    append_large(&gateway, events).await;
    gateway
}

pub async fn append_large(gateway: &Gateway, count: u64) {
    let content = "x".repeat(LARGE);
    let first = gateway.log.head().get() + 1;
    let events: Vec<VerifiedEvent> =
        (first..first + count).map(|n| gateway.signer.sign(n, 1, &[] as &[[&str; 0]], &content)).collect();
    for burst in events.chunks(10) {
        gateway.append(burst.to_vec()).await;
    }
}

fn closed(gateway: &Gateway, reason: &'static str) -> u64 {
    gateway.metrics.websocket.closed[label_value(reason).expect("a reason")].get()
}

async fn until_closed_for(gateway: &Gateway, reason: &'static str) {
    until("the client is closed", || closed(gateway, reason) > 0).await;
}

/// Waits until the client's socket is full.
async fn until_full(gateway: &Gateway) {
    let sent = async || gateway.metrics.websocket.messages.get();
    settled("the socket is full", Duration::from_millis(200), sent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_nothing_is_told_its_cursor_and_misses_nothing() {
    const EVENTS: u64 = 300; // 20 MiB, more than the sockets buffer.
    let gateway = impatient(EVENTS, Output { slow_client_lag: 10, ..Output::default() }).await;
    let mut client = gateway.connect("?cursor=7").await;
    until_closed_for(&gateway, "slow").await;
    let (seqs, end) = until_closed(&mut client).await;
    let last = seqs.last().copied().unwrap();
    assert_eq!(seqs, (8..=last).collect::<Vec<_>>());
    assert!(last < EVENTS, "it was not behind");
    let resume = end.strip_prefix("1008 slow: resume with cursor=").unwrap_or_else(|| panic!("{end}"));
    let resume: u64 = resume.parse().unwrap();
    // No event after the cursor is lost. At most two events repeat: those that waited for the
    // socket.
    assert!((last.saturating_sub(2)..=last).contains(&resume), "{resume}, and {last} was read");
    let mut client = gateway.connect(&format!("?cursor={resume}")).await;
    let rest = (resume + 1..=EVENTS).collect::<Vec<_>>();
    assert_eq!(next_seqs(&mut client, rest.len()).await, rest);
}

/// A partly written message does not count as delivered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_stalls_in_a_message_is_closed() {
    const EVENTS: u64 = 300;
    let gateway = impatient(EVENTS, Output { slow_client_lag: 10, ..Output::default() }).await;
    let mut client = gateway.connect("?cursor=0").await;
    assert_eq!(next_seqs(&mut client, 20).await, (1..=20).collect::<Vec<_>>());
    until_closed_for(&gateway, "slow").await;
    let (seqs, end) = until_closed(&mut client).await;
    let last = seqs.last().copied().unwrap();
    assert_eq!(seqs, (21..=last).collect::<Vec<_>>());
    let resume: u64 = end.strip_prefix("1008 slow: resume with cursor=").unwrap().parse().unwrap();
    assert!((last.saturating_sub(2)..=last).contains(&resume), "{resume}, and {last} was read");
}

/// The client does not even read the close frame. The gateway waits for the client's response only
/// for a limited time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_never_reads_again_frees_its_slot() {
    let gateway = impatient(300, Output { slow_client_lag: 10, ..Output::default() }).await;
    let stalled = gateway.connect_stalled("?cursor=0").await;
    until_closed_for(&gateway, "slow").await;
    until("its slot is free", || gateway.clients.connected() == 0).await;
    drop(stalled);
}

/// The client is far behind the head and reads 0.1 MB at a time, over several windows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_but_steady_client_stays() {
    const EVENTS: u64 = 300;
    let gateway = impatient(EVENTS, Output { slow_client_lag: 10, ..Output::default() }).await;
    let mut client = gateway.connect("?cursor=0").await;
    let mut seq = 0;
    for _ in 0..30 {
        for _ in 0..3 {
            seq += 1;
            assert_eq!(next(&mut client).await.seq, Some(seq));
        }
        sleep(Duration::from_millis(150)).await; // Slows the client down.
    }
    let rest = (seq + 1..=EVENTS).collect::<Vec<_>>();
    assert_eq!(next_seqs(&mut client, rest.len()).await, rest);
    assert_eq!(closed(&gateway, "slow"), 0);
}

/// One message of 8 MiB takes several windows, but each window has progress.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_a_long_message_slowly_stays() {
    const LONG_MESSAGE: usize = 8 << 20;
    let gateway = impatient(0, Output { slow_client_lag: 10, ..Output::default() }).await;
    let content = "x".repeat(LONG_MESSAGE);
    gateway.append(vec![gateway.signer.sign(0, 1, &[] as &[[&str; 0]], &content)]).await;
    append_large(&gateway, 20).await;
    let mut client = gateway.connect_stalled("?cursor=0").await;
    read_slowly(&mut client, LONG_MESSAGE).await;
    assert_eq!((closed(&gateway, "slow"), gateway.clients.connected()), (0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_client_stays_until_it_is_far_behind() {
    let gateway = impatient(300, Output { slow_client_lag: 500, ..Output::default() }).await;
    let mut client = gateway.connect("?cursor=0").await;
    until_full(&gateway).await;
    sleep(Duration::from_secs(2)).await; // Two windows.
    assert_eq!((closed(&gateway, "slow"), gateway.clients.connected()), (0, 1));
    append_large(&gateway, 300).await;
    until_closed_for(&gateway, "slow").await;
    assert!(until_closed(&mut client).await.1.starts_with("1008 slow: resume with cursor="));
}

/// The client is far behind, but its selection matches no event.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_whose_selection_matches_nothing_is_not_slow() {
    let gateway = impatient(50, Output { slow_client_lag: 1, ..Output::default() }).await;
    let mut client = gateway.connect("?cursor=0&kinds=7").await;
    let idle = gateway.connect("?cursor=50").await;
    assert!(timeout(Duration::from_secs(2), client.next()).await.is_err(), "nothing comes");
    assert_eq!((closed(&gateway, "slow"), gateway.clients.connected()), (0, 2));
    drop(idle);
}

fn pinging() -> Output {
    Output { ping_interval: Some(Duration::from_millis(500)), ..Output::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_answers_no_ping_is_closed() {
    let gateway = Gateway::start_with(Setup { output: pinging(), ..Setup::default() }).await;
    let mut silent = gateway.connect_stalled("").await;
    let mut heard = Vec::new();
    timeout(LONG, silent.read_to_end(&mut heard)).await.expect("it is closed").unwrap();
    assert_eq!(closed(&gateway, "silent"), 1);
    let frames = heard.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    // Two pings without a payload, followed by the close frame: code 1008 and the reason.
    let (pings, close) = heard[frames..].split_at(4);
    assert_eq!(pings, [0x89, 0, 0x89, 0]);
    assert_eq!(close, [&[0x88, 20, 0x03, 0xf0], b"no answer to pings".as_slice()].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_answers_pings_stays() {
    let gateway = Gateway::start_with(Setup { output: pinging(), ..Setup::default() }).await;
    let url = format!("ws://{}/ws", gateway.address);
    let (mut client, _) = ClientBuilder::new().uri(&url).unwrap().connect().await.unwrap();
    for _ in 0..8 {
        assert!(client.next().await.unwrap().unwrap().is_ping());
    }
    assert_eq!((closed(&gateway, "silent"), gateway.clients.connected()), (0, 1));
}

/// Megabytes of unread events precede the pings, so the client has not answered any ping. Its reads
/// prove that it is alive.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_may_answer_pings_late() {
    let gateway = impatient(300, pinging()).await;
    let mut client = gateway.connect_stalled("?cursor=0").await;
    read_slowly(&mut client, 6 << 20).await;
    assert_eq!((closed(&gateway, "silent"), gateway.clients.connected()), (0, 1));
}

/// Reads `bytes` bytes, 0.25 MB at a time, and sends nothing.
async fn read_slowly(client: &mut TcpStream, bytes: usize) {
    let (mut got, mut piece) = (0, vec![0; 256 << 10]);
    while got < bytes {
        let read = client.read_exact(&mut piece);
        got += timeout(LONG, read).await.expect("more comes").expect("it is not closed");
        sleep(Duration::from_millis(150)).await; // Slows the client down.
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_clients_than_allowed_are_let_in() {
    let output = Output { max_clients: NonZeroUsize::new(2).unwrap(), ..Output::default() };
    let gateway = Gateway::start_with(Setup { output, ..Setup::default() }).await;
    let (first, _second) = (gateway.connect("").await, gateway.connect("").await);
    let answer = gateway.refused("/ws").await;
    let told = answer.error(503, "too_many_clients");
    assert!(told.contains("2 clients are connected, and [output] max_clients"), "{told}");
    assert_eq!(answer.header("retry-after"), Some("5"));
    assert_eq!(gateway.metrics.websocket.refused[ClientRefusal::TooManyClients].get(), 1);
    assert_eq!(gateway.get("/health").await.status, 200);
    let_in_after(first, &gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_clients_than_allowed_are_let_in_from_one_address() {
    let output = Output { max_clients_per_address: NonZeroUsize::new(1), ..Output::default() };
    let gateway = Gateway::start_with(Setup { output, ..Setup::default() }).await;
    let first = gateway.connect("").await;
    let answer = gateway.refused("/ws").await;
    let told = answer.error(429, "too_many_clients_from_address");
    assert!(told.contains("1 clients are connected from your address"), "{told}");
    assert_eq!(answer.header("retry-after"), Some("5"));
    assert_eq!(gateway.metrics.websocket.refused[ClientRefusal::TooManyClientsFromAddress].get(), 1);
    let_in_after(first, &gateway).await;
}

/// Asserts that the next client gets a slot when this client disconnects.
async fn let_in_after(client: Consumer, gateway: &Gateway) {
    let before = gateway.clients.connected();
    drop(client);
    until("its slot is free", || gateway.clients.connected() < before).await;
    let _next = gateway.connect("").await;
    assert_eq!(closed(gateway, "left"), 1);
}
