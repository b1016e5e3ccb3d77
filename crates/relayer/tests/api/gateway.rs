//! A gateway without real relays, with a separate log folder and the API on a free port.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use moltrade_relayer::clock::ManualClock;
use moltrade_relayer::config::{Config, Loaded, Output, Secret};
use moltrade_relayer::event_log::retention::Retention;
use moltrade_relayer::event_log::{Submission, Verified};
use moltrade_relayer::net::resolver::Resolver;
use moltrade_relayer::testing::{self, TestGateway};
use relay_sim::wait::{until, within};
use relay_sim::{ConsumeError, Consumer, Delivery};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wire::{Signer, VerifiedEvent};

use crate::described::check_answer;

/// The relay named as the source of all events.
pub const RELAY: &str = "wss://relay.example";

pub const RELAYS_MAX: usize = 5;

/// What a test may configure.
pub struct Setup {
    pub tail_bytes: usize,
    pub output: Output,
    pub relays: Vec<&'static str>,
    /// Whether relays can be added and removed. They are then dialled, always unsuccessfully.
    pub supervised: bool,
    pub admin_token: Option<&'static str>,
    /// More of `[api]`, as text of the configuration file.
    pub api: String,
    /// `[api] allowed_origins`.
    pub api_origins: Vec<&'static str>,
    pub bind_address: IpAddr,
    /// The folder of an earlier log to reopen; `None` for a new log.
    pub folder: Option<PathBuf>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            tail_bytes: 1 << 20,
            output: sinks("[[output.tcp]]\nname = 'archive'\naddress = 'archive.example:9000'"),
            relays: vec![RELAY],
            supervised: true,
            admin_token: None,
            api: String::new(),
            api_origins: Vec::new(),
            bind_address: Ipv4Addr::LOCALHOST.into(),
            folder: None,
        }
    }
}

/// Parses `[output]` of a configuration.
pub fn sinks(text: &str) -> Output {
    let loaded = Config::parse(Some((std::path::Path::new("config.toml"), text)), []);
    loaded.unwrap_or_else(|errors| panic!("{errors}")).config.output
}

pub struct Gateway {
    running: TestGateway,
    pub signer: Signer,
    appended: AtomicU64,
    free_bytes: Arc<AtomicU64>,
    pub manual_clock: ManualClock,
    folder: TempDir,
}

impl Gateway {
    pub async fn start() -> Self {
        Self::start_with(Setup::default()).await
    }

    pub async fn start_with(setup: Setup) -> Self {
        let folder = TempDir::new().unwrap();
        let mut loaded = configuration(&folder, &setup.relays, &setup.api);
        let config = &mut loaded.config;
        config.deduplication.rocksdb_path = setup.folder.unwrap_or_else(|| folder.path().join("log"));
        config.storage.tail_bytes = setup.tail_bytes;
        config.storage.fsync = false;
        config.output = Output { bind_address: setup.bind_address, ..setup.output };
        config.api.admin_token = setup.admin_token.map(Secret::new);
        config.api.allowed_origins = setup.api_origins.iter().map(|origin| origin.parse().unwrap()).collect();
        let setup = testing::Setup {
            reserve_bytes: 1_000,
            resolver: resolver(),
            dials: setup.supervised,
            ..testing::Setup::loaded(loaded)
        };
        let (free_bytes, manual_clock) = (Arc::clone(&setup.free_bytes), setup.manual_clock.clone());
        let running = setup.start().await.unwrap();
        let appended = AtomicU64::new(running.log.head().get());
        Self { running, signer: Signer::from_seed(1), appended, free_bytes, manual_clock, folder }
    }

    /// The event that gets the sequence `seq` if all events are appended in order: kind 1, with the
    /// sequence as its content.
    pub fn event(&self, seq: u64) -> VerifiedEvent {
        self.signer.sign(seq, 1, &[] as &[[&str; 0]], &format!("event {seq}"))
    }

    /// Appends events in bursts of varying sizes, and waits until they are committed.
    pub async fn append_numbered(&self, count: u64) {
        let first = self.appended.load(Ordering::Relaxed) + 1;
        let mut events = (first..first + count).map(|seq| self.event(seq));
        for size in (1..=17).cycle() {
            let burst: Vec<_> = events.by_ref().take(size).collect();
            if burst.is_empty() {
                return;
            }
            self.append(burst).await;
        }
    }

    /// Appends events and waits until they are committed. The event with the sequence `n` was
    /// received at `n` seconds.
    pub async fn append(&self, events: Vec<VerifiedEvent>) {
        let up_to = self.offer(events);
        until("the events are committed", || self.log.head().get() >= up_to).await;
    }

    /// Sends events to the sequencer without waiting for the commit, because the sequencer may be
    /// waiting for disk space.
    pub fn offer(&self, events: Vec<VerifiedEvent>) -> u64 {
        let verified = |event| Verified {
            event,
            relay: RELAY.into(),
            received_at_ms: 1_000 * (self.appended.fetch_add(1, Ordering::Relaxed) + 1),
            received: Instant::now(),
            budget: None,
        };
        self.running.submit(events.into_iter().map(|event| Submission::Event(verified(event))).collect());
        self.appended.load(Ordering::Relaxed)
    }

    /// Trims the events below a sequence, as retention would.
    pub fn trim_below(&self, seq: u64) {
        let retention = Retention { age_ms_max: 1, ..Retention::default() };
        self.log.trim(retention, 1_000 * seq + 1).unwrap();
        assert_eq!(self.log.floor().get(), seq);
    }

    pub fn set_free_bytes(&self, bytes: u64) {
        self.free_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Stops gracefully.
    pub async fn drain(self) {
        self.running.drain().await.unwrap();
    }

    /// The configuration file that a reload reads.
    pub fn config_file(&self) -> PathBuf {
        self.folder.path().join("config.toml")
    }

    /// Sends a change with the headers of a program on this machine.
    pub async fn change(&self, method: &str, path: &str, body: &str) -> Response {
        self.call(method, path, &["host: localhost", "content-type: application/json"], body).await
    }

    /// Sends a request with these headers.
    pub async fn call(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Response {
        let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\n{headers}content-length: {length}\r\n\r\n");
        self.ask(&(head + body)).await
    }

    /// Sends a request, and compares the answer with the description of the API.
    async fn ask(&self, text: &str) -> Response {
        let answer = request(self.address, text).await;
        let mut words = text.split(' ');
        let (method, target) = (words.next().unwrap(), words.next().unwrap());
        check_answer(method, target, answer.status, answer.header("content-type"), &answer.text);
        answer
    }

    pub async fn get(&self, path: &str) -> Response {
        self.ask(&format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await
    }

    /// Requests a WebSocket and expects that the gateway refuses it.
    pub async fn refused(&self, path: &str) -> Response {
        let answer = self.ask(&handshake(path)).await;
        assert_ne!(answer.status, 101, "{path}");
        answer
    }

    pub async fn connect(&self, query: &str) -> Consumer {
        Consumer::connect(&format!("ws://{}/ws{query}", self.address)).await.unwrap()
    }

    /// A client of `/ws` that sends its handshake and then never reads.
    pub async fn connect_stalled(&self, query: &str) -> TcpStream {
        self.connect_stalled_to(&format!("/ws{query}")).await
    }

    /// A client of this path that sends its handshake and then never reads.
    pub async fn connect_stalled_to(&self, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(handshake(path).as_bytes()).await.unwrap();
        stream
    }
}

impl std::ops::Deref for Gateway {
    type Target = TestGateway;

    fn deref(&self) -> &TestGateway {
        &self.running
    }
}

/// Resolves IP addresses only. Hosts that begin with `new` have a public address at the first
/// look-up (when the relay is added), and none at later look-ups (when it is dialled). Look-ups of
/// `archive.example` never end.
fn resolver() -> Resolver {
    let known = Mutex::new(HashSet::new());
    Resolver::from_fn(move |host: &str| {
        if host == "archive.example" {
            loop {
                std::thread::sleep(Duration::from_secs(60));
            }
        }
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        let is_new = host.starts_with("new") && known.lock().unwrap().insert(host.to_owned());
        if is_new { Ok(vec![[8, 8, 8, 8].into()]) } else { Err(std::io::ErrorKind::NotFound.into()) }
    })
}

/// Writes a configuration to a file and loads it.
fn configuration(folder: &TempDir, relays: &[&str], api: &str) -> Loaded {
    let file = folder.path().join("config.toml");
    let text =
        format!("relay.bootstrap_relays = {relays:?}\nrelay.max_connections = {RELAYS_MAX}\n[api]\n{api}");
    std::fs::write(&file, text).unwrap();
    Config::load(Some(&file), []).unwrap_or_else(|errors| panic!("{errors}"))
}

fn handshake(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

pub struct Response {
    pub status: u16,
    head: String,
    pub text: String,
}

impl Response {
    pub fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/json"));
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let headers = self.head.lines().filter_map(|line| line.split_once(": "));
        headers.clone().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Expects an error with this status and code, and returns its message.
    #[track_caller]
    pub fn error(&self, status: u16, code: &str) -> String {
        let body = self.json();
        assert_eq!((self.status, body["error"].as_str()), (status, Some(code)), "{}", self.text);
        body["message"].as_str().unwrap().to_owned()
    }
}

pub async fn request(address: SocketAddr, request: &str) -> Response {
    within("a response", respond(address, request)).await
}

async fn respond(address: SocketAddr, request: &str) -> Response {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    let end_of_head = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0, "the connection ended");
    };
    let body = bytes.split_off(end_of_head);
    let head = String::from_utf8(bytes).unwrap();
    let mut answer = Response { status: head[9..12].parse().unwrap(), head, text: String::new() };
    let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = body;
    while body.len() < length {
        assert_ne!(stream.read_buf(&mut body).await.unwrap(), 0, "the connection ended");
    }
    answer.text = String::from_utf8(body).unwrap();
    answer
}

pub async fn next(client: &mut Consumer) -> Delivery {
    within("a delivery", client.next()).await.unwrap()
}

/// The sequences of the next deliveries.
pub async fn next_seqs(client: &mut Consumer, count: usize) -> Vec<u64> {
    let mut seqs = Vec::new();
    while seqs.len() < count {
        seqs.push(next(client).await.seq.unwrap());
    }
    seqs
}

/// Reads until the connection ends. Returns the sequences, and the close code with its reason.
pub async fn until_closed(client: &mut Consumer) -> (Vec<u64>, String) {
    let mut seqs = Vec::new();
    loop {
        match within("a delivery or the end", client.next()).await {
            Ok(delivery) => seqs.push(delivery.seq.unwrap()),
            Err(ConsumeError::Ended(reason)) => return (seqs, reason),
            Err(error) => panic!("{error}"),
        }
    }
}
