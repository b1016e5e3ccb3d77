//! Dials a relay: opens its WebSocket or fetches its NIP-11 document, over a connection from the
//! [dialer](crate::net::dial). The number of concurrent dials is limited.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::time::timeout;
use url::Url;

use super::instance::InstanceId;
use super::nip11::{InformationError, fetch};
use super::socket::Socket;
use super::upgrade::{UpgradeError, upgrade};
use crate::config::RelayUrl;
use crate::limits::{DIALS_AT_ONCE_MAX, INFORMATION_TIMEOUT, SKIPPED_FRAME_BYTES_MAX};
pub use crate::net::address::Reach;
use crate::net::dial::within;
use crate::net::resolver::{Lookups, Resolver};
use crate::net::tls::{TlsSetupError, client_config};
use crate::net::{self, ConnectError, Stream};
use crate::relay::information::Information;

/// The settings of the [`Dialer`].
#[derive(Debug)]
pub struct DialOptions {
    /// The maximum length of a frame. Longer frames are skipped.
    pub frame_bytes_max: usize,
    /// The User-Agent header: our name and how to reach the operator, in visible ASCII.
    pub user_agent: String,
    /// A PEM file of certificate authorities to trust in addition to the system's.
    pub extra_ca_file: Option<PathBuf>,
    pub resolver: Resolver,
    /// The id by which we recognise ourselves.
    pub instance: InstanceId,
    /// How many servers' TLS sessions are kept for resumption.
    pub tls_sessions_max: usize,
}

/// Why the dialer cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum DialSetupError {
    /// TLS cannot be set up, or the file of authorities cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsSetupError),
    /// The User-Agent has characters that are not visible ASCII.
    #[error("[relay] user_agent must contain only visible ASCII characters and spaces")]
    UserAgent,
}

/// Why a relay cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The URL cannot be dialled; validation should have prevented this.
    #[error("the URL has no host or port that can be dialled")]
    Url,
    /// The connection to the server failed.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The WebSocket upgrade failed.
    #[error("WebSocket upgrade: {0}")]
    Upgrade(UpgradeError),
    /// The URL leads to this process.
    #[error("the URL leads back to this gateway itself")]
    Ourselves,
}

impl DialError {
    /// Whether the failure lasts until someone changes the relay, its DNS, or our configuration.
    /// After such a failure, the relay is still dialled, but rarely.
    ///
    /// All statuses that refuse the upgrade are permanent, except those that mean "later" (408,
    /// 425, 429, 5xx).
    pub const fn is_permanent(&self) -> bool {
        match self {
            Self::Url | Self::Ourselves => true,
            Self::Connect(error) => error.is_permanent(),
            Self::Upgrade(UpgradeError::Status { code, .. }) => !matches!(*code, 408 | 425 | 429 | 500..),
            Self::Upgrade(_) => false,
        }
    }

    /// The server's Retry-After in seconds, at most a day.
    pub const fn retry_after_secs(&self) -> Option<u64> {
        match self {
            Self::Upgrade(UpgradeError::Status { retry_after_secs, .. }) => *retry_after_secs,
            _ => None,
        }
    }
}

impl From<UpgradeError> for DialError {
    fn from(error: UpgradeError) -> Self {
        match error {
            UpgradeError::Ourselves => Self::Ourselves,
            error => Self::Upgrade(error),
        }
    }
}

/// Dials relays, a limited number at a time, with one TLS configuration.
pub struct Dialer {
    net: net::Dialer,
    permits: Semaphore,
    frame_bytes_max: usize,
    user_agent: String,
    instance: InstanceId,
}

impl Dialer {
    /// Loads the certificate authorities, which takes some milliseconds.
    ///
    /// # Errors
    /// If the file of extra authorities or the user agent is unusable.
    pub fn new(options: DialOptions) -> Result<Self, DialSetupError> {
        if !options.user_agent.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return Err(DialSetupError::UserAgent);
        }
        let tls = client_config(options.extra_ca_file.as_deref(), options.tls_sessions_max)?;
        Ok(Self {
            net: net::Dialer::new(Arc::new(Lookups::new(options.resolver)), Arc::new(tls)),
            permits: Semaphore::new(DIALS_AT_ONCE_MAX),
            frame_bytes_max: options.frame_bytes_max,
            user_agent: options.user_agent,
            instance: options.instance,
        })
    }

    /// Waits for a permit, then opens a WebSocket.
    ///
    /// # Errors
    /// If a step fails.
    pub async fn dial(&self, relay: &RelayUrl, reach: Reach) -> Result<Socket, DialError> {
        let url = parse(relay)?;
        let addresses = self.addresses(&url, reach).await?;
        // The semaphore is never closed.
        let _permit = self.permits.acquire().await;
        let mut stream = self.connect(&url, addresses).await?;
        let upgrade = upgrade(&mut stream, &url, &self.user_agent, self.instance);
        let read_ahead = within("WebSocket upgrade", upgrade).await??;
        Ok(Socket::new(stream, self.frame_bytes_max, SKIPPED_FRAME_BYTES_MAX, read_ahead))
    }

    /// Waits for a permit, then fetches a relay's NIP-11 document over HTTP at the relay's own URL.
    ///
    /// # Errors
    /// If no usable document arrives.
    pub async fn information(&self, relay: &RelayUrl, reach: Reach) -> Result<Information, InformationError> {
        let url = parse(relay)?;
        let addresses = self.addresses(&url, reach).await?;
        let _permit = self.permits.acquire().await;
        let fetched = timeout(INFORMATION_TIMEOUT, async {
            let stream = self.connect(&url, addresses).await?;
            fetch(stream, &url, &self.user_agent, self.instance).await
        });
        fetched.await.map_err(|_| InformationError::Timeout)?
    }

    /// Checks that a relay has a public address. A later dial resolves the name and checks the
    /// address again.
    ///
    /// # Errors
    /// If the name does not resolve to a public address.
    pub async fn check(&self, relay: &RelayUrl) -> Result<(), DialError> {
        self.addresses(&parse(relay)?, Reach::PublicOnly).await.map(drop)
    }

    async fn addresses(&self, url: &Url, reach: Reach) -> Result<Vec<SocketAddr>, DialError> {
        let port = url.port_or_known_default().ok_or(DialError::Url)?;
        let host = url.host().ok_or(DialError::Url)?;
        Ok(self.net.addresses(host, port, reach).await?)
    }

    /// Connects by TCP, and by TLS for `wss` URLs.
    async fn connect(&self, url: &Url, addresses: Vec<SocketAddr>) -> Result<Stream, DialError> {
        let host = url.host().ok_or(DialError::Url)?;
        Ok(self.net.connect(host, addresses, url.scheme() == "wss").await?)
    }
}

impl std::fmt::Debug for Dialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialer").field("permits", &self.permits).finish_non_exhaustive()
    }
}

fn parse(relay: &RelayUrl) -> Result<Url, DialError> {
    relay.as_str().parse().map_err(|_| DialError::Url)
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::Poll;

    use tokio::net::TcpListener;

    use super::*;

    fn dialer(resolver: Resolver) -> Dialer {
        Dialer::new(DialOptions {
            frame_bytes_max: 1_000,
            user_agent: "test".to_owned(),
            extra_ca_file: None,
            resolver,
            instance: InstanceId::random(),
            tls_sessions_max: 0,
        })
        .expect("set up")
    }

    #[tokio::test]
    async fn documents_wait_for_a_permit_as_dials_do() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let relay: RelayUrl =
            format!("ws://{}", listener.local_addr().expect("bound")).parse().expect("a URL");
        let dialer = dialer(Resolver::system());
        let all = dialer.permits.acquire_many(DIALS_AT_ONCE_MAX as u32).await.expect("open");
        assert_eq!(dialer.permits.available_permits(), 0);
        let mut fetching = std::pin::pin!(dialer.information(&relay, Reach::Anywhere));
        let mut dialling = std::pin::pin!(dialer.dial(&relay, Reach::Anywhere));
        // Polls often enough for the runtime to poll its sockets.
        for _ in 0..200 {
            assert!(is_pending(fetching.as_mut()).await);
            assert!(is_pending(dialling.as_mut()).await);
            assert!(is_pending(std::pin::pin!(listener.accept())).await);
            tokio::task::yield_now().await;
        }
        drop(all);
        let accept_both = async {
            drop(listener.accept().await.expect("one of them"));
            drop(listener.accept().await.expect("the other"));
        };
        let ((), fetched, dialled) = tokio::join!(accept_both, fetching, dialling);
        assert!(fetched.is_err() && dialled.is_err(), "both were accepted and dropped");
    }

    async fn is_pending(mut future: Pin<&mut impl Future>) -> bool {
        std::future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_pending())).await
    }

    #[test]
    fn permanent_failures_are_told_from_temporary_ones() {
        let answer = |code| {
            DialError::Upgrade(UpgradeError::Status { code, reason: "".into(), retry_after_secs: Some(5) })
        };
        for code in [200, 301, 400, 401, 403, 404, 405, 410, 426, 451] {
            assert!(answer(code).is_permanent(), "{code}");
        }
        for code in [408, 425, 429, 500, 502, 503, 504, 521, 530] {
            assert!(!answer(code).is_permanent(), "{code}");
        }
        assert_eq!(answer(503).retry_after_secs(), Some(5));
        for lasting in [DialError::Ourselves, ConnectError::NoSuchName("a.example".into()).into()] {
            assert!(lasting.is_permanent(), "{lasting}");
            assert_eq!(lasting.retry_after_secs(), None);
        }
        for passing in
            [ConnectError::Timeout("DNS"), ConnectError::Tcp(std::io::ErrorKind::ConnectionRefused.into())]
        {
            let passing = DialError::from(passing);
            assert!(!passing.is_permanent(), "{passing}");
        }
    }
}
