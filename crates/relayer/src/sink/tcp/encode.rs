//! Encodes events with their framing, many events per write.

use bytes::{Buf, BytesMut};

use crate::config::Framing;
use crate::event_log::Entry;
use crate::limits::SINK_BUFFER_BYTES;
use crate::receiver::Format;

#[derive(Debug)]
pub(super) struct Encoder {
    framing: Framing,
    format: Format,
    bytes: BytesMut,
    /// The number of bytes encoded for this connection.
    encoded: u64,
}

impl Encoder {
    pub(super) fn new(framing: Framing, format: Format) -> Self {
        Self { framing, format, bytes: BytesMut::new(), encoded: 0 }
    }

    /// Adds an event, and returns the position of its end in the byte stream of the connection.
    pub(super) fn push(&mut self, entry: &Entry) -> u64 {
        let before = self.bytes.len();
        let json = self.format.of(entry);
        match self.framing {
            Framing::Length => {
                // An event has at most 16 MiB.
                self.bytes.extend_from_slice(&u32::try_from(json.len()).unwrap_or(u32::MAX).to_be_bytes());
                self.bytes.extend_from_slice(json);
            }
            // An event's JSON has no line breaks: strings escape them.
            Framing::Ndjson => {
                self.bytes.extend_from_slice(json);
                self.bytes.extend_from_slice(b"\n");
            }
        }
        self.encoded += (self.bytes.len() - before) as u64;
        self.encoded
    }

    /// Adds a line that is not an event, and returns the position of its end.
    pub(super) fn push_line(&mut self, json: &str) -> u64 {
        self.bytes.extend_from_slice(json.as_bytes());
        self.bytes.extend_from_slice(b"\n");
        self.encoded += json.len() as u64 + 1;
        self.encoded
    }

    /// Whether another event may be added.
    pub(super) fn has_room(&self) -> bool {
        self.bytes.len() < SINK_BUFFER_BYTES
    }

    /// The encoded bytes that are not written yet.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Removes bytes that were written.
    pub(super) fn advance(&mut self, count: usize) {
        let count = count.min(self.bytes.len());
        self.bytes.advance(count);
        if self.bytes.is_empty() && self.bytes.capacity() > 2 * SINK_BUFFER_BYTES {
            self.bytes = BytesMut::new(); // Frees the memory that one very large event took.
        }
    }

    #[cfg(test)]
    pub(super) fn of_bytes(bytes: &[u8]) -> Self {
        Self { bytes: bytes.into(), ..Self::new(Framing::Length, Format::Event) }
    }
}
