//! The header that a load balancer sends at the beginning of a connection: the PROXY protocol,
//! version 2, sections 2.2 to 2.2.2 of its specification. Version 1 is not accepted.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

use crate::limits::{PROXY_HEADER_BYTES_MAX, PROXY_HEADER_TIMEOUT};

/// The origin of a connection according to the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Connected {
    /// The proxy itself connected, for example for a health check.
    Itself,
    /// The proxy passes on the connection of a client, whose IP address is given if it has one.
    For(Option<IpAddr>),
}

/// Why a header is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadHeader {
    #[error("it sent no complete header of the PROXY protocol within {} s", PROXY_HEADER_TIMEOUT.as_secs())]
    Slow,
    #[error("it ended before its header of the PROXY protocol: {0}")]
    Ended(#[from] io::Error),
    #[error("it does not begin with a header of the PROXY protocol, version 2")]
    NotThere,
    #[error("its header of the PROXY protocol has {0}")]
    Invalid(&'static str),
    #[error(
        "its header of the PROXY protocol has {0} bytes after the first 16, and at most {PROXY_HEADER_BYTES_MAX} are accepted"
    )]
    TooLong(usize),
}

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Reads the header, and no byte after it.
///
/// # Errors
/// When the header is missing, malformed, too long or too slow.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Connected, BadHeader> {
    timeout(PROXY_HEADER_TIMEOUT, parse(stream)).await.map_err(|_| BadHeader::Slow)?
}

async fn parse(stream: &mut (impl AsyncRead + Unpin)) -> Result<Connected, BadHeader> {
    let mut signature = [0; SIGNATURE.len()];
    stream.read_exact(&mut signature).await?;
    if signature != SIGNATURE {
        return Err(BadHeader::NotThere);
    }
    let (command, family) = (stream.read_u8().await?, stream.read_u8().await?);
    let length = usize::from(stream.read_u16().await?);
    if length > PROXY_HEADER_BYTES_MAX {
        return Err(BadHeader::TooLong(length));
    }
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await?;
    match command {
        // Whatever else the header contains is ignored, as the specification requires.
        0x20 => return Ok(Connected::Itself),
        0x21 => {}
        _ => return Err(BadHeader::Invalid("another version or command")),
    }
    // The source comes first, then the destination and the ports.
    match (family, rest.first_chunk::<12>(), rest.first_chunk::<36>()) {
        (0x11, Some(&[a, b, c, d, ..]), _) => Ok(Connected::For(Some(Ipv4Addr::from([a, b, c, d]).into()))),
        (0x21, _, Some(addresses)) => {
            let source = addresses.first_chunk::<16>().copied().unwrap_or_default();
            Ok(Connected::For(Some(IpAddr::from(Ipv6Addr::from(source)).to_canonical())))
        }
        (0x11 | 0x21, ..) => Err(BadHeader::Invalid("no room for its addresses")),
        // The proxy does not know the address, or the client is a Unix socket.
        (0x00 | 0x31, ..) => Ok(Connected::For(None)),
        _ => Err(BadHeader::Invalid("another protocol than TCP")),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    /// A header with this command, family and content.
    fn header(command: u8, family: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, content].concat()
    }

    const V4: &[u8] = &[192, 0, 2, 1, 198, 51, 100, 1, 0x12, 0x34, 0, 80];

    /// The result, and the bytes that were not read.
    async fn parsed(bytes: &[u8]) -> (Result<Connected, BadHeader>, Vec<u8>) {
        let mut stream = bytes;
        let read = read(&mut stream).await;
        (read, stream.to_vec())
    }

    #[tokio::test]
    async fn the_source_is_the_client() {
        let v6: Ipv6Addr = "2001:db8::1".parse().unwrap();
        let mapped: Ipv6Addr = "::ffff:192.0.2.1".parse().unwrap();
        let addresses = |source: Ipv6Addr| [&source.octets()[..], &[7; 20]].concat();
        // Load balancers add further fields, which are ignored.
        let more = [V4, &[0x04, 0, 1, 0]].concat();
        for (bytes, expected) in [
            (header(0x21, 0x11, V4), Connected::For(Some([192, 0, 2, 1].into()))),
            (header(0x21, 0x11, &more), Connected::For(Some([192, 0, 2, 1].into()))),
            (header(0x21, 0x21, &addresses(v6)), Connected::For(Some(v6.into()))),
            (header(0x21, 0x21, &addresses(mapped)), Connected::For(Some([192, 0, 2, 1].into()))),
            (header(0x21, 0x00, &[]), Connected::For(None)),
            (header(0x21, 0x31, &[0; 216]), Connected::For(None)),
            (header(0x20, 0x00, &[]), Connected::Itself),
            (header(0x20, 0x11, V4), Connected::Itself),
            (
                header(0x21, 0x11, &[V4, &[0; PROXY_HEADER_BYTES_MAX - 12]].concat()),
                Connected::For(Some([192, 0, 2, 1].into())),
            ),
        ] {
            let (read, rest) = parsed(&[&bytes[..], b"GET /"].concat()).await;
            assert_eq!((read.unwrap(), &*rest), (expected, &b"GET /"[..]), "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn anything_else_is_refused() {
        let right = header(0x21, 0x11, V4);
        for length in 0..right.len() {
            assert!(matches!(parsed(&right[..length]).await.0, Err(BadHeader::Ended(_))), "{length}");
        }
        for index in 0..12 {
            let mut wrong = right.clone();
            wrong[index] ^= 1;
            assert!(matches!(parsed(&wrong).await.0, Err(BadHeader::NotThere)), "{index}");
        }
        let v1 = b"PROXY TCP4 192.0.2.1 198.51.100.1 4660 80\r\n";
        assert!(matches!(parsed(v1).await.0, Err(BadHeader::NotThere)));
        assert!(matches!(parsed(b"GET / HTTP/1.1\r\n\r\n").await.0, Err(BadHeader::NotThere)));
        for (command, family, content) in [
            (0x11, 0x11, V4),
            (0x22, 0x11, V4),
            (0x01, 0x11, V4),
            (0x31, 0x11, V4),
            (0x21, 0x12, V4),
            (0x21, 0x22, &[0; 36]),
            (0x21, 0x10, V4),
            (0x21, 0x41, V4),
            (0x21, 0x11, &V4[..11]),
            (0x21, 0x21, &[0; 35]),
            (0x21, 0x11, &[]),
        ] {
            let read = parsed(&header(command, family, content)).await.0;
            assert!(matches!(read, Err(BadHeader::Invalid(_))), "{command} {family}: {read:?}");
        }
        let long = header(0x21, 0x11, &[0; PROXY_HEADER_BYTES_MAX + 1]);
        assert!(matches!(parsed(&long).await.0, Err(BadHeader::TooLong(2_049))));
        assert!(matches!(parsed(&header(0x20, 0, &[0; 65_535])).await.0, Err(BadHeader::TooLong(65_535))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_header_is_refused() {
        let (mut proxy, mut stream) = tokio::io::duplex(64);
        proxy.write_all(&SIGNATURE).await.unwrap();
        let began = tokio::time::Instant::now();
        assert!(matches!(read(&mut stream).await, Err(BadHeader::Slow)));
        assert_eq!(began.elapsed(), PROXY_HEADER_TIMEOUT);
    }
}
