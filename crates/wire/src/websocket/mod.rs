//! WebSocket frames from a server (RFC 6455), decoded in place.
//!
//! A relay's frames are not masked, so a message in one frame is a slice of the read buffer:
//! decoding copies and allocates nothing. Only fragmented messages are assembled in memory. Text is
//! returned without a check of its UTF-8, because most texts are dropped unread; whoever reads a
//! text must check it. Extensions are not negotiated, so reserved bits are errors.

mod client_frame;

pub use client_frame::ClientFrame;

/// Why bytes are not frames from a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A message or control frame is longer than allowed.
    #[error("a message of {len} bytes is longer than {max}")]
    TooLong {
        /// The announced length of the payload, in bytes.
        len: u64,
        /// The permitted length, in bytes.
        max: usize,
    },
    /// A reserved bit is set.
    #[error("a reserved bit is set")]
    ReservedBits,
    /// The opcode is undefined.
    #[error("unknown opcode {0}")]
    UnknownOpcode(u8),
    /// A server must not mask its frames.
    #[error("a server's frame is masked")]
    Masked,
    /// A length is encoded in more bytes than necessary.
    #[error("a length is not written in its shortest form")]
    LengthForm,
    /// A control frame is fragmented or too long.
    #[error("a control frame is fragmented, or longer than 125 bytes")]
    ControlFrame,
    /// A fragment does not continue a message, or a message begins within another message.
    #[error("fragments are out of order")]
    Fragmentation,
}

/// A message from a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// Text, not checked to be valid UTF-8.
    Text(&'a [u8]),
    Binary(&'a [u8]),
    /// A text or binary message that was too long to store. All of it has been read and discarded.
    Skipped {
        /// Whether the message was text.
        is_text: bool,
        /// The first bytes of the message, at most [`SKIPPED_HEAD_BYTES`].
        head: &'a [u8],
        /// The length of the payload, in bytes.
        bytes: u64,
    },
    /// A ping. The answer must be a pong with the same payload.
    Ping(&'a [u8]),
    /// The response to a ping.
    Pong(&'a [u8]),
    /// The payload of a close frame: code and reason.
    Close(&'a [u8]),
}

/// The result of decoding the first frame of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// A message, and the number of bytes that it took.
    Message(Message<'a>, usize),
    /// A part of an unfinished message: a fragment, or a piece of a skipped message. Contains the
    /// number of bytes that the part took.
    Fragment(usize),
    /// The beginning of a frame; more bytes are needed.
    Incomplete,
}

/// How many bytes of a skipped message are kept: enough to determine the message's type.
pub const SKIPPED_HEAD_BYTES: usize = 1 << 10;

/// Decodes the frames of one connection.
#[derive(Debug)]
pub struct Decoder {
    payload_bytes_max: usize,
    /// Messages longer than [`payload_bytes_max`](Self::payload_bytes_max) are skipped up to this
    /// size.
    skipped_bytes_max: u64,
    unfinished: Unfinished,
    /// The returned message that was assembled from fragments, or the head of a skipped message.
    whole: Vec<u8>,
}

/// A message that is not complete.
#[derive(Debug)]
enum Unfinished {
    None,
    Gathered(Fragments),
    Skipped(Box<Skip>),
}

#[derive(Debug)]
struct Fragments {
    opcode: Opcode,
    payload: Vec<u8>,
}

/// A message that is read and discarded.
#[derive(Debug)]
struct Skip {
    is_text: bool,
    head: Vec<u8>,
    /// Bytes of payload announced so far.
    bytes: u64,
    /// Bytes of the current frame that have not arrived.
    left: u64,
    /// Whether the current frame is the message's last.
    is_final: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

const CONTROL_PAYLOAD_BYTES_MAX: u64 = 125;

impl Decoder {
    /// A decoder for a new connection. Messages longer than `payload_bytes_max` are errors and
    /// never stored.
    pub const fn new(payload_bytes_max: usize) -> Self {
        Self {
            payload_bytes_max,
            skipped_bytes_max: payload_bytes_max as u64,
            unfinished: Unfinished::None,
            whole: Vec::new(),
        }
    }

    /// Skips messages that are too long to store, up to this length, instead of reporting errors.
    #[must_use]
    pub const fn skipping(mut self, skipped_bytes_max: u64) -> Self {
        self.skipped_bytes_max = skipped_bytes_max;
        self
    }

    /// Decodes the first frame of `bytes`. Do not pass the consumed bytes again.
    ///
    /// # Errors
    /// When the bytes violate RFC 6455 or a message is too long. The connection cannot continue.
    pub fn decode<'a>(&'a mut self, bytes: &'a [u8]) -> Result<Decoded<'a>, DecodeError> {
        self.whole = Vec::new(); // The caller has read the previous message.
        if let Unfinished::Skipped(skip) = &mut self.unfinished
            && skip.left > 0
        {
            let taken = skip.take(bytes);
            return Ok(if taken == 0 { Decoded::Incomplete } else { self.skipped(taken) });
        }
        let Some((header, rest)) = Header::read(bytes)? else {
            return Ok(Decoded::Incomplete);
        };
        let header_bytes = bytes.len() - rest.len();
        if self.is_too_long(&header)? {
            self.skip(&header);
            return Ok(self.skipped(header_bytes));
        }
        // The check above bounds the length by a usize.
        let length = usize::try_from(header.length).unwrap_or(usize::MAX);
        let Some(payload) = rest.get(..length) else {
            return Ok(Decoded::Incomplete);
        };
        let taken = header_bytes + length;
        Ok(match header.opcode {
            Opcode::Close => Decoded::Message(Message::Close(payload), taken),
            Opcode::Ping => Decoded::Message(Message::Ping(payload), taken),
            Opcode::Pong => Decoded::Message(Message::Pong(payload), taken),
            Opcode::Text if header.is_final => Decoded::Message(Message::Text(payload), taken),
            Opcode::Binary if header.is_final => Decoded::Message(Message::Binary(payload), taken),
            Opcode::Text | Opcode::Binary | Opcode::Continuation => match self.assemble(&header, payload) {
                Some(message) => Decoded::Message(message, taken),
                None => Decoded::Fragment(taken),
            },
        })
    }

    /// Whether a frame belongs to a skipped message.
    fn is_too_long(&self, header: &Header) -> Result<bool, DecodeError> {
        let begun = match (&self.unfinished, header.opcode) {
            (_, Opcode::Close | Opcode::Ping | Opcode::Pong) => {
                if !header.is_final || header.length > CONTROL_PAYLOAD_BYTES_MAX {
                    return Err(DecodeError::ControlFrame);
                }
                return Ok(false);
            }
            (Unfinished::None, Opcode::Text | Opcode::Binary) => 0,
            (Unfinished::Gathered(fragments), Opcode::Continuation) => fragments.payload.len() as u64,
            (Unfinished::Skipped(skip), Opcode::Continuation) => skip.bytes,
            (Unfinished::None, Opcode::Continuation)
            | (Unfinished::Gathered(_) | Unfinished::Skipped(_), Opcode::Text | Opcode::Binary) => {
                return Err(DecodeError::Fragmentation);
            }
        };
        let len = header.length.saturating_add(begun);
        let kept = self.payload_bytes_max;
        if len > self.skipped_bytes_max.max(kept as u64) {
            let max = usize::try_from(self.skipped_bytes_max).unwrap_or(usize::MAX).max(kept);
            return Err(DecodeError::TooLong { len, max });
        }
        Ok(len > kept as u64)
    }

    /// Continues with a frame of a skipped message.
    fn skip(&mut self, header: &Header) {
        let mut skip = match std::mem::replace(&mut self.unfinished, Unfinished::None) {
            Unfinished::Skipped(skip) => skip,
            Unfinished::Gathered(Fragments { opcode, payload }) => {
                let bytes = payload.len() as u64;
                let head = payload.get(..SKIPPED_HEAD_BYTES).unwrap_or(&payload).to_vec();
                let is_text = opcode == Opcode::Text;
                Box::new(Skip { is_text, head, bytes, left: 0, is_final: false })
            }
            Unfinished::None => {
                let is_text = header.opcode == Opcode::Text;
                Box::new(Skip { is_text, head: Vec::new(), bytes: 0, left: 0, is_final: false })
            }
        };
        skip.bytes = skip.bytes.saturating_add(header.length);
        skip.left = header.length;
        skip.is_final = header.is_final;
        self.unfinished = Unfinished::Skipped(skip);
    }

    /// The result after this many more bytes of a skipped message.
    fn skipped(&mut self, taken: usize) -> Decoded<'_> {
        match std::mem::replace(&mut self.unfinished, Unfinished::None) {
            Unfinished::Skipped(skip) if skip.is_final && skip.left == 0 => {
                self.whole = skip.head;
                let message =
                    Message::Skipped { is_text: skip.is_text, head: &self.whole, bytes: skip.bytes };
                Decoded::Message(message, taken)
            }
            unfinished => {
                self.unfinished = unfinished;
                Decoded::Fragment(taken)
            }
        }
    }

    fn assemble(&mut self, header: &Header, payload: &[u8]) -> Option<Message<'_>> {
        let mut fragments = match std::mem::replace(&mut self.unfinished, Unfinished::None) {
            Unfinished::Gathered(fragments) => fragments,
            Unfinished::None | Unfinished::Skipped(_) => {
                Fragments { opcode: header.opcode, payload: Vec::new() }
            }
        };
        fragments.payload.extend_from_slice(payload);
        if !header.is_final {
            self.unfinished = Unfinished::Gathered(fragments);
            return None;
        }
        self.whole = fragments.payload;
        Some(match fragments.opcode {
            Opcode::Text => Message::Text(&self.whole),
            _ => Message::Binary(&self.whole),
        })
    }
}

impl Skip {
    /// Consumes the available bytes of the current frame, and returns their number.
    fn take(&mut self, bytes: &[u8]) -> usize {
        let taken = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        let wanted = (SKIPPED_HEAD_BYTES - self.head.len().min(SKIPPED_HEAD_BYTES)).min(taken);
        self.head.extend_from_slice(bytes.get(..wanted).unwrap_or_default());
        self.left -= taken as u64;
        taken
    }
}

struct Header {
    is_final: bool,
    opcode: Opcode,
    length: u64,
}

impl Header {
    /// The header and what follows it; `None` if the header is not complete.
    fn read(bytes: &[u8]) -> Result<Option<(Self, &[u8])>, DecodeError> {
        let [first, second, rest @ ..] = bytes else {
            return Ok(None);
        };
        if first & 0x70 != 0 {
            return Err(DecodeError::ReservedBits);
        }
        if second & 0x80 != 0 {
            return Err(DecodeError::Masked);
        }
        let opcode = match first & 0x0f {
            0 => Opcode::Continuation,
            1 => Opcode::Text,
            2 => Opcode::Binary,
            8 => Opcode::Close,
            9 => Opcode::Ping,
            10 => Opcode::Pong,
            other => return Err(DecodeError::UnknownOpcode(other)),
        };
        let (length, rest, shortest) = match second & 0x7f {
            126 => match rest.split_first_chunk() {
                Some((length, rest)) => (u16::from_be_bytes(*length).into(), rest, 126),
                None => return Ok(None),
            },
            127 => match rest.split_first_chunk() {
                Some((length, rest)) => (u64::from_be_bytes(*length), rest, 1 << 16),
                None => return Ok(None),
            },
            short => (short.into(), rest, 0),
        };
        if length < shortest {
            return Err(DecodeError::LengthForm);
        }
        Ok(Some((Self { is_final: first & 0x80 != 0, opcode, length }, rest)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes the frames, and returns the messages as `Debug` shows them.
    fn decode(bytes: &[u8]) -> Result<Vec<String>, DecodeError> {
        let mut decoder = Decoder::new(70_000);
        let (mut messages, mut at) = (Vec::new(), 0);
        loop {
            match decoder.decode(&bytes[at..])? {
                Decoded::Message(message, taken) => {
                    let text = format!("{message:?}");
                    at += taken;
                    messages.push(text);
                }
                Decoded::Fragment(taken) => at += taken,
                Decoded::Incomplete => return Ok(messages),
            }
        }
    }

    fn text(payload: &[u8]) -> String {
        format!("{:?}", Message::Text(payload))
    }

    #[test]
    fn messages_of_every_length_form() {
        let long = vec![b'x'; 70_000];
        let mut bytes = vec![0x81, 2, b'h', b'i', 0x81, 126, 0, 200];
        bytes.extend_from_slice(&long[..200]);
        bytes.extend_from_slice(&[0x81, 127, 0, 0, 0, 0, 0, 1, 0x11, 0x70]);
        bytes.extend_from_slice(&long);
        assert_eq!(decode(&bytes), Ok(vec![text(b"hi"), text(&long[..200]), text(&long)]));
        for cut in [0, 1, 3, 5, 7, 100, bytes.len() - 1] {
            assert!(decode(&bytes[..cut]).expect("only incomplete").len() < 3, "{cut}");
        }
    }

    #[test]
    fn fragments_with_a_ping_between_them() {
        let bytes = [0x01, 1, b'a', 0x89, 1, b'p', 0x00, 1, b'b', 0x80, 1, b'c', 0x82, 0];
        let ping = format!("{:?}", Message::Ping(b"p"));
        assert_eq!(decode(&bytes), Ok(vec![ping, text(b"abc"), format!("{:?}", Message::Binary(b""))]));
    }

    #[test]
    fn every_breach_has_its_name() {
        for (bytes, error) in [
            (&[0xc1, 0][..], DecodeError::ReservedBits),
            (&[0x83, 0], DecodeError::UnknownOpcode(3)),
            (&[0x81, 0x80, 0, 0, 0, 0], DecodeError::Masked),
            (&[0x81, 126, 0, 125], DecodeError::LengthForm),
            (&[0x81, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff], DecodeError::LengthForm),
            (&[0x09, 0], DecodeError::ControlFrame),
            (&[0x89, 126, 0, 126], DecodeError::ControlFrame),
            (&[0x80, 0], DecodeError::Fragmentation),
            (&[0x01, 0, 0x81, 0], DecodeError::Fragmentation),
            (&[0x81, 127, 0, 0, 0, 0, 0, 1, 0x11, 0x71], DecodeError::TooLong { len: 70_001, max: 70_000 }),
            (
                &[0x81, 127, 255, 255, 255, 255, 255, 255, 255, 255],
                DecodeError::TooLong { len: u64::MAX, max: 70_000 },
            ),
        ] {
            assert_eq!(decode(bytes), Err(error));
        }
        let mut fragments = vec![0x01, 126, 0xff, 0xff];
        fragments.extend_from_slice(&[0; 65_535]);
        fragments.extend_from_slice(&[0x00, 126, 0xff, 0xff]);
        assert_eq!(decode(&fragments), Err(DecodeError::TooLong { len: 131_070, max: 70_000 }));
    }

    /// Decodes the bytes in reads of `read` bytes. The decoder stores messages of up to 10 bytes
    /// and skips messages of up to 5,000 bytes.
    fn skip(bytes: &[u8], read: usize) -> Result<Vec<String>, DecodeError> {
        let mut decoder = Decoder::new(10).skipping(5_000);
        let (mut messages, mut waiting) = (Vec::new(), Vec::new());
        for read in bytes.chunks(read) {
            waiting.extend_from_slice(read);
            loop {
                let taken = match decoder.decode(&waiting)? {
                    Decoded::Message(Message::Skipped { is_text, head, bytes }, taken) => {
                        let head = String::from_utf8_lossy(head);
                        messages.push(format!("skipped {is_text} {bytes} {}", head.len()));
                        taken
                    }
                    Decoded::Message(message, taken) => {
                        messages.push(format!("{message:?}"));
                        taken
                    }
                    Decoded::Fragment(taken) => taken,
                    Decoded::Incomplete => break,
                };
                waiting.drain(..taken);
            }
            assert!(waiting.len() < 14, "what is skipped is not gathered");
        }
        Ok(messages)
    }

    #[test]
    fn what_is_too_long_is_skipped_and_what_follows_is_not() {
        let mut bytes = vec![0x81, 126, 0x13, 0x88];
        bytes.resize(4 + 5_000, b'x');
        bytes.extend_from_slice(&[0x81, 2, b'h', b'i']);
        // A fragmented message. The second fragment exceeds the limit, an empty fragment and a ping
        // follow, and the last fragment is empty.
        bytes.extend_from_slice(&[0x02, 3, b'a', b'b', b'c', 0x00, 8]);
        bytes.extend_from_slice(b"defghijk");
        bytes.extend_from_slice(&[0x00, 0, 0x89, 1, b'p', 0x00, 1, b'l', 0x80, 0, 0x81, 1, b'z']);
        let ping = format!("{:?}", Message::Ping(b"p"));
        let expected = ["skipped true 5000 1024", &text(b"hi"), &ping, "skipped false 12 12", &text(b"z")];
        for read in [1, 2, 7, 1_000, bytes.len()] {
            assert_eq!(skip(&bytes, read).as_deref(), Ok(&expected.map(str::to_owned)[..]), "{read}");
        }
    }

    #[test]
    fn what_is_skipped_has_a_bound_and_keeps_to_the_rules() {
        let too_long = |len| Err(DecodeError::TooLong { len, max: 5_000 });
        assert_eq!(skip(&[0x81, 126, 0x13, 0x89], 1), too_long(5_001));
        let mut parts = vec![0x01, 126, 0x13, 0x88];
        parts.resize(4 + 5_000, b'x');
        assert_eq!(skip(&[&parts[..], &[0x80, 1]].concat(), 9), too_long(5_001));
        assert_eq!(skip(&[&parts[..], &[0x81, 1]].concat(), 9), Err(DecodeError::Fragmentation));
        assert_eq!(skip(&[&parts[..], &[0x09, 0]].concat(), 9), Err(DecodeError::ControlFrame));
    }
}
