//! A client of `/api/events/stream`, written from the documentation, with a raw socket.

use std::net::SocketAddr;

use relay_sim::wait::within;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::gateway::Gateway;

/// One event of a stream, as its fields say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamEvent {
    pub name: Option<String>,
    pub id: Option<u64>,
    pub retry: Option<u64>,
    pub data: String,
}

impl StreamEvent {
    fn parse(block: &str) -> Self {
        let mut event = Self::default();
        for line in block.lines().filter(|line| !line.starts_with(':')) {
            let (field, value) = line.split_once(": ").expect("a field");
            match field {
                "event" => event.name = Some(value.to_owned()),
                "id" => event.id = Some(value.parse().expect("a number")),
                "retry" => event.retry = Some(value.parse().expect("a number")),
                "data" => {
                    assert!(event.data.is_empty(), "the data has one line");
                    value.clone_into(&mut event.data);
                }
                _ => panic!("an unknown field: {line}"),
            }
        }
        event
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("{error}: {}", self.data))
    }
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The response is complete.
    Complete,
    /// The connection broke within the response.
    Broken,
}

pub struct EventClient {
    socket: TcpStream,
    pub head: String,
    /// Received and not decoded.
    raw: Vec<u8>,
    /// Decoded and not returned.
    text: String,
    end: Option<End>,
    /// Whether the response has chunks.
    is_chunked: bool,
}

/// The request of a client, with these further headers.
pub fn request(path: &str, headers: &[&str]) -> String {
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    format!("GET {path} HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n{headers}\r\n")
}

impl EventClient {
    /// Connects, and reads the head and the first block, which must have the cursor as its id.
    pub async fn connect(gateway: &Gateway, query: &str, cursor: u64) -> Self {
        let mut client = Self::open(gateway.address, query, &[]).await;
        client.expect_start(cursor).await;
        client
    }

    /// Connects as a browser does that has received this id.
    pub async fn reconnect(gateway: &Gateway, query: &str, last_id: u64) -> Self {
        let mut client = Self::open(gateway.address, query, &[&format!("last-event-id: {last_id}")]).await;
        client.expect_start(last_id).await;
        client
    }

    pub async fn open(address: SocketAddr, query: &str, headers: &[&str]) -> Self {
        Self::open_path(address, &format!("/api/events/stream{query}"), headers).await
    }

    pub async fn open_path(address: SocketAddr, path: &str, headers: &[&str]) -> Self {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(request(path, headers).as_bytes()).await.unwrap();
        let mut raw = Vec::new();
        let end = loop {
            if let Some(at) = raw.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            assert_ne!(within("a head", socket.read_buf(&mut raw)).await.unwrap(), 0, "the connection ended");
        };
        let rest = raw.split_off(end);
        let head = String::from_utf8(raw).unwrap().to_lowercase();
        assert!(head.starts_with("http/1.1 200 "), "{head}");
        let is_chunked = head.contains("transfer-encoding: chunked");
        let mut client = Self { socket, head, raw: rest, text: String::new(), end: None, is_chunked };
        client.decode();
        client
    }

    async fn expect_start(&mut self, cursor: u64) {
        let start = StreamEvent { id: Some(cursor), retry: Some(1_000), ..StreamEvent::default() };
        assert_eq!(self.block().await, Ok(start));
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let headers = self.head.lines().filter_map(|line| line.split_once(": "));
        headers.clone().find(|(found, _)| *found == name).map(|(_, value)| value)
    }

    /// The next event, or how the stream ended. Skips comments.
    pub async fn block(&mut self) -> Result<StreamEvent, End> {
        loop {
            let block = self.raw_block().await?;
            if !block.starts_with(':') {
                return Ok(StreamEvent::parse(&block));
            }
        }
    }

    /// The text of the next event or comment, without the empty line after it.
    pub async fn raw_block(&mut self) -> Result<String, End> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                return Ok(block);
            }
            if let Some(end) = self.end {
                assert_eq!(self.text, "", "a part of an event");
                return Err(end);
            }
            match within("more of a stream", self.socket.read_buf(&mut self.raw)).await {
                Ok(1..) => self.decode(),
                Ok(0) if !self.is_chunked => self.end = Some(End::Complete),
                _ => {
                    self.text.clear();
                    self.end = Some(End::Broken);
                }
            }
        }
    }

    /// Decodes complete chunks.
    fn decode(&mut self) {
        if !self.is_chunked {
            self.text += std::str::from_utf8(&std::mem::take(&mut self.raw)).expect("ASCII");
            return;
        }
        while let Some(line) = self.raw.windows(2).position(|window| window == b"\r\n") {
            let size = std::str::from_utf8(&self.raw[..line]).expect("a size");
            let size = usize::from_str_radix(size, 16).expect("a size");
            let (begin, end) = (line + 2, line + 2 + size);
            if self.raw.len() < end + 2 {
                return;
            }
            // The gateway may cut a chunk anywhere, but the tests use ASCII only.
            self.text += std::str::from_utf8(&self.raw[begin..end]).expect("ASCII");
            self.raw.drain(..end + 2);
            if size == 0 {
                self.end = Some(End::Complete);
            }
        }
    }

    /// The next event of the log, whose id must equal its sequence.
    pub async fn next(&mut self) -> Result<u64, End> {
        let event = self.block().await?;
        assert_eq!((event.name.as_deref(), event.retry), (None, None), "{event:?}");
        assert_eq!(event.json()["seq"].as_u64(), event.id);
        Ok(event.id.expect("an id"))
    }

    pub async fn expect(&mut self, seqs: impl IntoIterator<Item = u64>) {
        for seq in seqs {
            assert_eq!(self.next().await, Ok(seq));
        }
    }

    /// Reads events until the stream is closed: the sequences, the closing event, and the end.
    pub async fn until_closed(&mut self) -> (Vec<u64>, Option<StreamEvent>, End) {
        let (mut seqs, mut close) = (Vec::new(), None);
        loop {
            match self.block().await {
                Ok(event) if event.name.as_deref() == Some("close") => close = Some(event),
                Ok(event) => {
                    assert_eq!((event.name.as_deref(), close.as_ref()), (None, None), "{event:?}");
                    seqs.push(event.id.expect("an id"));
                }
                Err(end) => return (seqs, close, end),
            }
        }
    }
}
