//! A relay's WebSocket, which decodes messages in place.
//!
//! All sockets of a thread read into one scratch buffer, and messages are handled before the buffer
//! is reused. A message therefore costs no copy and no allocation, a busy socket needs few system
//! calls, and an idle one holds no buffer. Only an incomplete message and messages that were not
//! handled yet are kept.
//!
//! One call of [`Socket::read`] handles a limited number of frames, because 64 KiB may hold 100
//! events or 32,768 empty frames. The rest is kept, and later calls continue at an offset. A call
//! that handles kept bytes uses the task's budget as a read does, so that no type of frame delays
//! the thread's other tasks.

use std::cell::RefCell;
use std::io;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::task::coop;
use wire::websocket::{ClientFrame, DecodeError, Decoded, Decoder, Message};

use crate::limits::FRAMES_A_READ_MAX;
use crate::net::Stream;

/// The maximum size of one read. Larger reads gain nothing.
const SCRATCH_BYTES: usize = 64 << 10;

/// An incomplete message up to this size is copied in front of the next read, so that the whole
/// message is contiguous. A longer message is collected in `carry`.
const CARRY_BYTES_MAX: usize = SCRATCH_BYTES / 4;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into());
}

/// Why a socket failed.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The connection failed.
    #[error("the connection was lost: {0}")]
    Io(#[from] io::Error),
    /// The relay broke the WebSocket protocol.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The connection ended without a closing handshake.
    #[error("the connection ended without a closing handshake")]
    Ended,
}

/// An open WebSocket to a relay.
#[derive(Debug)]
pub struct Socket {
    stream: Stream,
    decoder: Decoder,
    /// Kept bytes. The first `handled` of them have been handled.
    carry: Vec<u8>,
    /// How many bytes of `carry` were handled; 0 unless `stopped`.
    handled: usize,
    /// Whether `carry` may hold complete messages, because handling stopped early.
    stopped: bool,
    /// Frames handled since the last [`take_frames`](Self::take_frames).
    frames: u64,
}

/// Why handling stopped.
enum Stop<B> {
    /// No complete message is left.
    AtEnd,
    /// The call reached its limit of frames.
    AtLimit,
    /// The handler stopped.
    ByHandler(B),
}

impl Socket {
    /// A socket after its upgrade. `read_ahead` holds the bytes received after the upgrade
    /// response. Messages longer than `payload_bytes_max` are skipped, up to `skipped_bytes_max`.
    pub const fn new(
        stream: Stream,
        payload_bytes_max: usize,
        skipped_bytes_max: u64,
        read_ahead: Vec<u8>,
    ) -> Self {
        let decoder = Decoder::new(payload_bytes_max).skipping(skipped_bytes_max);
        Self { stream, decoder, carry: read_ahead, handled: 0, stopped: true, frames: 0 }
    }

    /// Reads once, or continues with kept bytes, and calls `handle` for each complete message. If
    /// `handle` breaks, or after [`FRAMES_A_READ_MAX`] frames, the rest is kept for the next call.
    /// The future is cancel-safe.
    ///
    /// # Errors
    /// If the connection ends or breaks the protocol. Earlier messages have been handled.
    pub async fn read<B>(
        &mut self,
        mut handle: impl FnMut(Message<'_>) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>, SocketError> {
        std::future::poll_fn(|context| self.poll_read(context, &mut handle)).await
    }

    /// The number of frames handled since the last call, including fragments.
    pub(crate) const fn take_frames(&mut self) -> u64 {
        std::mem::replace(&mut self.frames, 0)
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// If the connection is lost.
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
            ready!(coop::poll_proceed(context)).made_progress();
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
                let (taken, stop) = drain(&mut self.decoder, buffer.filled(), &mut self.frames, handle)?;
                self.carry.clear();
                self.carry.extend_from_slice(buffer.filled().get(taken..).unwrap_or_default());
                Poll::Ready(Ok(self.note(stop)))
            } else {
                self.carry.extend_from_slice(buffer.filled());
                Poll::Ready(self.handle_carried(handle))
            }
        })
    }

    /// Handles kept bytes.
    fn handle_carried<B>(
        &mut self,
        handle: &mut impl FnMut(Message<'_>) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>, SocketError> {
        let left = self.carry.get(self.handled..).unwrap_or_default();
        let (taken, stop) = drain(&mut self.decoder, left, &mut self.frames, handle)?;
        self.handled += taken;
        Ok(self.note(stop))
    }

    fn note<B>(&mut self, stop: Stop<B>) -> ControlFlow<B> {
        self.stopped = !matches!(stop, Stop::AtEnd);
        if !self.stopped {
            // Only an incomplete message is left. This message moves at most once per read.
            self.carry.drain(..self.handled);
            self.handled = 0;
            // An idle socket holds no spare capacity.
            if self.carry.capacity() > 2 * self.carry.len() {
                self.carry.shrink_to_fit();
            }
        }
        match stop {
            Stop::AtEnd | Stop::AtLimit => ControlFlow::Continue(()),
            Stop::ByHandler(stopped) => ControlFlow::Break(stopped),
        }
    }
}

/// Handles the messages at the start of `bytes`, adds their frames to `frames`, and returns the
/// number of bytes handled.
fn drain<B>(
    decoder: &mut Decoder,
    bytes: &[u8],
    frames: &mut u64,
    handle: &mut impl FnMut(Message<'_>) -> ControlFlow<B>,
) -> Result<(usize, Stop<B>), DecodeError> {
    let mut taken = 0;
    for _ in 0..FRAMES_A_READ_MAX {
        match decoder.decode(bytes.get(taken..).unwrap_or_default())? {
            Decoded::Incomplete => return Ok((taken, Stop::AtEnd)),
            Decoded::Fragment(length) => {
                taken += length;
                *frames += 1;
            }
            Decoded::Message(message, length) => {
                taken += length;
                *frames += 1;
                if let ControlFlow::Break(stopped) = handle(message) {
                    return Ok((taken, Stop::ByHandler(stopped)));
                }
            }
        }
    }
    Ok((taken, Stop::AtLimit))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::timeout;

    use super::*;

    /// A socket and the relay's end.
    async fn pair() -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (ours, theirs) = tokio::join!(TcpStream::connect(address), listener.accept());
        let socket = Socket::new(Stream::Plain(ours.expect("connected")), 200_000, 1_000_000, Vec::new());
        (socket, theirs.expect("accepted").0)
    }

    fn text(length: usize) -> Vec<u8> {
        let mut frame = vec![0x81, 127];
        frame.extend_from_slice(&(length as u64).to_be_bytes());
        frame.resize(10 + length, b'x');
        frame
    }

    /// Reads one message and returns its length.
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
    async fn messages_of_any_size_arrive_in_any_fragments() {
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
    async fn kept_messages_are_handled_before_more_bytes_come() {
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

    /// Sends many frames of each type. Checks how many frames one call handles, and what the call
    /// keeps.
    #[tokio::test]
    async fn a_call_handles_a_bounded_number_of_frames_of_any_kind_and_nothing_is_moved_twice() {
        const BYTES: usize = 192 << 10;
        for (frames, what) in [
            (&[0x8a, 0][..], "pongs"),
            (&[0x89, 0], "pings"),
            (&[0x81, 0], "empty text"),
            (&[0x82, 0], "empty binary"),
            (&[0x01, 0, 0x00, 0, 0x00, 0, 0x80, 0], "empty fragments"),
            (&[0x01, 1, b'a', 0x8a, 0, 0x00, 1, b'b', 0x89, 0, 0x80, 1, b'c', 0x81, 0], "a mix"),
        ] {
            let (mut socket, mut relay) = pair().await;
            let bytes = frames.repeat(BYTES / frames.len());
            let sent = (bytes.len() / frames.len()) as u64 * frames_in(frames);
            let writer = tokio::spawn(async move {
                relay.write_all(&bytes).await.expect("written");
                relay
            });
            let mut handled = 0;
            while handled < sent {
                let read = socket.read(|_| ControlFlow::<()>::Continue(()));
                let read = timeout(Duration::from_secs(10), read).await.expect("frames are there");
                assert!(read.expect("open").is_continue());
                let now = socket.take_frames();
                assert!(now <= FRAMES_A_READ_MAX.into(), "{what}: {now} frames in one call");
                assert!(socket.carry.len() <= SCRATCH_BYTES, "{what}: {} bytes are kept", socket.carry.len());
                if socket.stopped {
                    assert_eq!(now, u64::from(FRAMES_A_READ_MAX), "{what}: it stops at the limit only");
                }
                handled += now;
            }
            assert_eq!(handled, sent, "{what}");
            drop(writer.await);
        }
    }

    /// Counts frames. All payloads must be shorter than 126 bytes.
    fn frames_in(mut bytes: &[u8]) -> u64 {
        let mut frames = 0;
        while let [_, length, ..] = bytes {
            bytes = &bytes[2 + usize::from(*length)..];
            frames += 1;
        }
        frames
    }

    #[tokio::test]
    async fn a_handler_that_stops_at_each_message_moves_no_bytes() {
        let (mut socket, mut relay) = pair().await;
        relay.write_all(&[0x81, 1, b'a'].repeat(1_000)).await.expect("written");
        relay.write_all(&[0x81, 2, b'b']).await.expect("written");
        let (mut kept, mut moves) = (None, 0);
        for _ in 0..1_000 {
            assert_eq!(next(&mut socket).await, 1);
            if let Some((place, length)) = kept.filter(|_| socket.stopped) {
                let same = socket.carry.len() == length;
                assert!(!same || socket.carry.as_ptr() == place, "what is kept lies where it was");
                assert!(same || socket.handled <= 3, "it changes only by another read");
                moves += u32::from(!same);
            }
            kept = Some((socket.carry.as_ptr(), socket.carry.len()));
        }
        assert!(moves < 10, "{moves} reads of {} bytes", 3 * 1_000);
        relay.write_all(b"b").await.expect("written");
        assert_eq!(next(&mut socket).await, 2);
    }

    #[tokio::test]
    async fn messages_that_are_too_long_are_not_kept() {
        let (mut socket, mut relay) = pair().await;
        let bytes = [&text(900_000)[..], &[0x81, 1, b'a']].concat();
        let writer = tokio::spawn(async move {
            relay.write_all(&bytes).await.expect("written");
            relay
        });
        let mut skipped = Vec::new();
        while skipped.len() < 2 {
            let read = socket.read(|message| {
                match message {
                    Message::Skipped { bytes, .. } => skipped.push(bytes),
                    Message::Text(text) => skipped.push(text.len() as u64),
                    other => panic!("{other:?}"),
                }
                ControlFlow::<()>::Continue(())
            });
            let read = timeout(Duration::from_secs(10), read).await.expect("something comes");
            assert!(read.expect("open").is_continue());
            assert!(socket.carry.capacity() < 100);
        }
        assert_eq!(skipped, [900_000, 1]);
        drop(writer.await);
    }

    #[tokio::test]
    async fn an_end_without_a_closing_handshake_is_an_error() {
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
