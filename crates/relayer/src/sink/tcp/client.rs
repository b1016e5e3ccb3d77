//! Connects to a TCP sink.

use socket2::{SockRef, TcpKeepalive};
use url::Host;

use crate::config::HostPort;
use crate::limits::{SINK_KEEPALIVE, SINK_KEEPALIVE_INTERVAL, SINK_KEEPALIVE_PROBES};
use crate::net::address::Reach;
use crate::net::{ConnectError, Dialer, Stream};

/// Connects to a sink, through TLS if `is_secure`.
pub(super) async fn connect(
    address: &HostPort,
    dialer: &Dialer,
    is_secure: bool,
) -> Result<Stream, ConnectError> {
    let addresses = dialer.addresses(host(address), address.port(), Reach::Anywhere).await?;
    let stream = dialer.connect(host(address), addresses, is_secure).await?;
    let tcp = match &stream {
        Stream::Plain(tcp) => tcp,
        Stream::Tls(tls) => tls.get_ref().0,
    };
    let keepalive = TcpKeepalive::new()
        .with_time(SINK_KEEPALIVE)
        .with_interval(SINK_KEEPALIVE_INTERVAL)
        .with_retries(SINK_KEEPALIVE_PROBES);
    // Without keep-alive, we would notice a vanished host only when we send the next event.
    SockRef::from(tcp).set_tcp_keepalive(&keepalive).map_err(ConnectError::Tcp)?;
    Ok(stream)
}

fn host(address: &HostPort) -> Host<&str> {
    match address.host().parse() {
        Ok(std::net::IpAddr::V4(ip)) => Host::Ipv4(ip),
        Ok(std::net::IpAddr::V6(ip)) => Host::Ipv6(ip),
        Err(_) => Host::Domain(address.host()),
    }
}

/// How to fix an error; empty if no remedy is known.
pub(super) fn remedy(error: &ConnectError) -> &'static str {
    match error {
        ConnectError::Tls(error) if error.is_unknown_authority() => {
            "; if you do, put the certificate of its authority into a file and name that in `ca_file`"
        }
        ConnectError::Timeout("TLS") => "; it may be that nobody speaks TLS there",
        _ => "",
    }
}
