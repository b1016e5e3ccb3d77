//! Parses a sink's cumulative acknowledgements: binary numbers or JSON lines, received in pieces of
//! any size.
//!
//! Buffers at most [`ACK_LINE_BYTES_MAX`] bytes of an incomplete acknowledgement.

use crate::config::Framing;
use crate::limits::ACK_LINE_BYTES_MAX;
use crate::receiver::ack::{self, NotAnAck};

#[derive(Debug)]
pub(super) struct Acks {
    framing: Framing,
    /// An incomplete acknowledgement.
    partial: Vec<u8>,
}

impl Acks {
    pub(super) const fn new(framing: Framing) -> Self {
        Self { framing, partial: Vec::new() }
    }

    /// Calls `each` for every sequence that the bytes acknowledge. Stops at the first error.
    pub(super) fn read<E: From<NotAnAck>>(
        &mut self,
        bytes: &[u8],
        mut each: impl FnMut(u64) -> Result<(), E>,
    ) -> Result<(), E> {
        for &byte in bytes {
            let number = match self.framing {
                Framing::Length => self.number(byte),
                Framing::Ndjson => self.line(byte)?,
            };
            if let Some(number) = number {
                each(number)?;
            }
        }
        Ok(())
    }

    /// Returns the big-endian u64 that this byte completes, if any.
    fn number(&mut self, byte: u8) -> Option<u64> {
        self.partial.push(byte);
        let number = u64::from_be_bytes(self.partial.as_slice().try_into().ok()?);
        self.partial.clear();
        Some(number)
    }

    /// Returns the number in the line that this byte completes, if any. Empty lines are ignored.
    fn line(&mut self, byte: u8) -> Result<Option<u64>, NotAnAck> {
        if byte != b'\n' {
            if self.partial.len() >= ACK_LINE_BYTES_MAX {
                return Err(NotAnAck);
            }
            self.partial.push(byte);
            return Ok(None);
        }
        let line = self.partial.trim_ascii();
        let number = match line.is_empty() {
            true => None,
            false => Some(ack::parse(line)?),
        };
        self.partial.clear();
        Ok(number)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns the acknowledgements in bytes that arrive in pieces of this size.
    fn read(framing: Framing, bytes: &[u8], piece: usize) -> Result<Vec<u64>, NotAnAck> {
        let (mut acks, mut numbers) = (Acks::new(framing), Vec::new());
        for piece in bytes.chunks(piece) {
            acks.read(piece, |number| {
                numbers.push(number);
                Ok(())
            })?;
            assert!(acks.partial.len() <= ACK_LINE_BYTES_MAX);
        }
        Ok(numbers)
    }

    #[test]
    fn garbage_is_refused() {
        for garbage in
            ["7\n", "{}\n", "{\"ack\":-1}\n", "{\"ack\":1,\"x\":2}\n", "{\"ack\":1.5}\n", "\0\n", "[7]\n"]
        {
            assert_eq!(read(Framing::Ndjson, garbage.as_bytes(), 1), Err(NotAnAck), "{garbage}");
        }
        assert_eq!(read(Framing::Ndjson, &[b' '; 65], 100), Err(NotAnAck), "an endless line");
        assert_eq!(read(Framing::Ndjson, b"\r\n {\"ack\": 7 } \r\n\n", 1), Ok(vec![7]));
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(numbers in prop::collection::vec(any::<u64>(), 0..20), piece in 1_usize..40) {
            let binary: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
            let lines: String = numbers.iter().map(|number| format!("{{\"ack\":{number}}}\n")).collect();
            prop_assert_eq!(read(Framing::Length, &binary, piece), Ok(numbers.clone()));
            prop_assert_eq!(read(Framing::Ndjson, lines.as_bytes(), piece), Ok(numbers));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..500), piece in 1_usize..40) {
            let _ = read(Framing::Length, &bytes, piece);
            let _ = read(Framing::Ndjson, &bytes, piece);
        }
    }
}
