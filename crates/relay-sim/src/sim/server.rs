//! Accepts connections; they live as long as it does.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::door::Door;
use crate::handshake;
use crate::world::World;

/// Thousands of clients may connect at the same moment.
const BACKLOG: u32 = 4096;
/// The pause after an accept that failed, as it does when no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Listens on a loopback port; 0 takes any.
pub(super) fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    socket.listen(BACKLOG)
}

/// Lets clients in until it is aborted.
pub(super) async fn accept(listener: TcpListener, door: Door, world: Arc<World>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => _ = match door {
                    Door::Open => connections.spawn(handshake::serve(Arc::clone(&world), stream)),
                    Door::Deaf => connections.spawn(ignore(Arc::clone(&world), stream)),
                },
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Keeps a connection, without reading from it, until the client gives up.
async fn ignore(world: Arc<World>, stream: TcpStream) {
    let _dialling = world.dialling.up();
    while let Ok(ready) = stream.ready(Interest::READABLE).await {
        if ready.is_read_closed() {
            break;
        }
        // What is there is not read, but looking for it again would find it at once.
        _ = stream.try_io(Interest::READABLE, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
    }
}
