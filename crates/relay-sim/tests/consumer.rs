//! The consumer, as a library and as a program, against a scripted gateway.
#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "tests say what they expect")]

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::SinkExt;
use relay_sim::{Checker, ConsumeError, Consumer};
use tokio::net::TcpListener;
use tokio_websockets::{CloseCode, Message, ServerBuilder};
use wire::Signer;

/// A gateway that sends the messages after the cursor and ends each connection after `at_once`
/// messages. Returns its address and the received queries.
async fn gateway(messages: Vec<String>, at_once: usize) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let queries = Arc::new(Mutex::new(Vec::new()));
    let asked = Arc::clone(&queries);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("a client");
            let Ok((request, mut socket)) = ServerBuilder::new().accept(stream).await else { continue };
            let query = request.uri().query().unwrap_or_default().to_owned();
            let cursor = query.split('&').find_map(|pair| pair.strip_prefix("cursor="));
            let cursor: usize = cursor.map_or(0, |cursor| cursor.parse().expect("a number"));
            asked.lock().expect("whole").push(query);
            for message in messages.iter().skip(cursor).take(at_once) {
                _ = socket.send(Message::text(message.clone())).await;
            }
            if cursor + at_once < messages.len() {
                _ = socket.send(Message::close(Some(CloseCode::POLICY_VIOLATION), "cursor 7")).await;
            } else {
                std::mem::forget(socket); // Leaves the connection open.
            }
        }
    });
    (address, queries)
}

fn envelopes(events: u64) -> Vec<String> {
    let event = |seq| Signer::from_seed(1).sign(1_700_000_000 + seq, 1, &[] as &[Vec<String>], "x");
    let text = |seq| String::from_utf8(event(seq).json().to_vec()).expect("UTF-8");
    let envelope =
        |seq| format!(r#"{{"seq":{seq},"received_at":1,"relay":"wss://r","event":{}}}"#, text(seq));
    (1..=events).map(envelope).collect()
}

#[tokio::test]
async fn it_resumes_after_the_last_sequence() {
    let (address, queries) = gateway(envelopes(10), 4).await;
    let consumer =
        Consumer::connect(&format!("ws://{address}/ws?kinds=1&cursor=0")).await.expect("connected");
    let mut consumer = consumer.reconnect(Duration::from_secs(10));
    let mut checker = Checker::new().expect_count(10);
    while !checker.is_complete() {
        let delivery = consumer.next().await.expect("a delivery");
        assert_eq!(checker.check(&delivery), Ok(()));
    }
    assert!(checker.verdict().passed());
    assert_eq!((consumer.reconnects(), consumer.last_seq()), (2, Some(10)));
    assert_eq!(*queries.lock().expect("whole"), ["kinds=1&cursor=0", "kinds=1&cursor=4", "kinds=1&cursor=8"]);
}

#[tokio::test]
async fn without_reconnecting_it_says_why_it_ended() {
    let (address, _) = gateway(envelopes(10), 1).await;
    let mut consumer = Consumer::connect(&format!("ws://{address}/ws")).await.expect("connected");
    assert_eq!(consumer.next().await.expect("a delivery").seq, Some(1));
    let ended = consumer.next().await.expect_err("ended");
    assert!(matches!(&ended, ConsumeError::Ended(reason) if reason == "1008 cursor 7"), "{ended}");
}

/// Runs `relay-sim consume`; returns its exit code and output.
async fn program(address: SocketAddr, options: &[&str]) -> (Option<i32>, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_relay-sim"));
    command.args(["consume", "--quiet", "--idle", "0.5", "--linger", "0.3", "--url"]);
    command.arg(format!("ws://{address}/ws?cursor=0")).args(options).stderr(Stdio::inherit());
    let output = tokio::task::spawn_blocking(move || command.output().expect("it runs"));
    let output = output.await.expect("it ends");
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[tokio::test]
async fn the_program_passes_and_fails_with_its_exit_code() {
    let mut doubled = envelopes(10);
    doubled[6] = doubled[5].replace(r#"{"seq":6"#, r#"{"seq":7"#);
    let mut swapped = envelopes(10);
    swapped.swap(3, 4);
    let mut forged = envelopes(10);
    forged[2] = forged[2].replace(r#""content":"x""#, r#""content":"y""#);
    for (name, messages, options, code) in [
        ("right", envelopes(10), &["--expect-count", "10"][..], 0),
        ("missing", envelopes(9), &["--expect-count", "10"], 1),
        ("too much", envelopes(11), &["--expect-count", "10"], 1),
        ("doubled", doubled, &[], 1),
        ("swapped", swapped.clone(), &[], 1),
        ("swapped, gaps allowed", swapped, &["--allow-gaps"], 1),
        ("forged", forged, &[], 1),
        ("in order of time", envelopes(10), &["--max-descents", "0"], 0),
        ("wrong option", envelopes(1), &["--idle", "-1"], 2),
    ] {
        let (address, _) = gateway(messages, 100).await;
        let (exit, output) = program(address, options).await;
        assert_eq!(exit, Some(code), "{name}: {output}");
    }
    let (address, _) = gateway(envelopes(10), 3).await;
    let (exit, output) = program(address, &["--expect-count", "10", "--reconnect", "5", "--json"]).await;
    let summary: serde_json::Value = serde_json::from_str(&output).expect("JSON");
    assert_eq!((exit, &summary["passed"], &summary["reconnects"]), (Some(0), &true.into(), &3.into()));
    assert_eq!(summary["verdict"]["last_seq"], 10);
}
