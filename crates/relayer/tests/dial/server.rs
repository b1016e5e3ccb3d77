//! A server that gives each request the response that the test wants.

use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use parking_lot::Mutex;
use rustls::{HandshakeKind, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

/// Maps the head of a request to the response. A response that ends with [`HOLD`] leaves the
/// connection open.
type Answer = Arc<dyn Fn(&str) -> Vec<u8> + Send + Sync>;

/// A marker at the end of a response. The server does not send it, and leaves the connection open.
pub const HOLD: &[u8] = b"(hold)";

pub struct Server {
    pub address: SocketAddr,
    seen: Arc<Seen>,
    task: JoinHandle<()>,
}

/// What the server received.
#[derive(Default)]
struct Seen {
    connections: Mutex<usize>,
    heads: Mutex<Vec<String>>,
    handshakes: Mutex<Vec<HandshakeKind>>,
}

impl Server {
    pub async fn start(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::listen("127.0.0.1:0", None, answer).await.expect("a port")
    }

    pub async fn start_tls(
        config: ServerConfig,
        answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        Self::listen("127.0.0.1:0", Some(config), answer).await.expect("a port")
    }

    pub async fn listen(
        address: &str,
        tls: Option<ServerConfig>,
        answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let seen = Arc::new(Seen::default());
        let tls = tls.map(|config| TlsAcceptor::from(Arc::new(config)));
        let task = tokio::spawn(serve(listener, tls, Arc::new(answer), Arc::clone(&seen)));
        Ok(Self { address, seen, task })
    }

    /// The server's port, for URLs with a host name.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The number of accepted connections.
    pub fn connections(&self) -> usize {
        *self.seen.connections.lock()
    }

    /// The heads of the requests, in order.
    pub fn heads(&self) -> Vec<String> {
        self.seen.heads.lock().clone()
    }

    /// The results of the TLS handshakes, in order.
    pub fn handshakes(&self) -> Vec<HandshakeKind> {
        self.seen.handshakes.lock().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, answer: Answer, seen: Arc<Seen>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        *seen.connections.lock() += 1;
        let (tls, answer, seen) = (tls.clone(), Arc::clone(&answer), Arc::clone(&seen));
        connections.spawn(connection(stream, tls, answer, seen));
    }
}

/// Serves one connection. Errors are ignored here, because the test sees them on its own side.
async fn connection(stream: TcpStream, tls: Option<TlsAcceptor>, answer: Answer, seen: Arc<Seen>) {
    let Some(tls) = tls else {
        return converse(stream, answer, &seen).await;
    };
    if let Ok(stream) = tls.accept(stream).await {
        seen.handshakes.lock().extend(stream.get_ref().1.handshake_kind());
        converse(stream, answer, &seen).await;
    }
}

async fn converse(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: Answer, seen: &Seen) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if !matches!(stream.read_buf(&mut head).await, Ok(1..)) {
            return;
        }
    }
    let head = String::from_utf8(head).expect("a request is ASCII");
    seen.heads.lock().push(head.clone());
    let answer = answer(&head);
    let said = answer.strip_suffix(HOLD).unwrap_or(&answer);
    if stream.write_all(said).await.is_ok() && stream.flush().await.is_ok() && said.len() < answer.len() {
        // Waits until the client closes the connection.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    let _ = stream.shutdown().await;
}

/// The value of a header in a request's head.
pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .filter_map(|line| line.split_once(": "))
        .find(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

/// The response that opens a WebSocket.
pub fn switching_protocols(head: &str) -> Vec<u8> {
    let key = header(head, "Sec-WebSocket-Key").expect("a key");
    let digest = ring::digest::digest(
        &ring::digest::SHA1_FOR_LEGACY_USE_ONLY,
        format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11").as_bytes(),
    );
    let accept = BASE64.encode(digest);
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )
    .into_bytes()
}

/// A response that opens a WebSocket and leaves it open.
pub fn upgrades(head: &str) -> Vec<u8> {
    [&switching_protocols(head), HOLD].concat()
}
