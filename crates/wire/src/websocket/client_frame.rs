//! WebSocket frames from a client, encoded and masked.

use super::CONTROL_PAYLOAD_BYTES_MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientFrame<'a> {
    Text(&'a str),
    /// A ping. Anything beyond 125 bytes is cut off.
    Ping(&'a [u8]),
    /// A pong. Anything beyond 125 bytes is cut off.
    Pong(&'a [u8]),
    /// The close, with a code.
    Close(u16),
}

impl ClientFrame<'_> {
    /// Writes the frame, masked with `mask`, which should be random.
    pub fn encode(self, mask: [u8; 4]) -> Vec<u8> {
        let code;
        let (opcode, payload) = match self {
            Self::Text(text) => (1, text.as_bytes()),
            Self::Ping(payload) => (9, control(payload)),
            Self::Pong(payload) => (10, control(payload)),
            Self::Close(number) => {
                code = number.to_be_bytes();
                (8, code.as_slice())
            }
        };
        let mut frame = Vec::with_capacity(payload.len() + 14);
        frame.push(0x80 | opcode);
        match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
            (Ok(length @ 0..=125), _) => frame.push(0x80 | length),
            (_, Ok(length)) => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&length.to_be_bytes());
            }
            _ => {
                frame.push(0x80 | 127);
                frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
            }
        }
        frame.extend_from_slice(&mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        frame
    }
}

fn control(payload: &[u8]) -> &[u8] {
    payload.get(..CONTROL_PAYLOAD_BYTES_MAX as usize).unwrap_or(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_frame_unmasks_to_what_it_was() {
        let long = "x".repeat(70_000);
        for (frame, opcode, payload) in [
            (ClientFrame::Text("hi"), 0x81, "hi".as_bytes()),
            (ClientFrame::Text(&long[..126]), 0x81, &long.as_bytes()[..126]),
            (ClientFrame::Text(&long), 0x81, long.as_bytes()),
            (ClientFrame::Ping(&long.as_bytes()[..200]), 0x89, &long.as_bytes()[..125]),
            (ClientFrame::Pong(b"p"), 0x8a, b"p"),
            (ClientFrame::Close(1001), 0x88, &[3, 0xe9]),
        ] {
            let encoded = frame.encode([1, 2, 3, 4]);
            assert_eq!((encoded[0], encoded[1] & 0x80), (opcode, 0x80));
            let body = &encoded[encoded.len() - payload.len()..];
            let unmasked: Vec<u8> =
                body.iter().zip([1, 2, 3, 4].iter().cycle()).map(|(a, b)| a ^ b).collect();
            assert_eq!(unmasked, payload);
        }
    }
}
