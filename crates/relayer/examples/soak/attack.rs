//! Attackers on every listening port of the gateway, each with its own source address.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use wire::Signer;

use crate::Outcome;

/// The number of silent connections to each port.
const IDLE: usize = 150;
/// The number of slow connections to each port. A slow connection sends one byte of its headers a
/// second.
const SLOW: usize = 20;
/// The pause between two attempts of one attacker.
const PAUSE: Duration = Duration::from_millis(200);
/// The time that an attacker waits for a response.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// The kind of a NIP-98 token.
const TOKEN_KIND: u16 = 27_235;

/// Running attackers. Dropping this value stops them.
pub struct Attackers {
    counts: Arc<Counts>,
    _tasks: JoinSet<()>,
}

/// Counts of what the attackers did.
#[derive(Default)]
struct Counts {
    connections: AtomicU64,
    registrations: AtomicU64,
    upgrades: AtomicU64,
    take_overs: AtomicU64,
}

impl Attackers {
    /// Attacks the main port and the Prometheus port.
    pub fn start(main: SocketAddr, prometheus: SocketAddr) -> Self {
        let counts = Arc::new(Counts::default());
        let mut tasks = JoinSet::new();
        for port in [main, prometheus] {
            for _ in 0..IDLE {
                tasks.spawn(idle(port, Arc::clone(&counts)));
            }
            for _ in 0..SLOW {
                tasks.spawn(slow_headers(port, Arc::clone(&counts)));
            }
            tasks.spawn(garbage(port, Arc::clone(&counts)));
        }
        tasks.spawn(take_over(main, Arc::clone(&counts)));
        tasks.spawn(register(main, Arc::clone(&counts)));
        Self { counts, _tasks: tasks }
    }

    /// The number of accepted WebSockets with a consumer's name and a foreign origin.
    pub fn take_overs(&self) -> u64 {
        self.counts.take_overs.load(Ordering::Relaxed)
    }

    /// The counts as one line of text.
    pub fn figures(&self) -> String {
        let Counts { connections, registrations, upgrades, .. } = &*self.counts;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        format!(
            "{} connections, {} registrations, {} upgrades with a foreign origin",
            count(connections),
            count(registrations),
            count(upgrades)
        )
    }
}

/// Connects from a loopback address that only attackers use; `from` is the kind of attack.
async fn connect(to: SocketAddr, from: u8, counts: &Counts) -> Outcome<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::new(127, 0, 66, from), 0).into())?;
    let stream = timeout(ANSWER_MAX, socket.connect(to)).await??;
    counts.connections.fetch_add(1, Ordering::Relaxed);
    Ok(stream)
}

async fn idle(port: SocketAddr, counts: Arc<Counts>) {
    loop {
        if let Ok(mut stream) = connect(port, 1, &counts).await {
            // Reads until the gateway closes the connection.
            let mut nothing = [0; 64];
            while matches!(stream.read(&mut nothing).await, Ok(1..)) {}
        }
        sleep(PAUSE).await;
    }
}

async fn slow_headers(port: SocketAddr, counts: Arc<Counts>) {
    const HEAD: &[u8] = b"GET /status HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ";
    loop {
        if let Ok(mut stream) = connect(port, 2, &counts).await {
            let bytes = HEAD.iter().copied().chain(std::iter::repeat(b'x'));
            for byte in bytes {
                if stream.write_all(&[byte]).await.is_err() {
                    break;
                }
                sleep(Duration::from_secs(1)).await;
            }
        }
        sleep(PAUSE).await;
    }
}

async fn garbage(port: SocketAddr, counts: Arc<Counts>) {
    loop {
        let noise: Vec<u8> = (0..1_024).map(|_| rand::random()).collect();
        exchange(port, 3, &noise, &counts).await;
        sleep(PAUSE).await;
    }
}

/// Tries to take over a consumer, as a page of another site would.
async fn take_over(port: SocketAddr, counts: Arc<Counts>) {
    let request = format!(
        "GET /ws?consumer=victim&seek=0 HTTP/1.1\r\nHost: {port}\r\nOrigin: https://evil.example\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    );
    loop {
        let answer = exchange(port, 4, request.as_bytes(), &counts).await;
        counts.upgrades.fetch_add(1, Ordering::Relaxed);
        if answer.starts_with(b"HTTP/1.1 101") {
            counts.take_overs.fetch_add(1, Ordering::Relaxed);
        }
        sleep(PAUSE).await;
    }
}

/// Registers bots with generated keys.
async fn register(port: SocketAddr, counts: Arc<Counts>) {
    for number in 1.. {
        let bot = Signer::from_seed(0xB07_0000 + number);
        let body = format!(r#"{{"bot_pubkey":"{}","name":"Invented {number}"}}"#, bot.pubkey());
        let url = format!("http://{port}/api/bots/register");
        let hash = faster_hex::hex_string(digest(&SHA256, body.as_bytes()).as_ref());
        let tags = [["u", url.as_str()], ["method", "POST"], ["payload", &hash]];
        let tags = tags.map(|tag| tag.map(str::to_owned));
        let now = moltrade_relayer::clock::unix_secs();
        let token = STANDARD.encode(bot.sign(now, TOKEN_KIND, &tags, "").json());
        let request = format!(
            "POST /api/bots/register HTTP/1.1\r\nHost: {port}\r\nAuthorization: Nostr {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        exchange(port, 5, request.as_bytes(), &counts).await;
        counts.registrations.fetch_add(1, Ordering::Relaxed);
        sleep(PAUSE).await;
    }
}

/// Sends bytes on a new connection, and returns the beginning of the response; empty if there is
/// none.
async fn exchange(port: SocketAddr, from: u8, bytes: &[u8], counts: &Counts) -> Vec<u8> {
    let mut answer = vec![0; 1_024];
    let exchanged = async {
        let mut stream = connect(port, from, counts).await?;
        stream.write_all(bytes).await?;
        Outcome::Ok(stream.read(&mut answer).await?)
    };
    // A gateway that is down, or that closes the connection, sends no response.
    let read = timeout(ANSWER_MAX, exchanged).await.ok().and_then(Result::ok).unwrap_or(0);
    answer.truncate(read);
    answer
}
