//! The way to a sink by TCP: its name, whichever of its addresses answers first, and TLS if it is to be.

use std::io;
use std::net::SocketAddr;

use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::stream::Stream;
use crate::config::HostPort;
use crate::limits::{
    ADDRESSES_TRIED_MAX, DIAL_STEP_TIMEOUT, SINK_KEEPALIVE, SINK_KEEPALIVE_INTERVAL, SINK_KEEPALIVE_PROBES,
};
use crate::relay::handshake::HandshakeError;
use crate::relay::resolver::{LookupError, Lookups};
use crate::relay::tcp;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// DNS.
    #[error("{0} has no address")]
    NoAddress(String),
    /// DNS.
    #[error("DNS does not answer")]
    NoAnswer,
    /// Nobody accepts.
    #[error("it cannot be connected to: {0}")]
    Refused(io::Error),
    /// Nobody accepts, and nobody refuses.
    #[error("it does not accept connections within {} s", DIAL_STEP_TIMEOUT.as_secs())]
    Timeout,
    /// The host is none that a certificate can be for.
    #[error("TLS: no certificate can be for the host {0}")]
    Host(String),
    /// The handshake, and what mends it where that is known.
    #[error("TLS: {0}{remedy}", remedy = remedy(.0))]
    Tls(#[from] HandshakeError),
    /// The handshake does not end.
    #[error("TLS: no answer within {} s; it may be that nobody speaks TLS there", DIAL_STEP_TIMEOUT.as_secs())]
    TlsTimeout,
}

const fn remedy(error: &HandshakeError) -> &'static str {
    match error.is_unknown_authority() {
        true => "; if you do, put the certificate of its authority into a file and name that in `ca_file`",
        false => "",
    }
}

/// Connects to whichever address of the host answers first, and with `tls` makes sure that it is the host. The
/// name is looked up each time.
///
/// # Errors
/// When there is none, none accepts, or it cannot be trusted.
pub async fn connect(
    address: &HostPort,
    lookups: &Lookups,
    tls: Option<&TlsConnector>,
) -> Result<Stream, ConnectError> {
    let tcp = connect_tcp(address, lookups).await?;
    match tls {
        None => Ok(tcp.into()),
        // In memory of its own: the worker would keep room for a handshake as long as it lives.
        Some(tls) => Box::pin(secure(address, tls, tcp)).await,
    }
}

async fn secure(address: &HostPort, tls: &TlsConnector, tcp: TcpStream) -> Result<Stream, ConnectError> {
    let host = address.host().to_owned();
    let name = ServerName::try_from(host.clone()).map_err(|_| ConnectError::Host(host))?;
    let shaken = timeout(DIAL_STEP_TIMEOUT, tls.connect(name, tcp)).await;
    let stream = shaken.map_err(|_| ConnectError::TlsTimeout)?.map_err(HandshakeError::from)?;
    Ok(stream.into())
}

async fn connect_tcp(address: &HostPort, lookups: &Lookups) -> Result<TcpStream, ConnectError> {
    let (host, port) = (address.host(), address.port());
    let found = lookups.addresses(host).await.map_err(|error| match error {
        LookupError::NoSuchName => ConnectError::NoAddress(host.to_owned()),
        LookupError::Timeout => ConnectError::NoAnswer,
        LookupError::Failed(error) => ConnectError::Refused(error),
    })?;
    let addresses = found.into_iter().take(ADDRESSES_TRIED_MAX).map(|ip| SocketAddr::new(ip, port));
    let stream = timeout(DIAL_STEP_TIMEOUT, tcp::connect(addresses)).await;
    let stream = stream.map_err(|_| ConnectError::Timeout)?.map_err(ConnectError::Refused)?;
    let keepalive = TcpKeepalive::new()
        .with_time(SINK_KEEPALIVE)
        .with_interval(SINK_KEEPALIVE_INTERVAL)
        .with_retries(SINK_KEEPALIVE_PROBES);
    // Without it a host that vanished is only noticed with the next event.
    SockRef::from(&stream).set_tcp_keepalive(&keepalive).map_err(ConnectError::Refused)?;
    Ok(stream)
}
