//! Events as a sink gets them, gathered so that one write takes many.

use bytes::{Buf, BytesMut};

use crate::config::Framing;
use crate::event_log::Entry;
use crate::limits::SINK_BUFFER_BYTES;
use crate::receiver::Format;

/// Bytes for a socket.
#[derive(Debug)]
pub struct Outbox {
    framing: Framing,
    format: Format,
    bytes: BytesMut,
    /// Bytes that the socket has taken.
    written: u64,
}

impl Outbox {
    /// With nothing in it.
    pub fn new(framing: Framing, format: Format) -> Self {
        Self { framing, format, bytes: BytesMut::new(), written: 0 }
    }

    /// Adds an event, and gives where it ends among all bytes of the connection.
    pub fn push(&mut self, entry: &Entry) -> u64 {
        let json = self.format.of(entry);
        match self.framing {
            Framing::Length => {
                // An event has 16 MiB at most.
                self.bytes.extend_from_slice(&u32::try_from(json.len()).unwrap_or(u32::MAX).to_be_bytes());
                self.bytes.extend_from_slice(json);
            }
            // JSON as it is written here has no line breaks: they are escaped in strings.
            Framing::Ndjson => {
                self.bytes.extend_from_slice(json);
                self.bytes.extend_from_slice(b"\n");
            }
        }
        self.written + self.bytes.len() as u64
    }

    /// Whether another event may be added.
    pub fn has_room(&self) -> bool {
        self.bytes.len() < SINK_BUFFER_BYTES
    }

    /// What the socket has not taken.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Notes that the socket has taken so many bytes, and gives how many those are in all.
    pub fn took(&mut self, count: usize) -> u64 {
        let count = count.min(self.bytes.len());
        self.bytes.advance(count);
        self.written += count as u64;
        if self.bytes.is_empty() && self.bytes.capacity() > 2 * SINK_BUFFER_BYTES {
            self.bytes = BytesMut::new(); // One very large event is not to be remembered by its space.
        }
        self.written
    }
}
