//! A receiver with a separate port, written from the documentation.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use moltrade_relayer::config::Framing;
use rustls::ServerConfig;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, ReadHalf, WriteHalf};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::gateway::within;

/// A connection, plain or through TLS.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

pub struct Receiver {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    pub address: SocketAddr,
}

impl Receiver {
    pub async fn start() -> Self {
        Self::on("127.0.0.1:0".parse().unwrap())
    }

    /// A receiver that reuses the port of an earlier one.
    pub fn on(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(address).unwrap();
        let listener = socket.listen(16).unwrap();
        let address = listener.local_addr().unwrap();
        Self { listener, tls: None, address }
    }

    /// Uses TLS from now on.
    pub fn secure(mut self, config: ServerConfig) -> Self {
        self.tls = Some(TlsAcceptor::from(Arc::new(config)));
        self
    }

    pub async fn accept(&self, framing: Framing) -> Connection {
        self.try_accept(framing).await.unwrap()
    }

    /// Accepts a connection, whose TLS handshake may fail.
    pub async fn try_accept(&self, framing: Framing) -> io::Result<Connection> {
        let stream = self.accept_tcp().await;
        let stream: Box<dyn Stream> = match &self.tls {
            Some(tls) => Box::new(within("a handshake", tls.accept(stream)).await?),
            None => Box::new(stream),
        };
        Ok(Connection::new(stream, framing))
    }

    /// Accepts a TCP connection without reading from it.
    pub async fn accept_tcp(&self) -> TcpStream {
        within("a connection", self.listener.accept()).await.unwrap().0
    }
}

pub struct Connection {
    framing: Framing,
    input: BufReader<ReadHalf<Box<dyn Stream>>>,
    output: WriteHalf<Box<dyn Stream>>,
}

impl Connection {
    pub fn new(stream: Box<dyn Stream>, framing: Framing) -> Self {
        let (input, output) = tokio::io::split(stream);
        Self { framing, input: BufReader::new(input), output }
    }

    /// The next event; `None` when the connection ends.
    pub async fn next(&mut self) -> Option<Value> {
        let mut bytes = Vec::new();
        match self.framing {
            Framing::Length => {
                let length = self.input.read_u32().await.ok()?;
                bytes.resize(length as usize, 0);
                self.input.read_exact(&mut bytes).await.ok()?;
            }
            Framing::Ndjson => {
                self.input.read_until(b'\n', &mut bytes).await.ok()?;
                assert!(bytes.is_empty() || bytes.ends_with(b"\n"), "a line that was cut");
            }
        }
        (!bytes.is_empty()).then(|| serde_json::from_slice(&bytes).unwrap())
    }

    /// The sequence of the next envelope.
    pub async fn next_seq(&mut self) -> Option<u64> {
        Some(self.next().await?["seq"].as_u64().unwrap())
    }

    pub async fn seqs(&mut self, count: usize) -> Vec<u64> {
        let mut seqs = Vec::new();
        while seqs.len() < count {
            seqs.push(within("an envelope", self.next_seq()).await.expect("it is still open"));
        }
        seqs
    }

    /// The `created_at` of the next `count` bare events.
    pub async fn dates(&mut self, count: usize) -> Vec<u64> {
        let mut dates = Vec::new();
        while dates.len() < count {
            let event = within("an event", self.next()).await.expect("it is still open");
            dates.push(event["created_at"].as_u64().unwrap());
        }
        dates
    }

    pub async fn ack(&mut self, seq: u64) {
        match self.framing {
            Framing::Length => self.say(&seq.to_be_bytes()).await,
            Framing::Ndjson => self.say(format!("{{\"ack\":{seq}}}\n").as_bytes()).await,
        }
    }

    /// Sends bytes. The gateway may have closed the connection already.
    pub async fn say(&mut self, bytes: &[u8]) {
        let _ = self.output.write_all(bytes).await;
        let _ = self.output.flush().await;
    }

    /// Reads and discards data until the gateway closes the connection.
    pub async fn until_closed(&mut self) {
        within("the end", async { while self.next().await.is_some() {} }).await;
    }
}
