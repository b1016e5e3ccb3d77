//! Child process: connects sockets to simulated relays, subscribes, and reads and discards the
//! events.

use std::cell::RefCell;
use std::future::poll_fn;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Instant;

use moltrade_relayer::net::tls::client_config;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use wire::websocket::ClientFrame;

use crate::Fallible;
use crate::crowd::upgrade_request;
use crate::pooled::{Place, tell};

/// The maximum number of concurrent handshakes.
const DIALS: usize = 256;

thread_local! {
    /// The buffer that all sockets of a thread read into, so that no socket needs its own.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; 64 << 10]);
}

type Sent<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Connects to all relays, subscribes and reads.
pub async fn play(place: &str) -> Fallible<()> {
    let place = Place::of(place)?;
    let address = place.url.split("//").nth(1).ok_or("no address")?.to_owned();
    let tls = match &place.ca_file {
        Some(file) => Some(TlsConnector::from(Arc::new(client_config(Some(Path::new(file)), place.relays)?))),
        None => None,
    };
    let begin = Instant::now();
    let mut dials: JoinSet<Sent<()>> = JoinSet::new();
    for relay in 0..place.relays {
        if dials.len() == DIALS {
            dials.join_next().await.ok_or("none")??.map_err(said)?;
        }
        dials.spawn(dial(address.clone(), tls.clone(), relay));
    }
    while let Some(dialled) = dials.join_next().await {
        dialled?.map_err(said)?;
    }
    tell(begin.elapsed(), |_| true).await
}

fn said(error: Box<dyn std::error::Error + Send + Sync>) -> String {
    error.to_string()
}

async fn dial(address: String, tls: Option<TlsConnector>, relay: usize) -> Sent<()> {
    let stream = TcpStream::connect(&address).await?;
    stream.set_nodelay(true)?;
    match tls {
        None => subscribe(stream, &address, relay).await,
        Some(tls) => {
            let name: ServerName<'static> = stream.peer_addr()?.ip().into();
            subscribe(Box::new(tls.connect(name, stream).await?), &address, relay).await
        }
    }
}

async fn subscribe<S>(mut socket: S, address: &str, relay: usize) -> Sent<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    socket.write_all(upgrade_request(address, &format!("/r/{relay}")).as_bytes()).await?;
    socket.flush().await?;
    let mut last = [0; 4];
    while &last != b"\r\n\r\n" {
        last.rotate_left(1);
        socket.read_exact(&mut last[3..]).await?;
    }
    socket.write_all(&ClientFrame::Text(r#"["REQ","r",{"limit":0}]"#).encode([1, 2, 3, 4])).await?;
    socket.flush().await?;
    tokio::spawn(async move { while read(&mut socket).await.is_ok_and(|bytes| bytes > 0) {} });
    Ok(())
}

/// Reads once, and returns the number of bytes read.
async fn read(socket: &mut (impl AsyncRead + Unpin)) -> std::io::Result<usize> {
    poll_fn(|context| {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            ready!(Pin::new(&mut *socket).poll_read(context, &mut buffer))?;
            Poll::Ready(Ok(buffer.filled().len()))
        })
    })
    .await
}
