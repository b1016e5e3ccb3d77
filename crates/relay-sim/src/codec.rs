//! The server side of RFC 6455, written by hand, because a simulated relay must write frames that a
//! library would refuse to write.

/// Frame opcodes.
pub mod opcode {
    /// A further fragment of a message.
    pub const CONTINUATION: u8 = 0;
    /// A text message, or its first fragment.
    pub const TEXT: u8 = 1;
    pub const BINARY: u8 = 2;
    /// The closing handshake.
    pub const CLOSE: u8 = 8;
    pub const PING: u8 = 9;
    pub const PONG: u8 = 10;
}

/// The maximum size of a client's message.
const CLIENT_MESSAGE_BYTES_MAX: usize = 1 << 20;

/// Writes the header of a frame that a server sends.
pub fn write_header(out: &mut Vec<u8>, opcode: u8, last: bool, length: usize) {
    out.push(opcode | if last { 0x80 } else { 0 });
    match length {
        0..126 => out.push(length as u8),
        126..0x1_0000 => {
            out.push(126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

/// Writes a complete message.
pub fn write_frame(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    write_header(out, opcode, true, payload.len());
    out.extend_from_slice(payload);
}

/// A frame from a client, unmasked.
#[derive(Debug, PartialEq, Eq)]
pub struct ClientFrame {
    /// See [`opcode`].
    pub opcode: u8,
    pub payload: Vec<u8>,
}

/// The bytes are not a valid client frame.
#[derive(Debug, PartialEq, Eq)]
pub struct BadFrame;

/// Removes the first frame from the bytes, if the frame is complete.
///
/// # Errors
/// When the frame is unmasked, fragmented or too long: clients of relays send small messages in
/// one frame.
pub fn take_frame(bytes: &mut Vec<u8>) -> Result<Option<ClientFrame>, BadFrame> {
    let [first, second, rest @ ..] = bytes.as_slice() else { return Ok(None) };
    let (opcode, last, masked) = (first & 0x0f, first & 0x80 != 0, second & 0x80 != 0);
    if !last || !masked || opcode == opcode::CONTINUATION {
        return Err(BadFrame);
    }
    let length_bytes = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let Some((length_text, rest)) = rest.split_at_checked(length_bytes) else { return Ok(None) };
    let length = match length_bytes {
        0 => usize::from(second & 0x7f),
        _ => length_text.iter().fold(0_usize, |length, byte| (length << 8) | usize::from(*byte)),
    };
    if length > CLIENT_MESSAGE_BYTES_MAX {
        return Err(BadFrame);
    }
    let Some((mask, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
    let Some(payload) = rest.get(..length) else { return Ok(None) };
    let payload = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    bytes.drain(..2 + length_bytes + 4 + length);
    Ok(Some(ClientFrame { opcode, payload }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_frames_come_off_whole() {
        let frame = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"; // RFC 6455, 5.7: a masked "Hello".
        for end in 0..frame.len() {
            assert_eq!(take_frame(&mut frame[..end].to_vec()), Ok(None));
        }
        let mut bytes = [&frame[..], &[0x89]].concat();
        let hello = ClientFrame { opcode: opcode::TEXT, payload: b"Hello".to_vec() };
        assert_eq!(take_frame(&mut bytes), Ok(Some(hello)));
        assert_eq!(bytes, [0x89]);
        assert_eq!(take_frame(&mut b"\x81\x05Hello".to_vec()), Err(BadFrame));
    }

    #[test]
    fn headers_have_three_lengths() {
        for (length, header) in [
            (125, &[0x81, 125][..]),
            (126, &[0x81, 126, 0, 126]),
            (0xffff, &[0x81, 126, 0xff, 0xff]),
            (0x1_0000, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let mut out = Vec::new();
            write_header(&mut out, opcode::TEXT, true, length);
            assert_eq!(out, header);
        }
    }
}
