//! The relays' side of RFC 6455, written by hand: a simulated relay must be able to write frames that no
//! library would write.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// Frame opcodes.
pub mod opcode {
    /// A further fragment of a message.
    pub const CONTINUATION: u8 = 0;
    /// A text message, or its first fragment.
    pub const TEXT: u8 = 1;
    /// A binary message.
    pub const BINARY: u8 = 2;
    /// The closing handshake.
    pub const CLOSE: u8 = 8;
    /// A ping.
    pub const PING: u8 = 9;
    /// A pong.
    pub const PONG: u8 = 10;
}

/// The most bytes that a client's message may have.
const CLIENT_MESSAGE_BYTES_MAX: usize = 1 << 20;
/// The most bytes that an upgrade request may have.
const REQUEST_BYTES_MAX: usize = 16 << 10;

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

/// Writes a whole message.
pub fn write_frame(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    write_header(out, opcode, true, payload.len());
    out.extend_from_slice(payload);
}

/// A frame of a client, unmasked.
#[derive(Debug, PartialEq, Eq)]
pub struct ClientFrame {
    /// See [`opcode`].
    pub opcode: u8,
    /// The payload.
    pub payload: Vec<u8>,
}

/// The bytes are no frame that a client may send.
#[derive(Debug, PartialEq, Eq)]
pub struct BadFrame;

/// Takes the first frame off the bytes, if all of it is there.
///
/// # Errors
/// When it is not masked, fragmented, or too long: clients of relays send small messages in one piece.
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

/// What a client asks for before it is a WebSocket.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// The path, without a query.
    pub path: String,
    /// `Sec-WebSocket-Key`, if it wants a WebSocket.
    pub key: Option<String>,
}

/// Takes an HTTP request without a body off the bytes, if all of it is there.
///
/// # Errors
/// When it is no GET request, or too long.
pub fn take_request(bytes: &mut Vec<u8>) -> Result<Option<Request>, BadFrame> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return if bytes.len() > REQUEST_BYTES_MAX { Err(BadFrame) } else { Ok(None) };
    };
    let head: Vec<u8> = bytes.drain(..end + 4).collect();
    let head = String::from_utf8(head).map_err(|_| BadFrame)?;
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some("GET"), Some(target)) = (words.next(), words.next()) else { return Err(BadFrame) };
    let path = target.split('?').next().unwrap_or_default().to_owned();
    let mut headers = lines.filter_map(|line| line.split_once(':'));
    let key = headers.find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"));
    Ok(Some(Request { path, key: key.map(|(_, value)| value.trim().to_owned()) }))
}

/// The answer that makes the connection a WebSocket.
pub fn upgrade_response(key: &str) -> String {
    let digest = sha1_smol::Sha1::from(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11")).digest();
    let accept = BASE64_STANDARD.encode(digest.bytes());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )
}

/// An answer that ends the connection.
pub fn http_response(status: &str, content_type: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handshake_of_rfc_6455() {
        let mut bytes =
            b"GET /r/3?x=1 HTTP/1.1\r\nHost: x\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\nrest"
                .to_vec();
        let request = take_request(&mut bytes).expect("valid").expect("complete");
        assert_eq!((request.path.as_str(), bytes.as_slice()), ("/r/3", &b"rest"[..]));
        let response = upgrade_response(&request.key.expect("a WebSocket"));
        assert!(response.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{response}");
        assert_eq!(take_request(&mut b"GET / HTTP".to_vec()), Ok(None));
        assert_eq!(take_request(&mut b"POST / HTTP/1.1\r\n\r\n".to_vec()), Err(BadFrame));
    }

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
