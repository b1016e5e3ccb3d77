//! Relays that swallow connections, requests, pings or events.
#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests say what they expect")]

mod support;

use std::time::Duration;

use relay_sim::wait::until;
use relay_sim::{Count, Fault, Sim, SimBuilder, Who};
use support::{Client, Seen};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use wire::Signer;

const REQUEST: &str = "GET /r/0 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n";

/// One relay with 50 events, of which 30 are stored.
fn one(fault: Fault) -> SimBuilder {
    Sim::builder().seed(7).relays(1).events(50).copies(1).stored(0.6).fault(fault, Who::All, 1.0)
}

/// Sends an upgrade request to a relay, and returns the connection if there is no response.
async fn swallowed(sim: &Sim) -> TcpStream {
    let url = sim.url(0);
    let address = url.strip_prefix("ws://").and_then(|rest| rest.split('/').next()).expect("an address");
    let mut socket = TcpStream::connect(address).await.expect("connected");
    socket.write_all(REQUEST.as_bytes()).await.expect("sent");
    let answer = timeout(Duration::from_millis(200), socket.read_u8()).await;
    assert!(answer.is_err(), "{answer:?}");
    socket
}

#[tokio::test]
async fn a_black_hole_takes_connections_and_lets_nobody_in() {
    for sim in [one(Fault::NeverUpgrade), Sim::builder().relays(1).deaf(Who::All)] {
        let sim = sim.start().await.expect("started");
        let sockets = [swallowed(&sim).await, swallowed(&sim).await];
        assert_eq!((sim.dialling(), sim.dialling_peak(), sim.stats().get(Count::Upgrades)), (2, 2, 0));
        drop(sockets);
        until("the relay sees that they are gone", || sim.dialling() == 0).await;
        assert_eq!(sim.dialling_peak(), 2);
        sim.stop().await;
    }
}

#[tokio::test]
async fn a_deaf_relay_is_elsewhere_and_the_others_are_not() {
    let sim = Sim::builder().scripted(3).deaf(Who::These(vec![1])).start().await.expect("started");
    let port = |url: String| url.split(':').nth(2).map(|rest| rest.split('/').next().map(str::to_owned));
    assert_eq!(port(sim.url(0)), port(sim.url(2)));
    assert_ne!(port(sim.url(0)), port(sim.url(1)));
    let mut client = Client::connect(&sim.url_with_host(2, "localhost")).await;
    assert_eq!(client.ask("{}").await, Ok(vec![]));
}

#[tokio::test]
async fn an_upgrade_may_take_its_time() {
    let sim = one(Fault::SlowUpgrade(Duration::from_millis(100))).start().await.expect("started");
    let began = tokio::time::Instant::now();
    let mut client = Client::connect(&sim.url(0)).await;
    assert!(began.elapsed() >= Duration::from_millis(100));
    assert_eq!((sim.dialling(), sim.dialling_peak()), (0, 1));
    assert_eq!(client.ask("{}").await.map(|events| events.len()), Ok(30));
}

#[tokio::test]
async fn a_mute_relay_says_nothing_and_hears_all() {
    let sim = one(Fault::Mute).start().await.expect("started");
    let mut client = Client::subscribe(&sim.url(0)).await;
    assert!(client.pings_in_vain().await && client.is_silent().await);
    client.say("nonsense").await;
    assert!(client.is_silent().await);
    let stats = sim.stats();
    let heard = [Count::Requests, Count::Pings, Count::BadMessages].map(|count| stats.get(count));
    assert_eq!((heard, stats.get(Count::Frames), sim.open_connections(0)), ([1, 1, 1], 0, 1));
}

#[tokio::test]
async fn a_silent_relay_is_alive_and_sends_no_event() {
    let sim = one(Fault::Silent).start().await.expect("started");
    let mut client = Client::subscribe(&sim.url(0)).await;
    assert_eq!(client.next().await, Seen::Eose);
    let event = Signer::from_seed(1).sign(1, 1, &[] as &[Vec<String>], "");
    sim.publish([0], event.json().clone());
    assert!(client.ping().await && client.is_silent().await);
    let stats = sim.stats();
    let counted = [Count::Eose, Count::Pings, Count::Control, Count::Genuine].map(|count| stats.get(count));
    assert_eq!((counted, stats.unsent), ([1, 1, 1, 0], 50));
}

#[tokio::test]
async fn pings_alone_may_go_unanswered() {
    let sim = one(Fault::NoPongs).start().await.expect("started");
    let mut client = Client::subscribe(&sim.url(0)).await;
    let seen = client.take(51).await;
    assert_eq!(seen.iter().filter(|seen| matches!(seen, Seen::Event(_))).count(), 50);
    assert!(client.pings_in_vain().await);
    assert_eq!((sim.stats().get(Count::Pings), sim.stats().get(Count::Control)), (1, 0));
}

#[tokio::test]
async fn what_a_client_says_before_its_upgrade_is_answered_is_heard() {
    let sim = Sim::builder().scripted(1).start().await.expect("started");
    let mut socket = TcpStream::connect(sim.address()).await.expect("connected");
    // A masked frame whose mask is zero, sent in the same segment as the upgrade request.
    let req = br#"["REQ","s",{}]"#;
    let bytes = [REQUEST.as_bytes(), &[0x81, 0x80 | req.len() as u8, 0, 0, 0, 0], req].concat();
    socket.write_all(&bytes).await.expect("sent");
    let mut answer = Vec::new();
    while !answer.ends_with(br#"["EOSE","s"]"#) {
        assert_ne!(socket.read_buf(&mut answer).await.expect("more"), 0);
    }
}
