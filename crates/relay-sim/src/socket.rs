//! What a connection needs from a socket, at no cost to plain TCP.

use std::io;

use tokio::net::TcpStream;

/// The number of bytes read in one system call. Clients of relays send little.
const READ_BYTES: usize = 4 << 10;

/// A byte stream over TCP that never blocks: the caller waits for [`tcp`](Self::tcp) to be ready.
pub(crate) trait Socket: Send + Sync {
    fn tcp(&self) -> &TcpStream;

    /// Appends available bytes. Fails if the stream has ended, but not if no bytes are available.
    fn read(&mut self, inbox: &mut Vec<u8>) -> io::Result<()>;

    /// Accepts some of the bytes, and returns their number.
    ///
    /// # Errors
    /// `WouldBlock` when the socket accepts no bytes now.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Whether some accepted bytes are not yet written to the TCP connection.
    fn owes(&self) -> bool {
        false
    }

    /// Writes the accepted bytes, as far as the TCP connection takes them.
    fn pay(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Announces the end of writing.
    fn finish(&mut self) {}

    /// Whether a TLS session was resumed; `None` without TLS.
    fn resumed(&self) -> Option<bool> {
        None
    }
}

impl Socket for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }

    fn read(&mut self, inbox: &mut Vec<u8>) -> io::Result<()> {
        let mut buffer = [0; READ_BYTES];
        match self.try_read(&mut buffer) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => {
                inbox.extend_from_slice(buffer.get(..length).unwrap_or_default());
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.try_write(bytes)
    }
}
