//! From the name of a server to an open connection: DNS, TCP and TLS, each with a time-out and an
//! error of its own.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use url::Host;

use super::address::{NotPublic, Reach, in_turns};
use super::handshake::HandshakeError;
use super::resolver::{LookupError, Lookups};
use super::{Stream, tcp};
use crate::limits::DIAL_STEP_TIMEOUT;

/// Why there is no connection to a server.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name does not exist.
    #[error("DNS: {0} does not exist or has no address")]
    NoSuchName(String),
    /// The name does not resolve.
    #[error("DNS: {0}")]
    Dns(io::Error),
    /// The server may only be dialled at a public address, and has none.
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
    /// No certificate can be issued for the host.
    #[error("TLS: no certificate can be for the host {0}")]
    Host(String),
    /// The TLS handshake fails.
    #[error("TLS: {0}")]
    Tls(#[from] HandshakeError),
    /// A step takes longer than [`DIAL_STEP_TIMEOUT`].
    #[error("{0}: no answer within {secs} s", secs = DIAL_STEP_TIMEOUT.as_secs())]
    Timeout(&'static str),
}

impl ConnectError {
    /// Whether the failure lasts until somebody changes something: the server's operator, its DNS,
    /// or we.
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

/// Connects to servers that are trusted by one TLS configuration. The name is looked up for each
/// connection, and the addresses that were checked are the ones that are dialled.
#[derive(Clone)]
pub struct Dialer {
    lookups: Arc<Lookups>,
    tls: TlsConnector,
}

impl Dialer {
    /// A dialer that looks names up by `lookups` and trusts whom `tls` trusts.
    pub fn new(lookups: Arc<Lookups>, tls: impl Into<TlsConnector>) -> Self {
        Self { lookups, tls: tls.into() }
    }

    /// The addresses of a host that `reach` allows, in the order in which they are tried.
    ///
    /// # Errors
    /// When the name does not resolve, or only to addresses that may not be dialled.
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
        Ok(in_turns(allowed).into_iter().map(|address| (address, port).into()).collect())
    }

    /// Connects to whichever address answers first, and with `is_secure` makes sure by TLS that it
    /// is the host.
    ///
    /// # Errors
    /// When no address accepts the connection, or the handshake fails.
    pub async fn connect(
        &self,
        host: Host<&str>,
        addresses: Vec<SocketAddr>,
        is_secure: bool,
    ) -> Result<Stream, ConnectError> {
        let tcp = within("TCP", tcp::connect(addresses)).await?.map_err(ConnectError::Tcp)?;
        match is_secure {
            // In memory of its own: the caller would keep room for a handshake as long as it lives.
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

/// Without TLS, which has nothing to show.
impl std::fmt::Debug for Dialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialer").field("lookups", &self.lookups).finish_non_exhaustive()
    }
}

/// Waits for one step of a dial for at most [`DIAL_STEP_TIMEOUT`].
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
    async fn of_a_mix_only_public_addresses_are_dialled() {
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
