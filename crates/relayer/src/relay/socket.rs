//! A relay's socket: messages out of bytes, where the bytes lie.
//!
//! All sockets of a thread read into one scratch buffer, and messages are handled before the buffer is
//! used again. So a message costs no copy and no allocation, a busy socket empties itself in few system
//! calls, and an idle one holds no buffer at all. Only the beginning of a message whose end has not come,
//! and what the handler did not get to, is kept.

use std::cell::RefCell;
use std::io;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use wire::websocket::{ClientFrame, DecodeError, Decoded, Decoder, Message};

/// What one read takes at most. Larger reads than this gain nothing.
const SCRATCH_BYTES: usize = 64 << 10;

/// An unfinished message of up to this size is copied before the next read, so that the whole lies in
/// one piece; a longer one gathers in memory of its own.
const CARRY_BYTES_MAX: usize = SCRATCH_BYTES / 4;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into());
}

/// Why a socket cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The connection.
    #[error("the connection was lost: {0}")]
    Io(#[from] io::Error),
    /// What came is no WebSocket.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The other side closed without a closing handshake.
    #[error("the connection ended without a closing handshake")]
    Ended,
}

/// Plain or TLS.
#[derive(Debug)]
pub enum Stream {
    /// `ws://`
    Plain(TcpStream),
    /// `wss://`
    Tls(Box<TlsStream<TcpStream>>),
}

/// An open WebSocket to a relay.
#[derive(Debug)]
pub struct Socket {
    stream: Stream,
    decoder: Decoder,
    /// Bytes that were read and not handled.
    carry: Vec<u8>,
    /// Whether `carry` may hold whole messages, because the handler stopped.
    stopped: bool,
}

impl Socket {
    /// A socket whose upgrade is done. `read_ahead` is what came behind the upgrade's response.
    pub const fn new(stream: Stream, payload_bytes_max: usize, read_ahead: Vec<u8>) -> Self {
        Self { stream, decoder: Decoder::new(payload_bytes_max), carry: read_ahead, stopped: true }
    }

    /// Reads once (or takes up what an earlier call kept), and calls `handle` for each message that is
    /// complete; it returns when it has handled them. If `handle` breaks, the messages
    /// after it are kept for the next call. When the future is dropped, nothing is lost.
    ///
    /// # Errors
    /// When the connection ends or breaks the protocol. Messages before that have been handled.
    pub async fn read<B>(
        &mut self,
        mut handle: impl FnMut(Message<'_>) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>, SocketError> {
        std::future::poll_fn(|context| self.poll_read(context, &mut handle)).await
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn send(&mut self, frame: ClientFrame<'_>) -> io::Result<()> {
        let frame = frame.encode(rand::random());
        self.stream.write_all(&frame).await?;
        self.stream.flush().await
    }

    fn poll_read<B>(
        &mut self,
        context: &mut Context<'_>,
        handle: &mut impl FnMut(Message<'_>) -> ControlFlow<B>,
    ) -> Poll<Result<ControlFlow<B>, SocketError>> {
        if self.stopped {
            return Poll::Ready(self.handle_carried(handle));
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let carried = if self.carry.len() <= CARRY_BYTES_MAX { self.carry.len() } else { 0 };
            let mut buffer = ReadBuf::new(scratch);
            buffer.put_slice(self.carry.get(..carried).unwrap_or_default());
            ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
            if buffer.filled().len() == carried {
                return Poll::Ready(Err(SocketError::Ended));
            }
            if carried == self.carry.len() {
                let (taken, flow) = drain(&mut self.decoder, buffer.filled(), handle)?;
                self.carry.clear();
                self.carry.extend_from_slice(buffer.filled().get(taken..).unwrap_or_default());
                self.note(&flow);
                Poll::Ready(Ok(flow))
            } else {
                self.carry.extend_from_slice(buffer.filled());
                Poll::Ready(self.handle_carried(handle))
            }
        })
    }

    /// Handles what was kept.
    fn handle_carried<B>(
        &mut self,
        handle: &mut impl FnMut(Message<'_>) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>, SocketError> {
        let (taken, flow) = drain(&mut self.decoder, &self.carry, handle)?;
        self.carry.drain(..taken);
        self.note(&flow);
        Ok(flow)
    }

    fn note<B>(&mut self, flow: &ControlFlow<B>) {
        self.stopped = flow.is_break();
        // An idle socket holds no more than it must.
        if self.carry.capacity() > 2 * self.carry.len() {
            self.carry.shrink_to_fit();
        }
    }
}

/// Handles the messages at the beginning of `bytes`, and says how many bytes they took.
fn drain<B>(
    decoder: &mut Decoder,
    bytes: &[u8],
    handle: &mut impl FnMut(Message<'_>) -> ControlFlow<B>,
) -> Result<(usize, ControlFlow<B>), DecodeError> {
    let mut taken = 0;
    loop {
        match decoder.decode(bytes.get(taken..).unwrap_or_default())? {
            Decoded::Incomplete => return Ok((taken, ControlFlow::Continue(()))),
            Decoded::Fragment(length) => taken += length,
            Decoded::Message(message, length) => {
                taken += length;
                if let ControlFlow::Break(stopped) = handle(message) {
                    return Ok((taken, ControlFlow::Break(stopped)));
                }
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::*;

    /// A socket, and the relay's end of it.
    async fn pair() -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (ours, theirs) = tokio::join!(TcpStream::connect(address), listener.accept());
        let socket = Socket::new(Stream::Plain(ours.expect("connected")), 200_000, Vec::new());
        (socket, theirs.expect("accepted").0)
    }

    fn text(length: usize) -> Vec<u8> {
        let mut frame = vec![0x81, 127];
        frame.extend_from_slice(&(length as u64).to_be_bytes());
        frame.resize(10 + length, b'x');
        frame
    }

    /// The length of the next message, taken one at a time.
    async fn next(socket: &mut Socket) -> usize {
        let read = async {
            loop {
                let read = socket.read(|message| match message {
                    Message::Text(text) => ControlFlow::Break(text.len()),
                    _ => ControlFlow::Continue(()),
                });
                if let ControlFlow::Break(length) = read.await.expect("open") {
                    return length;
                }
            }
        };
        timeout(Duration::from_secs(10), read).await.expect("a message is there")
    }

    #[tokio::test]
    async fn messages_of_any_size_come_however_they_are_cut() {
        let (mut socket, mut relay) = pair().await;
        let lengths = [70_000, 66_000, 190_000, 65_536, 100_000, 70_001];
        let bytes: Vec<u8> = lengths.iter().flat_map(|length| text(*length)).collect();
        let writer = tokio::spawn(async move {
            for part in bytes.chunks(33_333) {
                relay.write_all(part).await.expect("written");
            }
            relay
        });
        for length in lengths {
            assert_eq!(next(&mut socket).await, length);
        }
        drop(writer.await);
    }

    #[tokio::test]
    async fn what_was_kept_is_handled_at_once_and_not_when_more_comes() {
        let (mut socket, mut relay) = pair().await;
        relay
            .write_all(&[0x81, 1, b'a', 0x81, 2, b'b', b'b', 0x81, 3, b'c', b'c', b'c'])
            .await
            .expect("written");
        assert_eq!(next(&mut socket).await, 1);
        let mut handled = Vec::new();
        while handled.len() < 2 {
            let all = socket.read(|message| {
                if let Message::Text(text) = message {
                    handled.push(text.len());
                }
                ControlFlow::<()>::Continue(())
            });
            let read = timeout(Duration::from_secs(10), all).await;
            let read = read.expect("it returns when it has handled what is there").expect("open");
            assert!(read.is_continue());
        }
        assert_eq!(handled, [2, 3]);
        assert_eq!(socket.carry.capacity(), 0, "an idle socket holds nothing");
    }

    #[tokio::test]
    async fn an_end_without_goodbye_is_an_error() {
        let (mut socket, relay) = pair().await;
        drop(relay);
        let end = loop {
            if let Err(end) = socket.read(|_| ControlFlow::<()>::Continue(())).await {
                break end;
            }
        };
        assert!(matches!(end, SocketError::Ended), "{end}");
    }
}
