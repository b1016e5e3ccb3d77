//! From a URL to an open WebSocket, or to a relay's NIP-11 document: DNS, TCP, TLS, and what is asked
//! for, each with a time-out and an error of its own.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use url::{Host, Url};

pub use super::address::Reach;
use super::address::{NotPublic, in_turns};
use super::handshake::HandshakeError;
use super::information::{Information, InformationError, fetch};
use super::instance::InstanceId;
use super::resolver::{LookupError, Lookups, Resolver};
use super::socket::{Socket, Stream};
use super::tcp;
use super::tls::{TlsSetupError, client_config};
use super::upgrade::{UpgradeError, upgrade};
use crate::config::RelayUrl;
use crate::limits::{DIAL_STEP_TIMEOUT, DIALS_AT_ONCE_MAX, INFORMATION_TIMEOUT, SKIPPED_FRAME_BYTES_MAX};

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
    /// There is no such name.
    #[error("DNS: {0} does not exist or has no address")]
    NoSuchName(String),
    /// The name does not resolve.
    #[error("DNS: {0}")]
    Dns(io::Error),
    /// The relay may only be dialled at a public address, and has none.
    #[error(
        "{host} is at {address}, which is not a public address ({purpose}); \
         to allow such relays, set `allow_private_addresses = true` under [relay]"
    )]
    NotPublic {
        /// The name, or the address that stands in the URL.
        host: String,
        /// The address that it has; the first one, if there are several.
        address: IpAddr,
        /// What that address is reserved for.
        purpose: &'static str,
    },
    /// No address accepts the connection.
    #[error("TCP: {0}")]
    Tcp(io::Error),
    /// The TLS handshake fails.
    #[error("TLS: {0}")]
    Tls(#[from] HandshakeError),
    /// The server does not upgrade to WebSocket.
    #[error("WebSocket upgrade: {0}")]
    Upgrade(UpgradeError),
    /// The URL leads to this very process.
    #[error("the URL leads back to this gateway itself")]
    Ourselves,
    /// One of these steps takes too long.
    #[error("{0}: no answer within {secs} s", secs = DIAL_STEP_TIMEOUT.as_secs())]
    Timeout(&'static str),
}

impl DialError {
    /// Whether it will be so again until somebody changes something: the relay's operator, its DNS, or
    /// ours. It may still pass, so such a relay is dialled seldom, and not never.
    ///
    /// Of the answers to the upgrade, this is said of all but those that mean "later": 408, 425, 429, 5xx.
    pub const fn is_permanent(&self) -> bool {
        match self {
            Self::Url
            | Self::NoSuchName(_)
            | Self::NotPublic { .. }
            | Self::Tls(HandshakeError::Certificate(_))
            | Self::Ourselves => true,
            Self::Upgrade(UpgradeError::Status { code, .. }) => !matches!(*code, 408 | 425 | 429 | 500..),
            Self::Dns(_) | Self::Tcp(_) | Self::Tls(_) | Self::Upgrade(_) | Self::Timeout(_) => false,
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
    tls: TlsConnector,
    lookups: Lookups,
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
            tls: TlsConnector::from(Arc::new(tls)),
            lookups: Lookups::new(options.resolver),
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

    /// The addresses that may be dialled, in the order in which they are tried.
    async fn addresses(&self, url: &Url, reach: Reach) -> Result<Vec<SocketAddr>, DialError> {
        let port = url.port_or_known_default().ok_or(DialError::Url)?;
        let host = url.host().ok_or(DialError::Url)?;
        let found = match host {
            Host::Ipv4(address) => vec![address.into()],
            Host::Ipv6(address) => vec![address.into()],
            Host::Domain(name) => self.lookups.addresses(name).await.map_err(|error| match error {
                LookupError::NoSuchName => DialError::NoSuchName(name.to_owned()),
                LookupError::Timeout => DialError::Timeout("DNS"),
                LookupError::Failed(error) => DialError::Dns(error),
            })?,
        };
        let allowed = reach.of(found).map_err(|NotPublic { address, purpose }| DialError::NotPublic {
            host: host.to_string(),
            address,
            purpose,
        })?;
        Ok(in_turns(allowed).into_iter().map(|address| (address, port).into()).collect())
    }

    /// TCP, and TLS if the URL wants it.
    async fn connect(&self, url: &Url, addresses: Vec<SocketAddr>) -> Result<Stream, DialError> {
        let stream = within("TCP", tcp::connect(addresses)).await?.map_err(DialError::Tcp)?;
        match url.scheme() {
            // In memory of its own: the connection's task would keep room for a handshake as long as it lives.
            "wss" => Box::pin(self.secure(url, stream)).await,
            _ => Ok(Stream::Plain(stream)),
        }
    }

    async fn secure(&self, url: &Url, stream: TcpStream) -> Result<Stream, DialError> {
        let name = match url.host().ok_or(DialError::Url)? {
            Host::Domain(name) => ServerName::try_from(name.to_owned()).map_err(|_| DialError::Url)?,
            Host::Ipv4(address) => address.into(),
            Host::Ipv6(address) => address.into(),
        };
        let stream = within("TLS", self.tls.connect(name, stream)).await?.map_err(HandshakeError::from)?;
        Ok(Stream::Tls(Box::new(stream)))
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

async fn within<T>(step: &'static str, future: impl Future<Output = T>) -> Result<T, DialError> {
    timeout(DIAL_STEP_TIMEOUT, future).await.map_err(|_| DialError::Timeout(step))
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
    async fn of_a_mix_only_public_addresses_are_dialled() {
        let private: [IpAddr; 2] = [[127, 0, 0, 1].into(), [0xfd00, 0, 0, 0, 0, 0, 0, 1].into()];
        let public: [IpAddr; 2] = [[8, 8, 8, 8].into(), [0x2606, 0x4700, 0, 0, 0, 0, 0, 1].into()];
        let all = [private[0], public[0], private[1], public[1]];
        let dialer = dialer(Resolver::from_fn(move |_| Ok(all.to_vec())));
        let url = Url::parse("wss://mixed.example").expect("a URL");
        let dialled = dialer.addresses(&url, Reach::PublicOnly).await.expect("some are public");
        assert_eq!(dialled, public.map(|address| SocketAddr::from((address, 443))));
        let dialled = dialer.addresses(&url, Reach::Anywhere).await.expect("addresses");
        assert_eq!(dialled.len(), 4);
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
        for lasting in [DialError::Ourselves, DialError::NoSuchName("a.example".into())] {
            assert!(lasting.is_permanent(), "{lasting}");
            assert_eq!(lasting.retry_after_secs(), None);
        }
        for passing in [DialError::Timeout("DNS"), DialError::Tcp(io::ErrorKind::ConnectionRefused.into())] {
            assert!(!passing.is_permanent(), "{passing}");
        }
    }
}
