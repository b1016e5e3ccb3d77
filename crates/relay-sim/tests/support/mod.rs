//! A plain client of the simulated relays.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::expect_used, clippy::panic, reason = "tests say what they expect")]

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use relay_sim::Sim;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_websockets::{ClientBuilder, Limits, Message, WebSocketStream};
use wire::{RelayMessage, UnverifiedEvent};

/// Long enough for every event that a test expects.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Long enough to conclude that nothing arrives.
pub const MOMENT: Duration = Duration::from_millis(200);

/// A TCP or TLS stream.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

pub struct Client(WebSocketStream<Box<dyn Stream>>);

/// A received message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// The event's text.
    Event(String),
    Eose,
    Text(String),
    Binary(Vec<u8>),
    Closed(Option<u16>),
    /// The connection ended or broke, with the reason.
    Gone(String),
}

impl Client {
    pub async fn connect(url: &str) -> Self {
        Self::try_connect(url).await.expect("the relay takes us")
    }

    pub async fn try_connect(url: &str) -> Result<Self, tokio_websockets::Error> {
        let host = url.split('/').nth(2).expect("a host");
        Self::upgrade(url, TcpStream::connect(host).await?).await
    }

    /// Upgrades a connection to a WebSocket.
    pub async fn upgrade(url: &str, stream: impl Stream + 'static) -> Result<Self, tokio_websockets::Error> {
        let builder = ClientBuilder::new().uri(url).expect("a URL").limits(Limits::unlimited());
        let stream: Box<dyn Stream> = Box::new(stream);
        let (socket, _) = timeout(PATIENCE, builder.connect_on(stream)).await.expect("an answer")?;
        Ok(Self(socket))
    }

    /// Connects, and requests all events with the subscription `s`.
    pub async fn subscribe(url: &str) -> Self {
        let mut client = Self::connect(url).await;
        client.say(r#"["REQ","s",{}]"#).await;
        client
    }

    pub async fn say(&mut self, text: &str) {
        self.0.send(Message::text(text.to_owned())).await.expect("sent");
    }

    /// Sends a ping, and returns whether a pong arrives before anything else.
    pub async fn ping(&mut self) -> bool {
        self.0.send(Message::ping(&b"x"[..])).await.expect("sent");
        let next = timeout(PATIENCE, self.0.next()).await.expect("something comes");
        next.is_some_and(|message| message.is_ok_and(|message| message.is_pong()))
    }

    /// Sends a ping, and returns whether nothing arrives for a moment.
    pub async fn pings_in_vain(&mut self) -> bool {
        self.0.send(Message::ping(&b"x"[..])).await.expect("sent");
        timeout(MOMENT, self.0.next()).await.is_err()
    }

    pub async fn next(&mut self) -> Seen {
        timeout(PATIENCE, self.read()).await.expect("something comes")
    }

    /// The next message, or `None` if nothing arrives for a moment.
    pub async fn next_or_silence(&mut self) -> Option<Seen> {
        timeout(MOMENT, self.read()).await.ok()
    }

    async fn read(&mut self) -> Seen {
        loop {
            let message = match self.0.next().await {
                None => return Seen::Gone(String::new()),
                Some(Err(error)) => return Seen::Gone(error.to_string()),
                Some(Ok(message)) => message,
            };
            if message.is_ping() || message.is_pong() {
                continue;
            }
            if let Some((code, _)) = message.as_close() {
                return Seen::Closed(Some(code.into()));
            }
            let Some(text) = message.as_text() else {
                return Seen::Binary(message.into_payload().to_vec());
            };
            return match RelayMessage::parse(text.as_bytes()) {
                Ok(RelayMessage::Event { subscription, event }) if subscription == "s" => {
                    Seen::Event(event.to_owned())
                }
                Ok(RelayMessage::Eose { .. }) => Seen::Eose,
                _ => Seen::Text(text.to_owned()),
            };
        }
    }

    /// All events before EOSE.
    pub async fn stored(&mut self) -> Vec<String> {
        let mut events = Vec::new();
        loop {
            match self.next().await {
                Seen::Event(event) => events.push(event),
                Seen::Eose => return events,
                Seen::Gone(reason) => panic!("the connection broke before EOSE: {reason}"),
                _ => {}
            }
        }
    }

    /// Sends a request with the subscription `s`, and returns the stored events, or the reason of
    /// CLOSED or NOTICE.
    pub async fn ask(&mut self, filters: &str) -> Result<Vec<String>, String> {
        self.say(&format!(r#"["REQ","s",{filters}]"#)).await;
        let mut events = Vec::new();
        loop {
            match self.next().await {
                Seen::Event(event) => events.push(event),
                Seen::Eose => return Ok(events),
                Seen::Text(text) => match RelayMessage::parse(text.as_bytes()) {
                    Ok(RelayMessage::Closed { reason, .. } | RelayMessage::Notice(reason)) => {
                        return Err(reason.into_owned());
                    }
                    other => panic!("{other:?}"),
                },
                other => panic!("{other:?}"),
            }
        }
    }

    /// The next `count` messages of any kind.
    pub async fn take(&mut self, count: usize) -> Vec<Seen> {
        let mut seen = Vec::new();
        while seen.len() < count {
            seen.push(self.next().await);
        }
        seen
    }

    /// All messages until the connection ends.
    pub async fn rest(&mut self) -> Vec<Seen> {
        let mut seen = Vec::new();
        loop {
            seen.push(self.next().await);
            if let Some(Seen::Gone(_) | Seen::Closed(_)) = seen.last() {
                return seen;
            }
        }
    }

    /// Whether nothing arrives for a moment. On a slow machine, a wrong `true` is possible, a wrong
    /// `false` is not.
    pub async fn is_silent(&mut self) -> bool {
        self.next_or_silence().await.is_none()
    }
}

pub fn id(event: &str) -> String {
    UnverifiedEvent::parse(event.as_bytes()).expect("an event").id.to_string()
}

pub fn created_at(event: &str) -> u64 {
    UnverifiedEvent::parse(event.as_bytes()).expect("an event").created_at
}

/// Requests a relay's NIP-11 document, and reads until the connection ends, `bytes` bytes have
/// arrived, or the time is up.
pub async fn information(
    sim: &Sim,
    relay: usize,
    accept: &str,
    bytes_max: usize,
    time_max: Duration,
) -> String {
    let mut socket = TcpStream::connect(sim.address()).await.expect("connected");
    let request =
        format!("GET /r/{relay} HTTP/1.1\r\nHost: x\r\nUser-Agent: test/1\r\nAccept: {accept}\r\n\r\n");
    socket.write_all(request.as_bytes()).await.expect("sent");
    let mut bytes = Vec::new();
    let read = async {
        while bytes.len() < bytes_max && socket.read_buf(&mut bytes).await.is_ok_and(|length| length > 0) {}
    };
    _ = timeout(time_max, read).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Unix seconds.
pub fn now() -> u64 {
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    time.expect("after 1970").as_secs()
}
