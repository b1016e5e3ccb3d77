//! TCP receiver examples under faults that a healthy gateway and network never cause.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::consumer::{Consumer, Language, free_address};
use crate::program::PATIENCE;

struct Gateway(BufReader<TcpStream>);

impl Gateway {
    /// Connects as soon as the example listens.
    async fn connect(consumer: &Consumer, address: std::net::SocketAddr) -> Self {
        let connect = async {
            loop {
                match TcpStream::connect(address).await {
                    Ok(stream) => return Self(BufReader::new(stream)),
                    Err(_) => sleep(Duration::from_millis(10)).await,
                }
            }
        };
        let connected = timeout(PATIENCE, connect).await;
        connected.unwrap_or_else(|_| panic!("it does not listen: {}", consumer.stderr()))
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.expect("sent");
    }

    async fn send_event(&mut self, seq: u64) {
        self.send_event_of("a", seq).await;
    }

    async fn send_event_of(&mut self, log: &str, seq: u64) {
        let event = format!(
            "{{\"seq\":{seq},\"log\":\"{log}\",\"received_at\":1,\"relay\":\"wss://r\",\"event\":{{\"id\":\"id-{seq}\"}}}}\n"
        );
        self.send(event.as_bytes()).await;
    }

    /// The next line from the example; `None` if the connection was closed.
    async fn answer(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = timeout(PATIENCE, self.0.read_line(&mut line)).await.expect("in time");
        // A reset counts as a close.
        read.is_ok_and(|bytes| bytes > 0).then_some(line)
    }
}

#[tokio::test]
async fn rust_heeds_the_newest_connection() {
    heeds_the_newest_connection(Language::Rust).await;
}

#[tokio::test]
async fn python_heeds_the_newest_connection() {
    heeds_the_newest_connection(Language::Python).await;
}

/// The old connection stays open in the middle of a line, as if the gateway's machine had failed.
async fn heeds_the_newest_connection(language: Language) {
    let address = free_address();
    let mut consumer = Consumer::new(language, "tcp", address.to_string());
    consumer.start();
    let mut old = Gateway::connect(&consumer, address).await;
    for seq in 1..=3 {
        old.send_event(seq).await;
        assert_eq!(old.answer().await, Some(format!("{{\"ack\":{seq}}}\n")));
    }
    old.send(b"{\"seq\":4,\"rec").await;
    let mut new = Gateway::connect(&consumer, address).await;
    // The last two acknowledgements were lost, so the gateway repeats their events.
    for seq in 2..=5 {
        new.send_event(seq).await;
        assert_eq!(new.answer().await, Some(format!("{{\"ack\":{seq}}}\n")));
    }
    assert_eq!(old.answer().await, None, "the old one is closed");
    let seqs: Vec<u64> = consumer.printed().concat().iter().map(|line| line.seq).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5], "a repeat is acknowledged and not printed");
}

#[tokio::test]
async fn rust_starts_over_with_another_log() {
    starts_over_with_another_log(Language::Rust).await;
}

#[tokio::test]
async fn python_starts_over_with_another_log() {
    starts_over_with_another_log(Language::Python).await;
}

/// After a restore, the gateway resumes at the backup's cursor, and the receiver must accept all
/// events.
async fn starts_over_with_another_log(language: Language) {
    let address = free_address();
    let mut consumer = Consumer::new(language, "tcp", address.to_string());
    // An earlier version stored no log id, so the example adopts the first log.
    consumer.write_state("2");
    consumer.start();
    let mut gateway = Gateway::connect(&consumer, address).await;
    for (log, seq) in [("a", 2), ("a", 3), ("a", 4), ("b", 3), ("b", 4), ("b", 4)] {
        gateway.send_event_of(log, seq).await;
        assert_eq!(gateway.answer().await, Some(format!("{{\"ack\":{seq}}}\n")));
    }
    consumer.until_stderr_contains("the log was a and is b now").await;
    let seqs: Vec<u64> = consumer.printed().concat().iter().map(|line| line.seq).collect();
    assert_eq!(seqs, [3, 4, 3, 4]);
    assert_eq!(std::fs::read_to_string(consumer.state()).expect("a cursor"), "b:4");
}

#[tokio::test]
async fn rust_bounds_a_line() {
    bounds_a_line(Language::Rust).await;
}

#[tokio::test]
async fn python_bounds_a_line() {
    bounds_a_line(Language::Python).await;
}

/// After a line that is too long, the example closes the connection and accepts a new one.
async fn bounds_a_line(language: Language) {
    let address = free_address();
    let mut consumer = Consumer::new(language, "tcp", address.to_string());
    consumer.start();
    let mut gateway = Gateway::connect(&consumer, address).await;
    let flood = async {
        let chunk = vec![b'x'; 1 << 20];
        while gateway.0.write_all(&chunk).await.is_ok() {}
    };
    timeout(PATIENCE, flood).await.expect("it closes the connection");
    consumer.until_stderr_contains("a line is longer than 32 MiB").await;
    let mut stranger = Gateway::connect(&consumer, address).await;
    stranger.send(b"GET / HTTP/1.1\r\n\r\n").await;
    assert_eq!(stranger.answer().await, None);
    let mut gateway = Gateway::connect(&consumer, address).await;
    gateway.send_event(1).await;
    assert_eq!(gateway.answer().await.as_deref(), Some("{\"ack\":1}\n"));
    // The example accepts a line that arrives byte by byte.
    for byte in b"{\"seq\":2,\"log\":\"a\",\"event\":{\"id\":\"slow\"}}\n" {
        gateway.send(&[*byte]).await;
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(gateway.answer().await.as_deref(), Some("{\"ack\":2}\n"));
}
