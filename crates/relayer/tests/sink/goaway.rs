//! HTTP/2 servers that leave requests unprocessed, in normal operation or always (RFC 9113,
//! sections 6.8 and 8.7).
//!
//! The server writes raw frames, so that each test decides which requests are processed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::BufMut;
use moltrade_relayer::config::Output;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::gateway::{Gateway, until};
use crate::https::{acceptor, certificates, sink};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

const NO_ERROR: u32 = 0;
const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;

/// A secret in the sink's address, which the server repeats in its GOAWAY.
const SECRET: &str = "hunter22-of-the-sink";

/// `:status: 204` as an index of HPACK's static table.
const NO_CONTENT: &[u8] = &[0x89];

/// When a server stops processing requests.
#[derive(Clone, Copy)]
enum Behaviour {
    /// Sends GOAWAY with this code after `after` requests on a connection, ignores further
    /// requests, and closes the connection.
    Leaves { after: usize, code: u32 },
    /// Refuses this number of streams at the start of each connection.
    RefusesFirst(usize),
    /// Processes this number of requests in total, and then refuses every stream.
    RefusesAfter(usize),
}

#[derive(Default)]
struct Seen {
    connections: usize,
    /// The number of streams that were not processed.
    unprocessed: usize,
    /// The `created_at` of the processed events.
    dates: Vec<u64>,
}

struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    folder: TempDir,
}

impl Server {
    async fn start(behaviour: Behaviour) -> Self {
        let (folder, (pem, certificate, key)) = (TempDir::new().unwrap(), certificates("localhost"));
        std::fs::write(folder.path().join("ca.pem"), pem).unwrap();
        let acceptor = acceptor(certificate, key, &[b"h2"]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, seen) = (listener.local_addr().unwrap(), Arc::<Mutex<Seen>>::default());
        let shared = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                let (acceptor, seen) = (acceptor.clone(), Arc::clone(&shared));
                tokio::spawn(async move {
                    let stream = acceptor.accept(stream).await.ok()?;
                    seen.lock().unwrap().connections += 1;
                    serve(stream, behaviour, &seen).await
                });
            }
        });
        Self { address, seen, folder }
    }

    fn output(&self, concurrency: usize) -> Output {
        let mut output = sink(self.address, &self.folder.path().join("ca.pem"));
        output.rest[0].options.concurrency = concurrency.try_into().unwrap();
        let address = format!("https://localhost:{}/?key={SECRET}", self.address.port());
        output.rest[0].address = address.parse().unwrap();
        output
    }
}

/// Serves a connection until it ends.
async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    behaviour: Behaviour,
    seen: &Mutex<Seen>,
) -> Option<()> {
    let mut preface = [0; PREFACE.len()];
    stream.read_exact(&mut preface).await.ok()?;
    assert_eq!(preface, PREFACE);
    write(&mut stream, SETTINGS, 0, 0, &[]).await?;
    let (mut bodies, mut processed, mut last, mut met) = (BTreeMap::<u32, Vec<u8>>::new(), 0, 0, 0);
    let mut is_leaving = false;
    loop {
        let (kind, flags, id, payload) = read(&mut stream).await?;
        match kind {
            SETTINGS if flags & ACK == 0 => write(&mut stream, SETTINGS, ACK, 0, &[]).await?,
            PING if flags & ACK == 0 => write(&mut stream, PING, ACK, 0, &payload).await?,
            HEADERS => drop(bodies.insert(id, Vec::new())),
            DATA => {
                if let Ok(taken @ 1..) = u32::try_from(payload.len()) {
                    write(&mut stream, WINDOW_UPDATE, 0, 0, &taken.to_be_bytes()).await?;
                }
                bodies.get_mut(&id)?.extend(payload);
            }
            // The client closes the connection when it has no streams left.
            GOAWAY => return None,
            _ => {}
        }
        if !matches!(kind, HEADERS | DATA) || flags & END_STREAM == 0 {
            continue;
        }
        let body = bodies.remove(&id)?;
        met += 1;
        let refuses = match behaviour {
            Behaviour::Leaves { .. } => false,
            Behaviour::RefusesFirst(streams) => met <= streams,
            Behaviour::RefusesAfter(requests) => seen.lock().unwrap().dates.len() >= requests,
        };
        if is_leaving && id < last {
            // The stream ended late, but GOAWAY promised that it would be processed (RFC 9113,
            // section 6.8).
            record(&body, seen);
            write(&mut stream, HEADERS, END_STREAM | END_HEADERS, id, NO_CONTENT).await?;
            continue;
        }
        if is_leaving || refuses {
            seen.lock().unwrap().unprocessed += 1;
            if refuses {
                write(&mut stream, RST_STREAM, 0, id, &REFUSED_STREAM.to_be_bytes()).await?;
            }
            continue;
        }
        if let Behaviour::Leaves { after, code } = behaviour
            && processed + 1 >= after
        {
            // Later streams are in flight already, or still to come.
            is_leaving = true;
            last = if after == 0 { 0 } else { id };
            let mut goaway = Vec::new();
            goaway.put_u32(last);
            goaway.put_u32(code);
            goaway.put_slice(SECRET.as_bytes());
            if last != 0 {
                record(&body, seen);
                write(&mut stream, HEADERS, END_STREAM | END_HEADERS, id, NO_CONTENT).await?;
            } else {
                seen.lock().unwrap().unprocessed += 1;
            }
            write(&mut stream, GOAWAY, 0, 0, &goaway).await?;
            continue;
        }
        assert!(id > last);
        processed += 1;
        record(&body, seen);
        write(&mut stream, HEADERS, END_STREAM | END_HEADERS, id, NO_CONTENT).await?;
    }
}

fn record(body: &[u8], seen: &Mutex<Seen>) {
    let event: serde_json::Value = serde_json::from_slice(body).unwrap();
    seen.lock().unwrap().dates.push(event["created_at"].as_u64().unwrap());
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<(u8, u8, u32, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.ok()?;
    let [a, b, c, kind, flags, id @ ..] = head;
    let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
    stream.read_exact(&mut payload).await.ok()?;
    Some((kind, flags, u32::from_be_bytes(id), payload))
}

async fn write(
    stream: &mut (impl AsyncWrite + Unpin),
    kind: u8,
    flags: u8,
    id: u32,
    payload: &[u8],
) -> Option<()> {
    let mut frame = Vec::new();
    frame.put_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes()[1..]);
    frame.put_slice(&[kind, flags]);
    frame.put_u32(id);
    frame.put_slice(payload);
    stream.write_all(&frame).await.ok()?;
    stream.flush().await.ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_says_goaway_after_some_requests_does_not_fail() {
    const EVENTS: u64 = 3_000;
    for concurrency in [1, 16] {
        let server = Server::start(Behaviour::Leaves { after: 5, code: NO_ERROR }).await;
        let folder = TempDir::new().unwrap();
        let gateway = Gateway::start_with(&folder, &server.output(concurrency));
        gateway.append(1..=EVENTS);
        gateway.until_delivered(0, EVENTS).await;
        assert_eq!(
            (gateway.sink(0).retries.get(), gateway.sink(0).last_error()),
            (0, None),
            "concurrency {concurrency}"
        );
        assert_eq!(gateway.sink(0).delivered.get(), EVENTS);
        let mut seen = std::mem::take(&mut *server.seen.lock().unwrap());
        if concurrency > 1 {
            seen.dates.sort_unstable(); // Concurrent requests may arrive in any order.
        }
        assert_eq!(seen.dates, (1..=EVENTS).collect::<Vec<_>>(), "each once, concurrency {concurrency}");
        // Concurrent requests may each open a connection; the client then uses only one.
        assert!(concurrency > 1 || seen.connections as u64 == EVENTS / 5, "{}", seen.connections);
        gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_stream_is_repeated_at_once() {
    for concurrency in [1, 4] {
        let server = Server::start(Behaviour::RefusesFirst(6)).await;
        let folder = TempDir::new().unwrap();
        let gateway = Gateway::start_with(&folder, &server.output(concurrency));
        gateway.append(1..=50);
        gateway.until_delivered(0, 50).await;
        assert_eq!(
            (gateway.sink(0).retries.get(), gateway.sink(0).last_error()),
            (0, None),
            "concurrency {concurrency}"
        );
        // Each connection refuses six streams, and the client may open more than one connection at
        // first.
        assert!(server.seen.lock().unwrap().unprocessed >= 6);
        gateway.stop().await;
    }
}

/// The gateway must pause before it retries.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_processes_nothing_fails() {
    for behaviour in [Behaviour::RefusesAfter(3), Behaviour::Leaves { after: 0, code: NO_ERROR }] {
        let server = Server::start(behaviour).await;
        let folder = TempDir::new().unwrap();
        let gateway = Gateway::start_with(&folder, &server.output(1));
        gateway.append(1..=10);
        let reason = gateway.until_away(0).await;
        assert!(reason.starts_with("the request failed: "), "{reason}");
        until("a retry", || gateway.sink(0).retries.get() >= 2).await;
        // Eight unprocessed requests are repeated immediately; the ninth causes a back-off. After
        // each back-off, at most nine more follow.
        let unprocessed = server.seen.lock().unwrap().unprocessed;
        let requests = gateway.sink(0).retries.get() as usize + 1;
        assert!((9..=9 * requests).contains(&unprocessed), "{unprocessed} in {requests}");
        gateway.stop().await;
    }
}

/// This GOAWAY has an error code, so it counts as a failure.
#[tokio::test(flavor = "multi_thread")]
async fn a_goaway_with_an_error_causes_a_back_off() {
    let server = Server::start(Behaviour::Leaves { after: 0, code: ENHANCE_YOUR_CALM }).await;
    let folder = TempDir::new().unwrap();
    let gateway = Gateway::start_with(&folder, &server.output(1));
    gateway.append(1..=2);
    until("a retry", || gateway.sink(0).retries.get() >= 1).await;
    let reason = gateway.until_away(0).await;
    assert_eq!(reason, "the request failed: (hidden: it repeats a secret of the request)");
    let retries = gateway.sink(0).retries.get();
    assert!(server.seen.lock().unwrap().unprocessed as u64 <= retries + 1);
    gateway.stop().await;
}
