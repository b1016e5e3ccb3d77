//! From a URL to an open WebSocket: DNS, TCP, TLS, upgrade, each with a time-out and an error of its own.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use super::socket::{Socket, Stream};
use super::upgrade::{UpgradeError, upgrade};

use crate::config::RelayUrl;
use crate::limits::{DIAL_STEP_TIMEOUT, DIALS_AT_ONCE_MAX, LOOKUPS_AT_ONCE_MAX};

/// What we call ourselves.
const USER_AGENT: &str = concat!("moltrade-relayer/", env!("CARGO_PKG_VERSION"));

/// Why a relay cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The URL cannot be dialled, which its check should have prevented.
    #[error("the URL has no host or port")]
    Url,
    /// The name does not resolve.
    #[error("DNS: {0}")]
    Dns(io::Error),
    /// No address accepts the connection.
    #[error("TCP: {0}")]
    Tcp(io::Error),
    /// The TLS handshake fails.
    #[error("TLS: {0}")]
    Tls(io::Error),
    /// The server does not upgrade to WebSocket.
    #[error("WebSocket upgrade: {0}")]
    Upgrade(UpgradeError),
    /// One of these steps takes too long.
    #[error("{0}: no answer within {secs} s", secs = DIAL_STEP_TIMEOUT.as_secs())]
    Timeout(&'static str),
}

/// Dials relays, a bounded number at a time, with one TLS configuration for all.
pub struct Dialer {
    tls: TlsConnector,
    frame_bytes_max: usize,
    turns: Semaphore,
    lookups: Arc<Semaphore>,
}

impl Dialer {
    /// A dialer that trusts the system's certificate authorities. Connections refuse frames of more than
    /// `frame_bytes_max` bytes.
    ///
    /// # Errors
    /// When TLS cannot be set up. A system without authorities is no error, but a warning: `ws://` works.
    pub fn new(frame_bytes_max: usize) -> Result<Self, rustls::Error> {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        let (added, _) = roots.add_parsable_certificates(found.certs);
        if added == 0 {
            tracing::warn!(
                "no certificate authorities found, so wss:// relays cannot be trusted; install ca-certificates"
            );
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            tls: TlsConnector::from(Arc::new(config)),
            frame_bytes_max,
            turns: Semaphore::new(DIALS_AT_ONCE_MAX),
            lookups: Arc::new(Semaphore::new(LOOKUPS_AT_ONCE_MAX)),
        })
    }

    /// Connects. Waits for its turn first.
    ///
    /// # Errors
    /// The step that failed.
    pub async fn dial(&self, relay: &RelayUrl) -> Result<Socket, DialError> {
        let url: Url = relay.as_str().parse().map_err(|_| DialError::Url)?;
        // The semaphore is never closed.
        let _turn = self.turns.acquire().await;
        let stream = connect_any(&self.resolve(&url).await?).await?;
        let mut stream = match url.scheme() {
            "wss" => self.secure(&url, stream).await?,
            _ => Stream::Plain(stream),
        };
        let upgraded = within("WebSocket upgrade", upgrade(&mut stream, &url, USER_AGENT)).await?;
        Ok(Socket::new(stream, self.frame_bytes_max, upgraded.map_err(DialError::Upgrade)?))
    }

    async fn resolve(&self, url: &Url) -> Result<Vec<SocketAddr>, DialError> {
        let port = url.port_or_known_default().ok_or(DialError::Url)?;
        let name = match url.host().ok_or(DialError::Url)? {
            Host::Ipv4(address) => return Ok(vec![(address, port).into()]),
            Host::Ipv6(address) => return Ok(vec![(address, port).into()]),
            Host::Domain(name) => name.to_owned(),
        };
        let lookups = Arc::clone(&self.lookups);
        let found = within("DNS", async move {
            // A look-up cannot be cancelled: its permit stays with it, however long it takes.
            let permit = lookups.acquire_owned().await;
            let lookup = tokio::task::spawn_blocking(move || {
                let found = (name, port).to_socket_addrs().map(Vec::from_iter);
                drop(permit);
                found
            });
            lookup.await.map_err(io::Error::other)?
        });
        found.await?.map_err(DialError::Dns)
    }

    async fn secure(&self, url: &Url, stream: TcpStream) -> Result<Stream, DialError> {
        let host = url.host_str().ok_or(DialError::Url)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host).map_err(|_| DialError::Url)?;
        let stream = within("TLS", self.tls.connect(name, stream)).await?.map_err(DialError::Tls)?;
        Ok(Stream::Tls(Box::new(stream)))
    }
}

impl std::fmt::Debug for Dialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialer").field("turns", &self.turns).finish_non_exhaustive()
    }
}

/// Tries the addresses in the order in which they were given.
async fn connect_any(addresses: &[SocketAddr]) -> Result<TcpStream, DialError> {
    let mut last = DialError::Dns(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    for address in addresses {
        match within("TCP", TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Only a latency improvement: a REQ is sent at once.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => last = DialError::Tcp(error),
            Err(timeout) => last = timeout,
        }
    }
    Err(last)
}

async fn within<T>(step: &'static str, future: impl Future<Output = T>) -> Result<T, DialError> {
    let limit: Duration = DIAL_STEP_TIMEOUT;
    tokio::time::timeout(limit, future).await.map_err(|_| DialError::Timeout(step))
}
