//! Listens, accepts and serves HTTP connections. Sockets send small messages at once. Their buffers
//! are small, so that the server notices slow receivers. A client that sends or reads nothing is
//! disconnected.

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::{HeaderValue, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

use super::connections::{ConnectionRefusal, Connections, Stalled};
use super::proxies::is_client;
use super::proxy_protocol::{self, Connected};
use crate::limits::{
    ACCEPT_RETRY, CLIENT_SEND_BUFFER_BYTES, CONNECTIONS_WAITING_MAX, REQUEST_HEAD_BYTES_MAX,
    REQUEST_HEAD_MAX, RESPONSE_STALL_MAX,
};
use crate::serve::{Client, Taken};

#[derive(Debug, Clone)]
pub struct Peer {
    /// The address of the client, or of a proxy between the client and us that is not trusted.
    pub address: IpAddr,
    /// The bytes that the client's socket has accepted.
    pub taken: Taken,
    slot: Arc<Slot>,
}

/// The slot of a connection among those of its port.
#[derive(Debug)]
struct Slot {
    /// `None` once the connection counts as a client's instead.
    client: Mutex<Option<Client>>,
    /// Whether the present response is an event stream, which has its own rules for slow clients.
    is_stream: AtomicBool,
}

/// Marks the response of a connection as an event stream until this is dropped.
#[derive(Debug)]
pub(super) struct Streaming(Arc<Slot>);

impl Peer {
    /// Frees the slot of the connection, whose response is an event stream. The connection must end
    /// with the response, because it has no slot any more.
    pub(super) fn start_stream(&self) -> Streaming {
        drop(self.slot.client.lock().take());
        self.slot.is_stream.store(true, Ordering::Relaxed);
        Streaming(Arc::clone(&self.slot))
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        self.0.is_stream.store(false, Ordering::Relaxed);
    }
}

/// Opens a port.
///
/// # Errors
/// When the port is in use or not permitted.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // With this option, a restart does not wait for old connections to leave TIME_WAIT.
    socket.set_reuseaddr(true)?;
    // Accepted connections inherit the buffer size.
    socket.set_send_buffer_size(CLIENT_SEND_BUFFER_BYTES)?;
    socket.bind(address)?;
    socket.listen(CONNECTIONS_WAITING_MAX)
}

/// Serves a port until the future is dropped. Errors of `accept` do not end the loop, because they
/// are temporary: a client disconnected, or descriptors are used up.
pub async fn serve(listener: TcpListener, router: Router, connections: Connections) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let address = peer.ip().to_canonical();
                if let Some((stream, slot)) = connections.enter(stream, address).await {
                    connections.metrics.accepted.inc();
                    tokio::spawn(accepted(stream, slot, address, router.clone(), connections.clone()));
                }
            }
            Err(error) => {
                connections.refused(ConnectionRefusal::AcceptFailed, &error);
                sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// Where a connection comes from.
#[derive(Debug, Clone)]
struct Origin {
    address: IpAddr,
    /// Whether the peer that writes the headers has this address, so that it may be a trusted proxy
    /// for HTTP.
    writes_headers: bool,
    /// Shows in the headers of each request that a proxy passed on the connection, as a proxy for
    /// HTTP would: checks that depend on the headers of proxies then recognise this connection,
    /// too.
    forwarded: Option<HeaderValue>,
}

/// Reads the PROXY protocol header of a trusted proxy, and serves the connection. The proxy's slot
/// is kept until the client has one.
async fn accepted(
    mut stream: TcpStream,
    mut slot: Client,
    peer: IpAddr,
    router: Router,
    connections: Connections,
) {
    let mut origin = Origin { address: peer, writes_headers: true, forwarded: None };
    if connections.proxies.must_send_header(peer) {
        match proxy_protocol::read(&mut stream).await {
            Ok(Connected::Itself) => {}
            Ok(Connected::For(client)) => {
                origin.forwarded = Some(HeaderValue::from_static("for=unknown"));
                // Without a client address in the header, the proxy's own address counts, but the
                // client writes the HTTP headers.
                origin.writes_headers = false;
                if let Some(client) = client.filter(is_client) {
                    let Some(entered) = connections.enter(stream, client).await else { return };
                    (stream, slot) = entered;
                    (origin.address, origin.writes_headers) = (client, true);
                }
            }
            Err(why) => {
                let why = format_args!("{peer} is one of [api] trusted_proxies, but {why}");
                return connections.refused(ConnectionRefusal::BadProxyHeader, &why);
            }
        }
    }
    connection(stream, slot, origin, router, connections).await;
}

/// Serves a connection until it is closed or upgraded, and then frees its slot.
async fn connection(
    stream: TcpStream,
    slot: Client,
    origin: Origin,
    router: Router,
    Connections { proxies, metrics, .. }: Connections,
) {
    // Without this option, a small message would wait for the acknowledgement of the previous
    // message.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY for a client");
    }
    let (taken, is_blocked) = (Taken::default(), Arc::<AtomicBool>::default());
    let slot = Arc::new(Slot { client: Mutex::new(Some(slot)), is_stream: AtomicBool::new(false) });
    let peer = Peer { address: origin.address, taken: taken.clone(), slot: Arc::clone(&slot) };
    let socket = Socket { stream, taken: taken.clone(), is_blocked: Arc::clone(&is_blocked) };
    let routes = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        let mut peer = peer.clone();
        if origin.writes_headers {
            peer.address = proxies.client(origin.address, request.headers());
        }
        request.extensions_mut().insert(ConnectInfo(peer));
        if let Some(forwarded) = &origin.forwarded {
            request.headers_mut().append(header::FORWARDED, forwarded.clone());
        }
        routes.call(request)
    });
    let mut http = http1::Builder::new();
    // This timeout also limits idle connections, because it starts when the server begins to wait
    // for a request head.
    http.timer(TokioTimer::new()).header_read_timeout(REQUEST_HEAD_MAX).max_buf_size(REQUEST_HEAD_BYTES_MAX);
    let mut served = pin!(http.serve_connection(TokioIo::new(socket), service).with_upgrades());
    loop {
        let before = taken.get();
        match timeout(RESPONSE_STALL_MAX, served.as_mut()).await {
            Ok(Err(error)) if error.is_timeout() => {
                metrics.timed_out[Stalled::Request].inc();
                break;
            }
            // The client disconnected or violated HTTP.
            Ok(_) => break,
            Err(_)
                if is_blocked.load(Ordering::Relaxed)
                    && !slot.is_stream.load(Ordering::Relaxed)
                    && taken.get() == before =>
            {
                metrics.timed_out[Stalled::Response].inc();
                break;
            }
            Err(_) => {}
        }
    }
    drop(slot.client.lock().take());
}

/// A client's socket that counts the bytes it accepts.
struct Socket {
    stream: TcpStream,
    taken: Taken,
    /// Whether a write is waiting.
    is_blocked: Arc<AtomicBool>,
}

impl Socket {
    fn count(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.is_blocked.store(written.is_pending(), Ordering::Relaxed);
        if let Poll::Ready(Ok(bytes)) = written {
            self.taken.add(bytes);
        }
        written
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.count(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.count(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Called when everything was written.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            self.taken.flushed();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
