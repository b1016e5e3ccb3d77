//! The other side of the gateway: a client of `/ws` that resumes after an interruption.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_websockets::{ClientBuilder, Limits, MaybeTlsStream, WebSocketStream};

/// The largest accepted message: many times the size of a 256 KiB event in its envelope.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// The time limit of one attempt to connect.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// The pause between attempts to reconnect.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);

/// Why `next` or a connection attempt failed.
#[derive(Debug, thiserror::Error)]
pub enum ConsumeError {
    /// The URL is not a WebSocket URL.
    #[error("{url} is not a ws:// URL: {reason}")]
    Url { url: String, reason: String },
    /// The gateway did not accept the connection.
    #[error("cannot connect to {url}: {reason}")]
    Connect { url: String, reason: String },
    /// The connection ended.
    #[error("the gateway closed the connection: {0}")]
    Ended(String),
    /// A message is neither an envelope nor an event.
    #[error("a message is neither an envelope nor an event: {0}")]
    Malformed(String),
}

/// One delivered event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The sequence number; only in envelopes.
    pub seq: Option<u64>,
    /// When the gateway received the event (Unix milliseconds); only in envelopes.
    pub received_at: Option<u64>,
    /// The relay that delivered the event first; only in envelopes.
    pub relay: Option<String>,
    /// The event object's text, as delivered.
    pub event: Bytes,
    /// The size of the whole message.
    pub message_bytes: usize,
    /// When the consumer received the message, in Unix microseconds.
    pub at_us: u64,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    seq: u64,
    received_at: Option<u64>,
    relay: Option<String>,
    #[serde(borrow)]
    event: &'a RawValue,
}

impl Delivery {
    /// Reads a message of `/ws`, with or without an envelope.
    ///
    /// # Errors
    /// When the message is not a JSON object.
    pub fn parse(message: &Bytes) -> Result<Self, ConsumeError> {
        let (message_bytes, at_us) = (message.len(), crate::world::now_us());
        // An event has no field `seq`, so only an envelope parses here.
        if let Ok(envelope) = serde_json::from_slice::<Envelope<'_>>(message) {
            let Envelope { seq, received_at, relay, event } = envelope;
            let event = message.slice_ref(event.get().as_bytes());
            return Ok(Self { seq: Some(seq), received_at, relay, event, message_bytes, at_us });
        }
        if !message.trim_ascii_start().starts_with(b"{") {
            let start = message.get(..message.len().min(80)).unwrap_or_default();
            return Err(ConsumeError::Malformed(String::from_utf8_lossy(start).into_owned()));
        }
        let event = message.clone();
        Ok(Self { seq: None, received_at: None, relay: None, event, message_bytes, at_us })
    }
}

/// A client of the gateway's `/ws`.
#[derive(Debug)]
pub struct Consumer {
    url: String,
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    reconnect_for: Option<Duration>,
    last_seq: Option<u64>,
    reconnects: u64,
}

impl Consumer {
    /// Connects once.
    ///
    /// # Errors
    /// When the URL is invalid or the gateway does not accept the connection.
    pub async fn connect(url: &str) -> Result<Self, ConsumeError> {
        let socket = open(url).await?;
        Ok(Self { url: url.to_owned(), socket, reconnect_for: None, last_seq: None, reconnects: 0 })
    }

    /// Connects, retrying for up to `patience`.
    ///
    /// # Errors
    /// The error of the last attempt.
    pub async fn connect_within(url: &str, patience: Duration) -> Result<Self, ConsumeError> {
        let socket = open_within(url, patience).await?;
        Ok(Self { url: url.to_owned(), socket, reconnect_for: None, last_seq: None, reconnects: 0 })
    }

    /// When the connection ends, reconnects with `cursor=<last sequence>`, retrying for up to
    /// `patience`.
    pub const fn reconnect(mut self, patience: Duration) -> Self {
        self.reconnect_for = Some(patience);
        self
    }

    pub const fn reconnects(&self) -> u64 {
        self.reconnects
    }

    /// The last delivered sequence number: the cursor to resume from.
    pub const fn last_seq(&self) -> Option<u64> {
        self.last_seq
    }

    /// The next delivery. Dropping the future loses no delivery.
    ///
    /// # Errors
    /// When the connection ended and cannot be restored, or a message is malformed.
    pub async fn next(&mut self) -> Result<Delivery, ConsumeError> {
        loop {
            match self.message().await {
                Ok(message) => {
                    let delivery = Delivery::parse(&message)?;
                    self.last_seq = delivery.seq.or(self.last_seq);
                    return Ok(delivery);
                }
                Err(ended) => {
                    let Some(patience) = self.reconnect_for else { return Err(ended) };
                    let url = match self.last_seq {
                        Some(seq) => with_cursor(&self.url, seq),
                        None => self.url.clone(),
                    };
                    self.socket = open_within(&url, patience).await?;
                    self.reconnects += 1;
                }
            }
        }
    }

    async fn message(&mut self) -> Result<Bytes, ConsumeError> {
        loop {
            match self.socket.next().await {
                None => return Err(ConsumeError::Ended("without a closing handshake".to_owned())),
                Some(Err(error)) => return Err(ConsumeError::Ended(error.to_string())),
                Some(Ok(message)) => {
                    if let Some((code, reason)) = message.as_close() {
                        return Err(ConsumeError::Ended(format!("{} {reason}", u16::from(code))));
                    }
                    if message.is_text() || message.is_binary() {
                        return Ok(message.into_payload().into());
                    }
                }
            }
        }
    }
}

/// The URL with the cursor set to `seq` and other parameters unchanged.
fn with_cursor(url: &str, seq: u64) -> String {
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    let others = query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("cursor="));
    let pairs: Vec<String> = others.map(str::to_owned).chain([format!("cursor={seq}")]).collect();
    format!("{path}?{}", pairs.join("&"))
}

async fn open(url: &str) -> Result<WebSocketStream<MaybeTlsStream<TcpStream>>, ConsumeError> {
    let wrong = |reason: String| ConsumeError::Url { url: url.to_owned(), reason };
    if !url.starts_with("ws://") {
        return Err(wrong("it does not begin with ws://".to_owned()));
    }
    let builder = ClientBuilder::new().uri(url).map_err(|error| wrong(error.to_string()))?;
    let builder = builder.limits(Limits::default().max_payload_len(Some(MESSAGE_BYTES_MAX)));
    let failed = |reason: String| ConsumeError::Connect { url: url.to_owned(), reason };
    match timeout(CONNECT_TIME_MAX, builder.connect()).await {
        Ok(Ok((socket, _))) => Ok(socket),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed(format!("no answer within {} s", CONNECT_TIME_MAX.as_secs()))),
    }
}

async fn open_within(
    url: &str,
    patience: Duration,
) -> Result<WebSocketStream<MaybeTlsStream<TcpStream>>, ConsumeError> {
    let deadline = tokio::time::Instant::now() + patience;
    loop {
        match open(url).await {
            Err(ConsumeError::Connect { .. }) if tokio::time::Instant::now() < deadline => {
                sleep(RECONNECT_PAUSE).await;
            }
            opened => return opened,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let event = r#"{"id":"x","content":"\"seq\":1"}"#;
        let envelope =
            format!(r#"{{"seq":7,"received_at":1700000000123,"relay":"wss://r","event":{event}}}"#);
        let delivery = Delivery::parse(&envelope.into()).expect("an envelope");
        assert_eq!((delivery.seq, delivery.relay.as_deref()), (Some(7), Some("wss://r")));
        assert_eq!(delivery.event, event);
        let bare = Delivery::parse(&event.into()).expect("an event");
        assert_eq!((bare.seq, bare.event), (None, event.into()));
        assert!(Delivery::parse(&"[1]".into()).is_err());
    }

    #[test]
    fn a_cursor_replaces_the_old_one() {
        assert_eq!(with_cursor("ws://h/ws", 7), "ws://h/ws?cursor=7");
        assert_eq!(with_cursor("ws://h/ws?cursor=1&kinds=1,7", 7), "ws://h/ws?kinds=1,7&cursor=7");
    }
}
