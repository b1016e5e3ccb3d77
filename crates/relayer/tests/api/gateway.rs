//! A gateway without relays: a log in a folder of its own, its writer, and the API on a free port.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, LazyLock, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use moltrade_relayer::api::{self, Access, Connections, Context, WebSocketOptions};
use moltrade_relayer::clock::{Clock, Hands};
use moltrade_relayer::config::{Config, Loaded, Output, Secret};
use moltrade_relayer::control::Control;
use moltrade_relayer::event_log::free_space::{FreeSpace, Reserve};
use moltrade_relayer::event_log::retention::Retention;
use moltrade_relayer::event_log::sequencer::{DiskFull, Sequencer, SequencerOptions};
use moltrade_relayer::event_log::{Cursors, EventLog, StoreOptions, Submission, Verified};
use moltrade_relayer::ingest::admission::Admission;
use moltrade_relayer::ingest::dedupe::DedupeSizes;
use moltrade_relayer::ingest::{Dedupe, Inboxes};
use moltrade_relayer::net::resolver::Resolver;
use moltrade_relayer::relay::Pool;
use moltrade_relayer::relay::connection::Shared;
use moltrade_relayer::relay::dial::{DialOptions, Dialer};
use moltrade_relayer::relay::instance::InstanceId;
use moltrade_relayer::serve::ClientLimits;
use moltrade_relayer::serve::Consumers;
use moltrade_relayer::sink::Workers;
use moltrade_relayer::tasks::StageFailure;
use moltrade_relayer::telemetry::Metrics;
use relay_sim::wait::{until, within};
use relay_sim::{ConsumeError, Consumer, Delivery};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use wire::{Signer, VerifiedEvent};

/// The relay that all events come from.
pub const RELAY: &str = "wss://relay.example";

/// How many relays may be wanted.
pub const RELAYS_MAX: usize = 5;

/// What a test may want otherwise.
pub struct Setup {
    pub tail_bytes: usize,
    pub output: Output,
    pub relays: Vec<&'static str>,
    /// Whether relays can be added and removed, and are dialled, in vain. Otherwise they stay as they are.
    pub supervised: bool,
    pub admin_token: Option<&'static str>,
    pub bind_address: IpAddr,
    /// Where the log is, to come back to it; none for one of its own.
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
            bind_address: Ipv4Addr::LOCALHOST.into(),
            folder: None,
        }
    }
}

/// An output as a configuration has it.
pub fn sinks(text: &str) -> Output {
    let loaded = Config::parse(Some((std::path::Path::new("config.toml"), text)), []);
    loaded.unwrap_or_else(|errors| panic!("{errors}")).config.output
}

pub struct Gateway {
    pub context: Context,
    pub address: SocketAddr,
    /// Where `/metrics` stands alone.
    pub metrics_address: SocketAddr,
    pub signer: Signer,
    inbox: Option<SyncSender<Vec<Submission>>>,
    sequencer: Option<JoinHandle<()>>,
    appended: AtomicU64,
    free_bytes: Arc<AtomicU64>,
    /// What sets the clock.
    pub hands: Hands,
    supervised: Option<tokio::task::JoinHandle<Result<(), StageFailure>>>,
    _workers: Workers,
    folder: TempDir,
}

impl Gateway {
    pub async fn start() -> Self {
        Self::start_with(Setup::default()).await
    }

    pub async fn start_with(setup: Setup) -> Self {
        let folder = TempDir::new().unwrap();
        let path = setup.folder.as_deref().unwrap_or(folder.path());
        let free_bytes = Arc::new(AtomicU64::new(u64::MAX));
        let free = Arc::clone(&free_bytes);
        let free_space = FreeSpace::from_fn(move || Ok(free.load(Ordering::Relaxed)));
        let room = Reserve { free_space, bytes_min: 1 };
        let options = StoreOptions { fsync: false };
        let (clock, hands) = Clock::manual();
        let log = EventLog::open_with(path, options, setup.tail_bytes, clock, room).unwrap();
        let sizes = DedupeSizes { hotset: 1_000, bloom: 1_000, lru: 1_000 };
        let dedupe = Arc::new(Dedupe::new(Arc::clone(&log), sizes));
        let disk_full = Arc::new(DiskFull::default());
        let (inbox, sequencer) = {
            let (log, disk_full) = (Arc::clone(&log), Arc::clone(&disk_full));
            let options = SequencerOptions { batch_size: 100 };
            let sequencer = Sequencer::new(log, options, disk_full).unwrap();
            let (inbox, bursts) = std::sync::mpsc::sync_channel(64);
            (inbox, std::thread::spawn(move || sequencer.run(&bursts, |_| {}).unwrap()))
        };
        let (inboxes, _) = Inboxes::new(1, 1 << 20);
        let loaded = configuration(&folder, &setup.relays);
        let metrics = Arc::new(Metrics::new());
        let instance = InstanceId::random();
        let shared = Shared {
            dialer: Arc::new(dialer(instance)),
            dedupe: Arc::clone(&dedupe),
            inboxes: inboxes.clone(),
            log: Arc::clone(&log),
            metrics: Arc::clone(&metrics),
            signer: None,
            repairs: Semaphore::new(1),
            scans: Arc::new(Semaphore::new(1)),
            health_check_interval: Duration::from_secs(30),
            events_per_second_max: None,
        };
        let (pool, supervisor) = Pool::new(&loaded.config, Arc::new(shared)).unwrap();
        let supervised = setup.supervised.then(|| tokio::spawn(supervisor.run(STOP.subscribe())));
        let pool = Arc::new(pool);
        let admission = Admission::shared(&loaded.config.filters);
        let workers = Workers::start(&setup.output, &log, unanswering(), &metrics).unwrap();
        let appended = log.head().get();
        let (max, keep_unused) = (setup.output.max_consumers, setup.output.keep_unused);
        let gauge = metrics.websocket_consumers.clone();
        let consumers = Consumers::open(Cursors::Consumers, max, keep_unused, &log, gauge).unwrap();
        let free = Arc::clone(&free_bytes);
        let free_space = FreeSpace::from_fn(move || Ok(free.load(Ordering::Relaxed)));
        let context = Context::new(api::Parts {
            reserve: Reserve { free_space, bytes_min: 1_000 },
            consumers,
            identity: *Signer::from_seed(0).pubkey(),
            fanout: None,
            control: Arc::new(Control::new(&loaded, Arc::clone(&pool), admission)),
            pool,
            log,
            inboxes: inboxes.gauge(),
            dedupe,
            disk_full,
            metrics,
            websocket: WebSocketOptions::from(&setup.output),
            access: Access::new(setup.admin_token.map(Secret::new), setup.bind_address),
            instance,
            sinks: Arc::clone(workers.sinks()),
        });
        Self {
            address: serve(api::router(context.clone())),
            metrics_address: serve(api::metrics_router(context.clone())),
            context,
            signer: Signer::from_seed(1),
            inbox: Some(inbox),
            sequencer: Some(sequencer),
            appended: AtomicU64::new(appended),
            free_bytes,
            hands,
            supervised,
            _workers: workers,
            folder,
        }
    }

    /// The event that becomes number `seq` if they are appended in order: kind 1, and its content says it.
    pub fn event(&self, seq: u64) -> VerifiedEvent {
        self.signer.sign(seq, 1, &[] as &[[&str; 0]], &format!("event {seq}"))
    }

    /// Appends so many events, in bursts of changing sizes, and waits until they are committed.
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

    /// Appends events and waits until they are committed. Number `n` was received at `n` seconds.
    pub async fn append(&self, events: Vec<VerifiedEvent>) {
        let up_to = self.offer(events);
        until("the events are committed", || self.context.log.head().get() >= up_to).await;
    }

    /// Hands events to the writer, which may be waiting for room.
    pub fn offer(&self, events: Vec<VerifiedEvent>) -> u64 {
        let verified = |event| Verified {
            event,
            relay: RELAY.into(),
            received_at_ms: 1_000 * (self.appended.fetch_add(1, Ordering::Relaxed) + 1),
            received: Instant::now(),
            budget: None,
        };
        let inbox = self.inbox.as_ref().expect("running");
        inbox.send(events.into_iter().map(|event| Submission::Event(verified(event))).collect()).unwrap();
        self.appended.load(Ordering::Relaxed)
    }

    /// Retention trims what is below a sequence.
    pub fn trim_below(&self, seq: u64) {
        let retention = Retention { age_ms_max: 1, ..Retention::default() };
        self.context.log.trim(retention, 1_000 * seq + 1).unwrap();
        assert_eq!(self.context.log.floor().get(), seq);
    }

    pub fn set_free_bytes(&self, bytes: u64) {
        self.free_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Stops as the program does.
    pub async fn stop(&self, within: Duration) -> usize {
        self.context.log.close();
        self.context.clients().drain(within).await
    }

    /// The file that the configuration was loaded from, and is again.
    pub fn config_file(&self) -> PathBuf {
        self.folder.path().join("config.toml")
    }

    /// Asks for a change, as a program on this machine does.
    pub async fn change(&self, method: &str, path: &str, body: &str) -> Answer {
        self.call(method, path, &["host: localhost", "content-type: application/json"], body).await
    }

    /// Asks for something with these headers.
    pub async fn call(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Answer {
        let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\n{headers}content-length: {length}\r\n\r\n");
        request(self.address, &(head + body)).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        request(self.address, &format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await
    }

    /// Asks for a WebSocket, which is expected to be refused.
    pub async fn refused(&self, path: &str) -> Answer {
        let answer = request(self.address, &handshake(path)).await;
        assert_ne!(answer.status, 101, "{path}");
        answer
    }

    pub async fn connect(&self, query: &str) -> Consumer {
        Consumer::connect(&format!("ws://{}/ws{query}", self.address)).await.unwrap()
    }

    /// A client that sends its handshake and then never reads.
    pub async fn connect_stalled(&self, query: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(handshake(&format!("/ws{query}")).as_bytes()).await.unwrap();
        stream
    }
}

impl Drop for Gateway {
    /// The writer must not use RocksDB when the process ends; the runtime ends the readers.
    fn drop(&mut self) {
        self.supervised.take().inspect(|supervised| supervised.abort());
        self.inbox = None;
        self.context.disk_full.give_up();
        if let Some(sequencer) = self.sequencer.take() {
            sequencer.join().unwrap();
        }
    }
}

/// A dialer that finds nobody. Hosts that begin with `new` have a public address the first time that they are
/// looked up, as adding them does, and none when they are dialled.
fn dialer(instance: InstanceId) -> Dialer {
    let known = Mutex::new(HashSet::new());
    let resolver = Resolver::from_fn(move |host: &str| {
        let is_new = host.starts_with("new") && known.lock().unwrap().insert(host.to_owned());
        if is_new { Ok(vec![[8, 8, 8, 8].into()]) } else { Err(std::io::ErrorKind::NotFound.into()) }
    });
    Dialer::new(DialOptions {
        frame_bytes_max: 1 << 20,
        user_agent: "test".to_owned(),
        extra_ca_file: None,
        resolver,
        instance,
        tls_sessions_max: 0,
    })
    .unwrap()
}

/// Sinks have names that nobody answers for, but for addresses.
fn unanswering() -> Resolver {
    Resolver::from_fn(|host: &str| match host.parse() {
        Ok(address) => Ok(vec![address]),
        Err(_) => loop {
            std::thread::sleep(Duration::from_secs(60));
        },
    })
}

/// Nothing stops the supervisors but the end of their test.
static STOP: LazyLock<watch::Sender<bool>> = LazyLock::new(|| watch::Sender::new(false));

/// A configuration in a file.
fn configuration(folder: &TempDir, relays: &[&str]) -> Loaded {
    let file = folder.path().join("config.toml");
    let text = format!("relay.bootstrap_relays = {relays:?}\nrelay.max_connections = {RELAYS_MAX}");
    std::fs::write(&file, text).unwrap();
    Config::load(Some(&file), []).unwrap()
}

fn serve(router: axum::Router) -> SocketAddr {
    let listener = api::listen((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let address = listener.local_addr().unwrap();
    let limits = ClientLimits { in_all: NonZeroUsize::MAX, from_address: None };
    tokio::spawn(api::serve(listener, router, Connections::new(limits, &Arc::new(Metrics::new()))));
    address
}

fn handshake(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

pub struct Answer {
    pub status: u16,
    head: String,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/json"));
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let headers = self.head.lines().filter_map(|line| line.split_once(": "));
        headers.clone().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The answer is an error with this status and code; gives its message.
    #[track_caller]
    pub fn error(&self, status: u16, code: &str) -> String {
        let body = self.json();
        assert_eq!((self.status, body["error"].as_str()), (status, Some(code)), "{}", self.text);
        body["message"].as_str().unwrap().to_owned()
    }
}

pub async fn request(address: SocketAddr, request: &str) -> Answer {
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
    let mut answer = Answer { status: head[9..12].parse().unwrap(), head, text: String::new() };
    let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = body;
    while body.len() < length {
        assert_ne!(stream.read_buf(&mut body).await.unwrap(), 0, "the connection ended");
    }
    answer.text = String::from_utf8(body).unwrap();
    answer
}

/// What the client gets next.
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

/// Takes what comes until the connection ends: the sequences, and the close code with its reason.
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
