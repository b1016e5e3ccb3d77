//! Opens a connection to a host name: DNS, TCP and TLS, each with its own timeout and error.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use url::Host;

use super::Stream;
use super::address::{NotPublic, Reach, interleaved};
use super::handshake::HandshakeError;
use super::resolver::{LookupError, Lookups};
use crate::limits::{DIAL_STEP_TIMEOUT, NEXT_ADDRESS_AFTER};

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name does not exist.
    #[error("DNS: {0} does not exist or has no address")]
    NoSuchName(String),
    /// The look-up of the name failed.
    #[error("DNS: {0}")]
    Dns(io::Error),
    /// Only public addresses may be dialled, and the host has none.
    #[error(
        "{host} is at {address}, which is not a public address ({purpose}); \
         to allow such relays, set `allow_private_addresses = true` under [relay]"
    )]
    NotPublic {
        /// The name or address in the URL.
        host: String,
        /// The first address of the host.
        address: IpAddr,
        /// What the address is reserved for.
        purpose: &'static str,
    },
    /// No address accepts the connection.
    #[error("TCP: {0}")]
    Tcp(io::Error),
    /// No certificate can be issued for this host name.
    #[error("TLS: no certificate can be issued for the host {0}")]
    Host(String),
    /// The TLS handshake fails.
    #[error("TLS: {0}")]
    Tls(#[from] HandshakeError),
    /// A step took longer than [`DIAL_STEP_TIMEOUT`].
    #[error("{0}: no answer within {secs} s", secs = DIAL_STEP_TIMEOUT.as_secs())]
    Timeout(&'static str),
}

impl ConnectError {
    /// Whether the failure lasts until somebody changes the server, its DNS or our configuration.
    pub const fn is_permanent(&self) -> bool {
        match self {
            Self::NoSuchName(_)
            | Self::NotPublic { .. }
            | Self::Host(_)
            | Self::Tls(HandshakeError::Certificate(_)) => true,
            Self::Dns(_) | Self::Tcp(_) | Self::Tls(_) | Self::Timeout(_) => false,
        }
    }
}

/// Connects to servers with one TLS configuration. The name is looked up once for each connection,
/// so the dialled addresses are the ones that were checked.
#[derive(Clone)]
pub struct Dialer {
    lookups: Arc<Lookups>,
    tls: TlsConnector,
}

impl Dialer {
    pub fn new(lookups: Arc<Lookups>, tls: impl Into<TlsConnector>) -> Self {
        Self { lookups, tls: tls.into() }
    }

    /// The host's addresses that `reach` allows, in the order in which they are tried.
    ///
    /// # Errors
    /// When the name does not resolve, or none of its addresses may be dialled.
    pub async fn addresses(
        &self,
        host: Host<&str>,
        port: u16,
        reach: Reach,
    ) -> Result<Vec<SocketAddr>, ConnectError> {
        let found = match &host {
            Host::Ipv4(address) => vec![(*address).into()],
            Host::Ipv6(address) => vec![(*address).into()],
            Host::Domain(name) => self.lookups.addresses(name).await.map_err(|error| match error {
                LookupError::NoSuchName => ConnectError::NoSuchName((*name).to_owned()),
                LookupError::Timeout => ConnectError::Timeout("DNS"),
                LookupError::Failed(error) => ConnectError::Dns(error),
            })?,
        };
        let allowed = reach.of(found).map_err(|NotPublic { address, purpose }| ConnectError::NotPublic {
            host: host.to_string(),
            address,
            purpose,
        })?;
        Ok(interleaved(allowed).into_iter().map(|address| (address, port).into()).collect())
    }

    /// Connects to the address that answers first. Performs the TLS handshake if `is_secure`.
    ///
    /// # Errors
    /// When no address accepts the connection, or the handshake fails.
    pub async fn connect(
        &self,
        host: Host<&str>,
        addresses: Vec<SocketAddr>,
        is_secure: bool,
    ) -> Result<Stream, ConnectError> {
        let tcp = within("TCP", connect_first(addresses)).await?.map_err(ConnectError::Tcp)?;
        match is_secure {
            // Boxed: otherwise the caller's future would hold memory for a handshake as long as it
            // exists.
            true => Box::pin(self.secure(host, tcp)).await,
            false => Ok(Stream::Plain(tcp)),
        }
    }

    async fn secure(&self, host: Host<&str>, tcp: TcpStream) -> Result<Stream, ConnectError> {
        let name = match host {
            Host::Domain(name) => {
                ServerName::try_from(name.to_owned()).map_err(|_| ConnectError::Host(name.to_owned()))?
            }
            Host::Ipv4(address) => address.into(),
            Host::Ipv6(address) => address.into(),
        };
        let stream = within("TLS", self.tls.connect(name, tcp)).await?.map_err(HandshakeError::from)?;
        Ok(Stream::Tls(Box::new(stream)))
    }
}

impl std::fmt::Debug for Dialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialer").field("lookups", &self.lookups).finish_non_exhaustive()
    }
}

/// Tries the addresses in order (RFC 8305, "happy eyeballs", simplified). The next attempt starts
/// when an attempt fails, or after [`NEXT_ADDRESS_AFTER`]. The first connection wins, and the other
/// attempts end.
///
/// # Errors
/// The last failure, if no address accepts.
async fn connect_first(addresses: impl IntoIterator<Item = SocketAddr>) -> io::Result<TcpStream> {
    let mut waiting = addresses.into_iter().peekable();
    let mut attempts = JoinSet::new();
    let mut refusal = io::Error::new(io::ErrorKind::NotFound, "no address");
    loop {
        if let Some(address) = waiting.next() {
            attempts.spawn(TcpStream::connect(address));
        }
        tokio::select! {
            ended = attempts.join_next() => match ended {
                Some(Ok(Ok(stream))) => {
                    // If this fails, small messages are delayed, nothing more.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Some(Ok(Err(error))) => refusal = error,
                Some(Err(panic)) => refusal = io::Error::other(panic),
                None => return Err(refusal),
            },
            () = tokio::time::sleep(NEXT_ADDRESS_AFTER), if waiting.peek().is_some() => {}
        }
    }
}

/// Limits one step of a dial to [`DIAL_STEP_TIMEOUT`].
///
/// # Errors
/// [`ConnectError::Timeout`] with the name of the step.
pub async fn within<T>(step: &'static str, future: impl Future<Output = T>) -> Result<T, ConnectError> {
    timeout(DIAL_STEP_TIMEOUT, future).await.map_err(|_| ConnectError::Timeout(step))
}

#[cfg(test)]
mod tests {
    use rustls::RootCertStore;

    use super::*;
    use crate::net::resolver::Resolver;
    use crate::net::tls::config_of;

    #[tokio::test]
    async fn only_the_public_addresses_of_a_host_are_dialled() {
        let private: [IpAddr; 2] = [[127, 0, 0, 1].into(), [0xfd00, 0, 0, 0, 0, 0, 0, 1].into()];
        let public: [IpAddr; 2] = [[8, 8, 8, 8].into(), [0x2606, 0x4700, 0, 0, 0, 0, 0, 1].into()];
        let all = [private[0], public[0], private[1], public[1]];
        let lookups = Lookups::new(Resolver::from_fn(move |_| Ok(all.to_vec())));
        let tls = config_of(RootCertStore::empty()).expect("set up");
        let dialer = Dialer::new(Arc::new(lookups), Arc::new(tls));
        let host = || Host::Domain("mixed.example");
        let dialled = dialer.addresses(host(), 443, Reach::PublicOnly).await.expect("some are public");
        assert_eq!(dialled, public.map(|address| SocketAddr::from((address, 443))));
        let dialled = dialer.addresses(host(), 443, Reach::Anywhere).await.expect("addresses");
        assert_eq!(dialled.len(), 4);
    }
}
