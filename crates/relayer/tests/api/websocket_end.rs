//! Clients that stall, fall behind or misbehave, and the shutdown of the gateway.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use moltrade_relayer::limits::{CLIENT_DRAIN_MAX, CLIENT_MESSAGE_BYTES_MAX};
use moltrade_relayer::telemetry::resident_bytes;
use relay_sim::wait::{until, within};
use tokio_websockets::{ClientBuilder, Message};
use wire::VerifiedEvent;

use crate::gateway::{Gateway, Setup, next, next_seqs, until_closed};

const LARGE: usize = 64 << 10;

/// Events of 64 KiB.
fn large_events(gateway: &Gateway, count: u64) -> Vec<VerifiedEvent> {
    let content = "x".repeat(LARGE);
    (1..=count).map(|n| gateway.signer.sign(n, 1, &[] as &[[&str; 0]], &content)).collect()
}

async fn all_gone(gateway: &Gateway) {
    until("all clients are gone", || gateway.clients.connected() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_read_nothing_cost_the_others_nothing_and_no_memory() {
    const EVENTS: u64 = 800; // 50 MiB
    const STALLED: usize = 12;
    let gateway = Gateway::start().await;
    let mut stalled = Vec::new();
    for _ in 0..STALLED {
        stalled.push(gateway.connect_stalled("").await);
    }
    let mut reading = gateway.connect("?format=envelope").await;
    let events = large_events(&gateway, EVENTS);
    let before = resident_bytes().unwrap();
    let read_all = async {
        for seq in 1..=EVENTS {
            assert_eq!(next(&mut reading).await.seq, Some(seq));
        }
    };
    let append_all = async {
        for burst in events.chunks(10) {
            gateway.append(burst.to_vec()).await;
        }
    };
    tokio::join!(read_all, append_all);
    // RocksDB keeps up to 64 MiB of new data in memory. A queue for each client would use 600 MiB.
    let grown = resident_bytes().unwrap().saturating_sub(before);
    assert!(grown < STALLED as u64 * EVENTS * LARGE as u64 / 3, "{} MiB more", grown >> 20);
    // The stalled clients are still connected, and do not delay the shutdown.
    assert_eq!(gateway.clients.connected(), STALLED + 1);
    assert_eq!(gateway.drain_clients(Duration::from_millis(100)).await, 0);
    assert_eq!(until_closed(&mut reading).await, (vec![], "1001 the gateway is stopping".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_stalls_until_its_events_are_trimmed_learns_its_cursor() {
    const EVENTS: u64 = 500; // 32 MiB, more than the sockets buffer.
    let gateway = Gateway::start_with(Setup { tail_bytes: 1, ..Setup::default() }).await;
    gateway.append(large_events(&gateway, EVENTS)).await;
    let mut client = gateway.connect("?cursor=0").await;
    assert_eq!(next_seqs(&mut client, 1).await, [1]);
    gateway.trim_below(EVENTS + 1);
    let (seqs, end) = until_closed(&mut client).await;
    let last = seqs.last().copied().unwrap_or(1);
    assert!(last < EVENTS, "it was not behind");
    assert_eq!(seqs, (2..=last).collect::<Vec<_>>());
    assert_eq!(end, format!("1008 cursor {last} is no longer kept; oldest is {}", EVENTS + 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn on_shutdown_clients_get_the_remaining_events_and_are_closed() {
    let gateway = Gateway::start().await;
    let mut idle = gateway.connect("?format=envelope&kinds=7").await;
    gateway.append_numbered(2_000).await;
    let mut behind = gateway.connect("?cursor=0").await;
    let stop = gateway.drain_clients(CLIENT_DRAIN_MAX);
    let (idle, behind, left) = tokio::join!(until_closed(&mut idle), until_closed(&mut behind), stop);
    assert_eq!(idle, (vec![], "1001 the gateway is stopping".to_owned()));
    assert_eq!(behind, ((1..=2_000).collect(), "1001 the gateway is stopping".to_owned()));
    assert_eq!(left, 0);
    gateway.refused("/ws").await.error(503, "stopping");
    gateway.get("/ready").await.error(503, "not_ready");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_say_is_ignored_and_pings_are_answered() {
    let gateway = Gateway::start().await;
    let url = format!("ws://{}/ws", gateway.address);
    let (mut client, _) = ClientBuilder::new().uri(&url).unwrap().connect().await.unwrap();
    client.send(Message::text("x".repeat(CLIENT_MESSAGE_BYTES_MAX - 100))).await.unwrap();
    client.send(Message::binary(vec![0; 100])).await.unwrap();
    client.send(Message::ping("are you there")).await.unwrap();
    let pong = client.next().await.unwrap().unwrap();
    assert!(pong.is_pong());
    assert_eq!(&pong.into_payload()[..], b"are you there");
    gateway.append_numbered(1).await;
    assert_eq!(client.next().await.unwrap().unwrap().as_text().unwrap().as_bytes(), gateway.event(1).json());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_sends_too_much_is_dropped() {
    let gateway = Gateway::start().await;
    let url = format!("ws://{}/ws", gateway.address);
    let (mut client, _) = ClientBuilder::new().uri(&url).unwrap().connect().await.unwrap();
    // The gateway may close the connection before the client has sent the whole message.
    drop(client.send(Message::text("x".repeat(CLIENT_MESSAGE_BYTES_MAX + 1))).await);
    within("the end", async { while let Some(Ok(_)) = client.next().await {} }).await;
    all_gone(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_disconnect_are_not_counted() {
    let gateway = Gateway::start().await;
    let url = format!("ws://{}/ws", gateway.address);
    let (mut polite, _) = ClientBuilder::new().uri(&url).unwrap().connect().await.unwrap();
    let abrupt = gateway.connect("").await;
    assert_eq!(gateway.clients.connected(), 2);
    drop(abrupt);
    polite.close().await.unwrap();
    let answer = polite.next().await;
    assert!(answer.is_none_or(|message| message.is_ok_and(|message| message.is_close())));
    all_gone(&gateway).await;
    assert_eq!(gateway.metrics.websocket.clients.get(), 0);
}
