//! An HTTP receiver that gives each request the response that the test wants, even an invalid one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use moltrade_relayer::config::{Config, Output};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};

use crate::gateway::within;

/// The response to a request.
#[derive(Debug, Clone)]
pub enum Reply {
    /// A status, header lines and a body.
    Status(u16, &'static str, String),
    /// No response; the connection stays open.
    Hang,
    /// No response; the connection is closed.
    Close,
    /// Only the beginning of a response head.
    HalfHead,
    /// A response head that announces a longer body than follows.
    HalfBody(u16),
    /// A response whose body does not end.
    Endless(u16),
}

impl Reply {
    pub fn status(status: u16) -> Self {
        Self::Status(status, "", String::new())
    }

    pub fn with(status: u16, head: &'static str) -> Self {
        Self::Status(status, head, String::new())
    }
}

/// A request that waits for its response.
#[derive(Debug)]
pub struct Posted {
    pub head: String,
    pub body: Vec<u8>,
    answer: oneshot::Sender<Reply>,
}

impl Posted {
    pub fn answer(self, reply: Reply) {
        // The client may have disconnected.
        let _ = self.answer.send(reply);
    }

    pub fn take(self) {
        self.answer(Reply::status(204));
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The `created_at` of a bare event: its sequence in these tests.
    pub fn date(&self) -> u64 {
        self.json()["created_at"].as_u64().unwrap()
    }

    /// The sequences of a batch.
    pub fn seqs(&self) -> Vec<u64> {
        let envelopes = self.json();
        envelopes.as_array().unwrap().iter().map(|envelope| envelope["seq"].as_u64().unwrap()).collect()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let headers = self.head.lines().filter_map(|line| line.split_once(": "));
        headers.clone().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

pub struct Hook {
    pub address: SocketAddr,
    posts: mpsc::UnboundedReceiver<Posted>,
    connections: Arc<AtomicUsize>,
}

impl Hook {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (arrived, posts) = mpsc::unbounded_channel();
        let connections = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(stream, arrived.clone()));
            }
        });
        Self { address, posts, connections }
    }

    /// Waits for the next request.
    pub async fn next(&mut self) -> Posted {
        within("a post", self.posts.recv()).await.expect("it serves")
    }

    /// Asserts that nothing arrives for a while.
    pub async fn nothing(&mut self) {
        let early = tokio::time::timeout(std::time::Duration::from_millis(100), self.posts.recv()).await;
        assert!(early.is_err(), "{early:?}");
    }

    /// Accepts `count` bare events, and returns their dates.
    pub async fn dates(&mut self, count: usize) -> Vec<u64> {
        let mut dates = Vec::new();
        while dates.len() < count {
            let post = self.next().await;
            dates.push(post.date());
            post.take();
        }
        dates
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// A configuration with one sink that posts to this receiver.
    pub fn output(&self, options: &str) -> Output {
        output(&format!("name = 'a'\naddress = 'http://{}/hook?key=hunter2'\n{options}", self.address))
    }
}

/// A configuration with one HTTP sink.
pub fn output(sink: &str) -> Output {
    let text = format!("[[output.rest]]\n{sink}");
    let loaded = Config::parse(Some((std::path::Path::new("config.toml"), &text)), []);
    loaded.unwrap_or_else(|errors| panic!("{errors}")).config.output
}

/// Serves one connection until it ends.
async fn serve(mut stream: TcpStream, arrived: mpsc::UnboundedSender<Posted>) -> Option<()> {
    let mut bytes = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
        };
        let rest = bytes.split_off(end);
        let head = String::from_utf8(std::mem::replace(&mut bytes, rest)).unwrap();
        let (answer, told) = oneshot::channel();
        let mut post = Posted { head, body: Vec::new(), answer };
        let length: usize = post.header("content-length").unwrap().parse().unwrap();
        while bytes.len() < length {
            if stream.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
        }
        let rest = bytes.split_off(length);
        post.body = std::mem::replace(&mut bytes, rest);
        arrived.send(post).ok()?;
        match told.await.ok()? {
            Reply::Status(status, head, body) => {
                let length =
                    if status == 204 { String::new() } else { format!("content-length: {}\r\n", body.len()) };
                let answer = format!("HTTP/1.1 {status} X\r\n{head}{length}\r\n{body}");
                stream.write_all(answer.as_bytes()).await.ok()?;
            }
            Reply::Hang => std::future::pending().await,
            Reply::Close => return None,
            Reply::HalfHead => return stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-le").await.ok(),
            Reply::HalfBody(status) => {
                let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 100\r\n\r\nhalf");
                return stream.write_all(answer.as_bytes()).await.ok();
            }
            Reply::Endless(status) => {
                let head = format!("HTTP/1.1 {status} X\r\ntransfer-encoding: chunked\r\n\r\n");
                stream.write_all(head.as_bytes()).await.ok()?;
                loop {
                    stream.write_all(b"400\r\n").await.ok()?;
                    stream.write_all(&[b'x'; 0x400]).await.ok()?;
                    stream.write_all(b"\r\n").await.ok()?;
                }
            }
        }
    }
}
