//! TCP connections to whichever address of a host answers first (RFC 8305, "happy eyeballs", in small).

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::limits::NEXT_ADDRESS_AFTER;

/// Tries the addresses in their order. The next one's turn comes when one has failed, or has not answered
/// for [`NEXT_ADDRESS_AFTER`]; who answers first wins, and the other attempts end.
///
/// # Errors
/// When none accepts: the reason of the one that was last to refuse.
pub async fn connect(addresses: impl IntoIterator<Item = SocketAddr>) -> io::Result<TcpStream> {
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
                    // Only a latency improvement: a REQ is sent at once.
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
