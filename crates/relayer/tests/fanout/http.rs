//! Raw HTTP/1.1 requests, because tests also send malformed requests.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::program::PATIENCE;

#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    /// The path, including the query.
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Request {
    pub fn new(method: &str, path: &str) -> Self {
        Self { method: method.to_owned(), path: path.to_owned(), headers: Vec::new(), body: Vec::new() }
    }

    /// Adds a JSON body with its content type.
    pub fn json(self, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..self }.header("Content-Type", "application/json")
    }

    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// A request for a WebSocket upgrade.
    pub fn upgrade(path: &str) -> Self {
        let version = Self::new("GET", path).header("Sec-WebSocket-Version", "13");
        version.header("Upgrade", "websocket").header("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")
    }

    fn bytes(&self) -> Vec<u8> {
        let Self { method, path, headers, body } = self;
        let connection = if headers.iter().any(|(name, _)| name == "Upgrade") { "Upgrade" } else { "close" };
        let mut bytes = format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: {connection}\r\n");
        for (name, value) in headers {
            bytes += &format!("{name}: {value}\r\n");
        }
        bytes += &format!("Content-Length: {}\r\n\r\n", body.len());
        [bytes.as_bytes(), body].concat()
    }

    /// Sends the request and waits for the response.
    pub async fn send(&self, to: SocketAddr) -> Response {
        timeout(PATIENCE, self.sent(to)).await.expect("an answer in time")
    }

    async fn sent(&self, to: SocketAddr) -> Response {
        let mut socket = TcpStream::connect(to).await.expect("it listens");
        // If a body is too long, the gateway does not read the rest.
        let _ = socket.write_all(&self.bytes()).await;
        let mut bytes = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            let text = String::from_utf8_lossy(&bytes);
            if let Some(answer) = Response::parse(&text) {
                return answer;
            }
            let read = socket.read(&mut chunk).await.unwrap_or(0);
            assert!(read > 0, "no answer to {} {}: {text}", self.method, self.path);
            bytes.extend_from_slice(&chunk[..read]);
        }
    }
}

impl Response {
    /// `None` while the response is incomplete.
    fn parse(text: &str) -> Option<Self> {
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        let answer = Self { status, head: head.to_owned(), body: body.to_owned() };
        let length = answer.header("content-length").map_or(0, |length| length.parse().expect("a number"));
        (body.len() >= length).then_some(answer)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// The status, and the `error` code.
    pub fn code(&self) -> (u16, String) {
        let code = self.json()["error"].as_str().unwrap_or_default().to_owned();
        (self.status, code)
    }

    /// Asserts the status, the code and a part of the message.
    #[track_caller]
    pub fn assert(&self, status: u16, code: &str, message: &str) {
        assert_eq!(self.code(), (status, code.to_owned()), "{self:?}");
        let text = self.json()["message"].as_str().expect("a message").to_owned();
        assert!(text.contains(message), "{message:?} is not in {text:?}");
    }
}

/// Waits for a condition, and returns the time that it took.
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) -> Duration {
    let began = std::time::Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < PATIENCE, "waited too long until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    began.elapsed()
}
