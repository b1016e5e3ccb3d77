//! Child process: a sink receiver that does as little as the protocol permits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::player::{Player, told};
use crate::{Fallible, gateway};

/// The time limit for sent bytes to arrive.
const PATIENCE: Duration = Duration::from_secs(10);

/// How a receiver reacts to received data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// Reads and does nothing else.
    Read,
    /// Acknowledges the last complete line of each read.
    Acknowledge,
    /// Responds to HTTP requests.
    Answer,
}

impl Behaviour {
    const ALL: [Self; 3] = [Self::Read, Self::Acknowledge, Self::Answer];

    /// The behaviour as an argument of the child process.
    const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Acknowledge => "acknowledge",
            Self::Answer => "answer",
        }
    }
}

/// A child process that receives.
pub struct Receiver {
    player: Player,
    pub address: String,
    seen: u64,
}

impl Receiver {
    pub fn start(behaviour: Behaviour) -> Fallible<Self> {
        let mut player = Player::start(&["receiver", behaviour.name()])?;
        let address = player.hear()?;
        Ok(Self { player, address, seen: 0 })
    }

    /// Waits until the receiver has received `bytes` bytes, without request headers, since the last
    /// call. Fails if more bytes come, or if they stop coming.
    pub async fn has(&mut self, bytes: u64) -> Fallible<()> {
        let by = Instant::now() + PATIENCE;
        loop {
            let more = self.player.ask("bytes")?.parse::<u64>()? - self.seen;
            if more == bytes {
                self.seen += more;
                return Ok(());
            }
            if more > bytes || Instant::now() > by {
                return Err(format!("{more} bytes were received instead of {bytes}").into());
            }
            tokio::time::sleep(gateway::LOOK_EVERY).await;
        }
    }
}

/// Reports the address, accepts all connections, and responds to each line with the number of
/// received bytes.
pub async fn play(behaviour: &str) -> Fallible<()> {
    let behaviour =
        Behaviour::ALL.into_iter().find(|known| known.name() == behaviour).ok_or("no such behaviour")?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let bytes = Arc::<AtomicU64>::default();
    let counted = Arc::clone(&bytes);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let bytes = Arc::clone(&counted);
            tokio::spawn(async move {
                match behaviour {
                    Behaviour::Read => read(stream, &bytes).await,
                    Behaviour::Acknowledge => acknowledge(stream, &bytes).await,
                    Behaviour::Answer => answer(stream, &bytes).await,
                }
            });
        }
    });
    while !told().await?.is_empty() {
        println!("{}", bytes.load(Ordering::Relaxed));
    }
    Ok(())
}

/// Reads a connection until the peer ends it.
async fn read(mut stream: TcpStream, bytes: &AtomicU64) -> Option<()> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        let count = stream.read(&mut buffer).await.ok().filter(|count| *count > 0)?;
        bytes.fetch_add(count as u64, Ordering::Relaxed);
    }
}

async fn acknowledge(mut stream: TcpStream, bytes: &AtomicU64) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    // The buffer keeps the beginning of an incomplete line.
    let mut buffer = Vec::with_capacity(256 << 10);
    loop {
        let count = stream.read_buf(&mut buffer).await.ok().filter(|count| *count > 0)?;
        bytes.fetch_add(count as u64, Ordering::Relaxed);
        let Some(end) = buffer.iter().rposition(|byte| *byte == b'\n') else { continue };
        let before = buffer.get(..end)?;
        let last = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let seq = seq(before.get(last..)?)?;
        stream.write_all(format!("{{\"ack\":{seq}}}\n").as_bytes()).await.ok()?;
        buffer.drain(..=end);
    }
}

/// Returns the sequence of an envelope.
pub fn seq(envelope: &[u8]) -> Option<u64> {
    let rest = envelope.strip_prefix(br#"{"seq":"#)?;
    let digits = rest.split(|byte| *byte == b',').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

async fn answer(mut stream: TcpStream, bytes: &AtomicU64) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut buffer = Vec::with_capacity(256 << 10);
    loop {
        let head = loop {
            if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            stream.read_buf(&mut buffer).await.ok().filter(|count| *count > 0)?;
        };
        let length = content_length(buffer.get(..head)?)?;
        while buffer.len() < head + length {
            stream.read_buf(&mut buffer).await.ok().filter(|count| *count > 0)?;
        }
        buffer.drain(..head + length);
        bytes.fetch_add(length as u64, Ordering::Relaxed);
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.ok()?;
    }
}

fn content_length(head: &[u8]) -> Option<usize> {
    let head = std::str::from_utf8(head).ok()?;
    let headers = head.lines().filter_map(|line| line.split_once(':'));
    let mut lengths = headers.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    lengths.next()?.1.trim().parse().ok()
}
