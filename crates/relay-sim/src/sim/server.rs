//! Accepts connections. They end with the server at the latest.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::handshake;
use crate::tls::TlsSocket;
use crate::world::World;

/// The backlog of listeners: thousands of clients may connect at the same time.
const BACKLOG: u32 = 4096;
/// The pause after a failed accept, for example without free file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How a new TCP connection is handled.
#[derive(Debug, Clone)]
pub(super) enum Reception {
    Plain,
    Tls(Arc<ServerConfig>),
    /// The connection is kept and never read.
    None,
}

/// Listens on a loopback port; 0 takes any free port.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Accepts clients until the task is aborted.
pub(super) async fn accept(listener: TcpListener, reception: Reception, world: Arc<World>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => _ = match &reception {
                    Reception::Plain => connections.spawn(handshake::serve(Arc::clone(&world), stream)),
                    Reception::Tls(config) => {
                        connections.spawn(secure(Arc::clone(&world), stream, Arc::clone(config)))
                    }
                    Reception::None => connections.spawn(ignore(Arc::clone(&world), stream)),
                },
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Serves a connection with TLS.
async fn secure(world: Arc<World>, stream: TcpStream, config: Arc<ServerConfig>) {
    if let Ok(socket) = TlsSocket::new(stream, config) {
        handshake::serve(world, socket).await;
    }
}

/// Keeps a connection until the client closes it, and never reads from it.
async fn ignore(world: Arc<World>, stream: TcpStream) {
    let _dialling = world.dialling.up();
    while let Ok(ready) = stream.ready(Interest::READABLE).await {
        if ready.is_read_closed() {
            break;
        }
        // Clears the readiness. Otherwise the next wait would return at once, because the data
        // stays unread.
        _ = stream.try_io(Interest::READABLE, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
    }
}
