//! The server's sockets: set up so that small messages go out at once and slow receivers are seen to be slow,
//! each with what handlers want to know of it. A
//! client that says nothing, or takes nothing, has its connection closed.

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

use super::connections::{ConnectionMetrics, ConnectionRefusal, Connections, Stalled};
use crate::limits::{
    ACCEPT_RETRY, CLIENT_SEND_BUFFER_BYTES, CONNECTIONS_WAITING_MAX, REQUEST_HEAD_BYTES_MAX,
    REQUEST_HEAD_MAX, RESPONSE_STALL_MAX,
};
use crate::serve::{Client, Taken};

/// Who is on the other side of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its address: of the proxy, if there is one between.
    pub address: IpAddr,
    /// What its socket has taken.
    pub taken: Taken,
}

/// Opens a port.
///
/// # Errors
/// When it is taken, or not ours to take.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // As the library does it: a restart need not wait for the connections of the process before.
    socket.set_reuseaddr(true)?;
    // Connections have it from the socket that they were accepted from.
    socket.set_send_buffer_size(CLIENT_SEND_BUFFER_BYTES)?;
    socket.bind(address)?;
    socket.listen(CONNECTIONS_WAITING_MAX)
}

/// Serves what comes to a port, until the future is dropped. No error of `accept` ends it: the
/// client may have gone, or descriptors or memory be used up, which passes.
pub async fn serve(listener: TcpListener, router: Router, connections: Connections) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if let Some((stream, place)) = connections.enter(stream).await {
                    tokio::spawn(connection(stream, place, router.clone(), Arc::clone(&connections.metrics)));
                }
            }
            Err(error) => {
                connections.refused(ConnectionRefusal::AcceptFailed, &error);
                sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// Serves a connection until it is closed or upgraded. Its place is free then.
async fn connection(stream: TcpStream, place: Client, router: Router, metrics: Arc<ConnectionMetrics>) {
    // Without this a small message waits for the acknowledgement of the one before.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a client's socket cannot send without delay");
    }
    let Ok(address) = stream.peer_addr() else { return };
    let (taken, is_blocked) = (Taken::default(), Arc::<AtomicBool>::default());
    let peer = Peer { address: address.ip(), taken: taken.clone() };
    let socket = Socket { stream, taken: taken.clone(), is_blocked: Arc::clone(&is_blocked) };
    let routes = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer.clone()));
        routes.call(request)
    });
    let mut http = http1::Builder::new();
    // The head's time begins when the connection waits for it, so an idle connection has no longer.
    http.timer(TokioTimer::new()).header_read_timeout(REQUEST_HEAD_MAX).max_buf_size(REQUEST_HEAD_BYTES_MAX);
    let mut served = pin!(http.serve_connection(TokioIo::new(socket), service).with_upgrades());
    loop {
        let before = taken.get();
        match timeout(RESPONSE_STALL_MAX, served.as_mut()).await {
            Ok(Err(error)) if error.is_timeout() => {
                metrics.timed_out[Stalled::Request].inc();
                break;
            }
            // The client went, or broke HTTP.
            Ok(_) => break,
            Err(_) if is_blocked.load(Ordering::Relaxed) && taken.get() == before => {
                metrics.timed_out[Stalled::Response].inc();
                break;
            }
            Err(_) => {}
        }
    }
    drop(place);
}

/// A connection that counts what it takes.
struct Socket {
    stream: TcpStream,
    taken: Taken,
    /// Whether something waits for it to take more.
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

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
