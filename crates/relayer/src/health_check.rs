//! The command `moltrade-relayer health`, for container engines and scripts.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::config::Config;
use crate::limits::HEALTH_CHECK_TIMEOUT;

#[derive(Debug, thiserror::Error)]
pub enum Unhealthy {
    #[error(
        "the port is unknown because [output] websocket_port is 0; set the port that the gateway listens on"
    )]
    PortUnknown,
    #[error("the gateway at {address} does not answer: {source}")]
    NoAnswer { address: SocketAddr, source: io::Error },
    #[error("the gateway at {address} answered {status:?}")]
    Answer { address: SocketAddr, status: String },
}

/// Asks the gateway at the configured address for `/health`.
///
/// # Errors
/// When the gateway does not answer with success in time.
pub fn check(config: &Config) -> Result<String, Unhealthy> {
    let address = config.local_api_address().ok_or(Unhealthy::PortUnknown)?;
    let status = ask(address).map_err(|source| Unhealthy::NoAnswer { address, source })?;
    match status.split(' ').nth(1) {
        Some("200") => Ok(format!("the gateway at {address} is healthy")),
        _ => Err(Unhealthy::Answer { address, status }),
    }
}

/// Returns the status line of the answer.
fn ask(address: SocketAddr) -> io::Result<String> {
    let mut socket = TcpStream::connect_timeout(&address, HEALTH_CHECK_TIMEOUT)?;
    socket.set_read_timeout(Some(HEALTH_CHECK_TIMEOUT))?;
    socket.set_write_timeout(Some(HEALTH_CHECK_TIMEOUT))?;
    let request = format!("GET /health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes())?;
    // A status line is shorter, and the first bytes of an answer arrive together.
    let mut start = [0; 64];
    let length = socket.read(&mut start)?;
    let start = String::from_utf8_lossy(start.get(..length).unwrap_or_default()).into_owned();
    Ok(start.lines().next().unwrap_or_default().to_owned())
}
