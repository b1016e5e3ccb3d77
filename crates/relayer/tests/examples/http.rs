//! HTTP receiver examples, with and without signatures.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::prelude::{BASE64_STANDARD, Engine};
use ring::hmac;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::consumer::{Consumer, Language, free_address};
use crate::program::PATIENCE;

/// The encoded key is the text `a key of some length that nobody knows`.
pub const SECRET: &str = "whsec_YSBrZXkgb2Ygc29tZSBsZW5ndGggdGhhdCBub2JvZHkga25vd3M=";

/// A batch as the gateway posts it.
struct Batch {
    body: String,
    key: &'static [u8],
    seconds_ago: i64,
    signature: Option<String>,
}

impl Batch {
    fn of(seqs: impl IntoIterator<Item = u64>) -> Self {
        Self::of_log("a", seqs)
    }

    fn of_log(log: &str, seqs: impl IntoIterator<Item = u64>) -> Self {
        let envelope = |seq| {
            format!(
                "{{\"seq\":{seq},\"log\":\"{log}\",\"received_at\":1,\"relay\":\"wss://r\",\"event\":{{\"id\":\"id-{seq}\"}}}}"
            )
        };
        let envelopes: Vec<String> = seqs.into_iter().map(envelope).collect();
        Self::text(format!("[{}]", envelopes.join(",")))
    }

    fn text(body: String) -> Self {
        Self { body, key: b"a key of some length that nobody knows", seconds_ago: 0, signature: None }
    }

    fn key(mut self, key: &'static [u8]) -> Self {
        self.key = key;
        self
    }

    fn seconds_ago(mut self, seconds: i64) -> Self {
        self.seconds_ago = seconds;
        self
    }

    /// Replaces the signature header.
    fn signature(mut self, header: impl Into<String>) -> Self {
        self.signature = Some(header.into());
        self
    }

    fn sign(&self, timestamp: i64) -> String {
        let signed = format!("msg_1.{timestamp}.{}", self.body);
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, self.key), signed.as_bytes());
        format!("v1,{}", BASE64_STANDARD.encode(tag))
    }

    /// Posts the batch and returns the status.
    async fn post(&self, address: SocketAddr) -> u16 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() as i64;
        let timestamp = now - self.seconds_ago;
        let signature = self.signature.clone().unwrap_or_else(|| self.sign(timestamp));
        let headers = format!(
            "content-type: application/json\r\nwebhook-id: msg_1\r\nwebhook-timestamp: {timestamp}\r\n\
             webhook-signature: {signature}\r\ncontent-length: {}\r\n",
            self.body.len(),
        );
        post(address, &headers, self.body.as_bytes()).await
    }
}

async fn post(address: SocketAddr, headers: &str, body: &[u8]) -> u16 {
    let exchange = async {
        let mut stream = loop {
            match TcpStream::connect(address).await {
                Ok(stream) => break stream,
                Err(_) => sleep(Duration::from_millis(10)).await,
            }
        };
        let head = format!("POST / HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).await.expect("sent");
        // The receiver may answer without reading the body.
        let _ = stream.write_all(body).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        answer.get(9..12).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{answer:?}"))
    };
    timeout(PATIENCE, exchange).await.expect("in time")
}

fn seqs(consumer: &Consumer) -> Vec<u64> {
    consumer.printed().concat().iter().map(|line| line.seq).collect()
}

#[tokio::test]
async fn rust_takes_batches_once() {
    takes_batches_once(Language::Rust).await;
}

#[tokio::test]
async fn python_takes_batches_once() {
    takes_batches_once(Language::Python).await;
}

/// Tests a receiver without a secret, so requests are unsigned.
async fn takes_batches_once(language: Language) {
    let address = free_address();
    let mut consumer = Consumer::new(language, "http", address.to_string());
    consumer.start();
    assert_eq!(Batch::of(1..=3).post(address).await, 204);
    assert_eq!(Batch::of(1..=3).post(address).await, 204, "a repeat is acknowledged");
    assert_eq!(Batch::of([]).post(address).await, 204);
    for body in ["{}", "[{}]", "not JSON", ""] {
        assert_eq!(Batch::text(body.to_owned()).post(address).await, 400, "{body:?}");
    }
    // The Rust example reads up to its limit before it refuses; the Python example checks the
    // header.
    let body = vec![b' '; if matches!(language, Language::Rust) { (64 << 20) + 1 } else { 1 }];
    assert_eq!(post(address, "content-length: 67108865\r\n", &body).await, 413);
    // A batch is not acknowledged if its cursor cannot be stored.
    let blocking_folder = consumer.state().with_extension("txt.new");
    std::fs::create_dir(&blocking_folder).expect("a folder");
    assert_eq!(Batch::of(4..=4).post(address).await, 500);
    std::fs::remove_dir(blocking_folder).expect("gone");
    consumer.kill();
    consumer.start();
    assert_eq!(Batch::of(2..=6).post(address).await, 204);
    assert_eq!(seqs(&consumer), [1, 2, 3, 4, 4, 5, 6]);
    assert_eq!(std::fs::read_to_string(consumer.state()).expect("a cursor"), "a:6");
    // After a restore, the gateway resumes at the backup's cursor, and the receiver must accept all
    // events.
    assert_eq!(Batch::of_log("b", 5..=6).post(address).await, 204);
    consumer.until_stderr_contains("the log was a and is b now").await;
    assert_eq!(seqs(&consumer)[7..], [5, 6]);
    assert_eq!(std::fs::read_to_string(consumer.state()).expect("a cursor"), "b:6");
}

#[tokio::test]
async fn rust_checks_signatures() {
    checks_signatures(Language::Rust).await;
}

#[tokio::test]
async fn python_checks_signatures() {
    checks_signatures(Language::Python).await;
}

async fn checks_signatures(language: Language) {
    let address = free_address();
    let mut consumer = Consumer::new(language, "http", address.to_string()).secret(SECRET);
    consumer.start();
    assert_eq!(Batch::of([1]).post(address).await, 204);
    assert_eq!(Batch::of([2]).key(b"another").post(address).await, 401);
    assert_eq!(Batch::of([2]).seconds_ago(400).post(address).await, 401, "too old");
    assert_eq!(Batch::of([2]).seconds_ago(-400).post(address).await, 401, "ahead");
    for header in ["", "v1,", "v1", "v2,AAAA", "v1,!", "nonsense"] {
        assert_eq!(Batch::of([2]).signature(header).post(address).await, 401, "{header:?}");
    }
    assert_eq!(post(address, "content-length: 2\r\n", b"[]").await, 401, "no signature");
    // During a rotation, the gateway signs requests with the old and the new secret.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() as i64;
    let (batch, other) = (Batch::of([2]), Batch::of([2]).key(b"another"));
    let both = format!("{} {}", other.sign(now), batch.sign(now));
    let ahead = format!("{} {}", other.sign(now + 1), batch.sign(now + 1));
    // The clock may advance by a second between the requests, so at least one of them must be
    // accepted.
    let answers =
        [batch.signature(both).post(address).await, Batch::of([2]).signature(ahead).post(address).await];
    assert!(answers.contains(&204), "{answers:?}");
    assert_eq!(Batch::of([3]).seconds_ago(200).post(address).await, 204, "a clock that is a little off");
    assert_eq!(seqs(&consumer), [1, 2, 3]);
}

#[tokio::test]
async fn a_secret_that_is_none_ends_it() {
    for language in [Language::Rust, Language::Python] {
        for secret in ["", "whsec_"] {
            let mut consumer = Consumer::new(language, "http", "127.0.0.1:0").secret(secret);
            consumer.start();
            assert!(!consumer.ended().await.success(), "{language:?}, {secret:?}");
            assert!(consumer.stderr().contains("WEBHOOK_SECRET"), "{}", consumer.stderr());
        }
    }
}
