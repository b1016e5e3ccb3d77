//! From a relay's URL to an open WebSocket, or to its NIP-11 document, over a connection that the
//! [dialer](crate::net::dial) opens. The number of dials at once is limited.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::time::timeout;
use url::Url;

use super::fetch::{InformationError, fetch};
use super::instance::InstanceId;
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

/// How relays are dialled.
#[derive(Debug)]
pub struct DialOptions {
    /// Connections skip frames of more bytes than this.
    pub frame_bytes_max: usize,
    /// What we call ourselves, and how its operator is reached: visible ASCII.
    pub user_agent: String,
    /// A PEM file of certificate authorities that are trusted beside those of the system.
    pub extra_ca_file: Option<PathBuf>,
    /// Who tells the addresses of a name.
    pub resolver: Resolver,
    /// Who we are.
    pub instance: InstanceId,
    /// Servers whose TLS sessions are kept for resumption. 0: none.
    pub tls_sessions_max: usize,
}

/// Why relays cannot be dialled at all.
#[derive(Debug, thiserror::Error)]
pub enum DialSetupError {
    /// TLS, or the file of authorities.
    #[error(transparent)]
    Tls(#[from] TlsSetupError),
    /// It would break the requests.
    #[error("[relay] user_agent holds something else than visible ASCII characters and spaces; take it out")]
    UserAgent,
}

/// Why a relay cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The URL cannot be dialled, which its check should have prevented.
    #[error("the URL has no host or port that can be dialled")]
    Url,
    /// There is no connection to its server.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The server does not upgrade to WebSocket.
    #[error("WebSocket upgrade: {0}")]
    Upgrade(UpgradeError),
    /// The URL leads to this very process.
    #[error("the URL leads back to this gateway itself")]
    Ourselves,
}

impl DialError {
    /// Whether it will be so again until somebody changes something: the relay's operator, its DNS, or
    /// ours. It may still pass, so such a relay is dialled seldom, and not never.
    ///
    /// Of the answers to the upgrade, this is said of all but those that mean "later": 408, 425, 429, 5xx.
    pub const fn is_permanent(&self) -> bool {
        match self {
            Self::Url | Self::Ourselves => true,
            Self::Connect(error) => error.is_permanent(),
            Self::Upgrade(UpgradeError::Status { code, .. }) => !matches!(*code, 408 | 425 | 429 | 500..),
            Self::Upgrade(_) => false,
        }
    }

    /// How long the server wants to be left alone, in seconds, if it says so; at most a day.
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

/// Dials relays, a bounded number at a time, with one TLS configuration for all.
pub struct Dialer {
    net: net::Dialer,
    turns: Semaphore,
    frame_bytes_max: usize,
    user_agent: String,
    instance: InstanceId,
}

impl Dialer {
    /// Reads the certificate authorities, which takes some milliseconds.
    ///
    /// # Errors
    /// When the file of extra authorities, or the user agent, is of no use.
    pub fn new(options: DialOptions) -> Result<Self, DialSetupError> {
        if !options.user_agent.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return Err(DialSetupError::UserAgent);
        }
        let tls = client_config(options.extra_ca_file.as_deref(), options.tls_sessions_max)?;
        Ok(Self {
            net: net::Dialer::new(Arc::new(Lookups::new(options.resolver)), Arc::new(tls)),
            turns: Semaphore::new(DIALS_AT_ONCE_MAX),
            frame_bytes_max: options.frame_bytes_max,
            user_agent: options.user_agent,
            instance: options.instance,
        })
    }

    /// Connects. Waits for its turn first.
    ///
    /// # Errors
    /// The step that failed.
    pub async fn dial(&self, relay: &RelayUrl, reach: Reach) -> Result<Socket, DialError> {
        let url = parse(relay)?;
        let addresses = self.addresses(&url, reach).await?;
        // The semaphore is never closed.
        let _turn = self.turns.acquire().await;
        let mut stream = self.connect(&url, addresses).await?;
        let upgrade = upgrade(&mut stream, &url, &self.user_agent, self.instance);
        let read_ahead = within("WebSocket upgrade", upgrade).await??;
        Ok(Socket::new(stream, self.frame_bytes_max, SKIPPED_FRAME_BYTES_MAX, read_ahead))
    }

    /// Fetches a relay's NIP-11 document, over HTTP at the relay's own URL. Waits for its turn first.
    ///
    /// # Errors
    /// When it does not come, or is something else.
    pub async fn information(&self, relay: &RelayUrl, reach: Reach) -> Result<Information, InformationError> {
        let url = parse(relay)?;
        let addresses = self.addresses(&url, reach).await?;
        let _turn = self.turns.acquire().await;
        let fetched = timeout(INFORMATION_TIMEOUT, async {
            let stream = self.connect(&url, addresses).await?;
            fetch(stream, &url, &self.user_agent, self.instance).await
        });
        fetched.await.map_err(|_| InformationError::Timeout)?
    }

    /// Whether a relay has a public address, as far as can be said without connecting. A later dial
    /// asks again, and looks at what it then dials.
    ///
    /// # Errors
    /// When the name does not resolve, or to nothing public.
    pub async fn check(&self, relay: &RelayUrl) -> Result<(), DialError> {
        self.addresses(&parse(relay)?, Reach::PublicOnly).await.map(drop)
    }

    async fn addresses(&self, url: &Url, reach: Reach) -> Result<Vec<SocketAddr>, DialError> {
        let port = url.port_or_known_default().ok_or(DialError::Url)?;
        let host = url.host().ok_or(DialError::Url)?;
        Ok(self.net.addresses(host, port, reach).await?)
    }

    /// TCP, and TLS if the URL wants it.
    async fn connect(&self, url: &Url, addresses: Vec<SocketAddr>) -> Result<Stream, DialError> {
        let host = url.host().ok_or(DialError::Url)?;
        Ok(self.net.connect(host, addresses, url.scheme() == "wss").await?)
    }
}

impl std::fmt::Debug for Dialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialer").field("turns", &self.turns).finish_non_exhaustive()
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
    async fn documents_wait_for_a_turn_as_dials_do() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let relay: RelayUrl =
            format!("ws://{}", listener.local_addr().expect("bound")).parse().expect("a URL");
        let dialer = dialer(Resolver::system());
        let all = dialer.turns.acquire_many(DIALS_AT_ONCE_MAX as u32).await.expect("open");
        assert_eq!(dialer.turns.available_permits(), 0);
        let mut fetching = std::pin::pin!(dialer.information(&relay, Reach::Anywhere));
        let mut dialling = std::pin::pin!(dialer.dial(&relay, Reach::Anywhere));
        // Often enough for the runtime to look at its sockets.
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
        assert!(fetched.is_err() && dialled.is_err(), "both had their turn, and were let down");
    }

    async fn is_pending(mut future: Pin<&mut impl Future>) -> bool {
        std::future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_pending())).await
    }

    #[test]
    fn what_lasts_is_told_from_what_passes() {
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
