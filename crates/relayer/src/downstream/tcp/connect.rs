//! The way to a sink by TCP: its name, and whichever of its addresses answers first.

use std::io;
use std::net::SocketAddr;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::HostPort;
use crate::limits::{
    ADDRESSES_TRIED_MAX, DIAL_STEP_TIMEOUT, SINK_KEEPALIVE, SINK_KEEPALIVE_INTERVAL, SINK_KEEPALIVE_PROBES,
};
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
}

/// Connects to whichever address of the host answers first. The name is looked up each time.
///
/// # Errors
/// When there is none, or none accepts.
pub async fn connect(address: &HostPort, lookups: &Lookups) -> Result<TcpStream, ConnectError> {
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
