//! Gathers events into batches, and encodes a batch as the body of a request.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use ring::digest;
use tokio::time::Instant;

use crate::config::{Compression, RestOptions};
use crate::event_log::{Entry, Seq};
use crate::limits::SMALL_BODY_BYTES_MAX;

/// The events of one request.
#[derive(Debug)]
pub(super) struct Batch {
    /// One event or more, in the order of the log.
    entries: Vec<Entry>,
    /// Whether the batch is a dead letter that is sent again, out of order.
    pub(super) is_replay: bool,
    /// The number of requests that did not deliver the batch.
    pub(super) tries: u32,
    /// The encoded body, once the first request was made.
    body: Option<Bytes>,
}

impl Batch {
    /// Creates a batch of at least one event.
    pub(super) const fn new(entries: Vec<Entry>) -> Self {
        Self { entries, is_replay: false, tries: 0, body: None }
    }

    /// A batch with one dead letter to send again, after `tries` attempts.
    pub(super) fn replay(entry: Entry, tries: u32) -> Self {
        Self { is_replay: true, tries, ..Self::new(vec![entry]) }
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The size of the events' JSON.
    pub(super) fn bytes(&self) -> usize {
        self.entries.iter().map(|entry| entry.event.json().len()).sum()
    }

    pub(super) fn first(&self) -> Seq {
        self.entries.first().map_or(Seq::FIRST, |entry| entry.seq)
    }

    /// The `webhook-id`: equal for equal events, even if another gateway sends them.
    pub(super) fn id(&self) -> String {
        let mut hash = digest::Context::new(&digest::SHA256);
        for entry in &self.entries {
            hash.update(entry.event.id().as_bytes());
        }
        let digest = hash.finish();
        format!("msg_{}", faster_hex::hex_string(digest.as_ref().get(..16).unwrap_or_default()))
    }

    /// Splits the batch into two with half the events each. A batch of one event is returned as the
    /// error.
    pub(super) fn halved(mut self) -> Result<[Self; 2], Self> {
        if self.entries.len() < 2 {
            return Err(self);
        }
        let second = self.entries.split_off(self.entries.len() / 2);
        Ok([Self::new(self.entries), Self::new(second)])
    }

    /// Returns the body: one bare event, or an array of envelopes. Encodes the body only once, and
    /// a large body on the blocking pool.
    pub(super) async fn encode(&mut self, is_batch: bool, compression: Compression) -> io::Result<Bytes> {
        if let Some(body) = &self.body {
            return Ok(body.clone());
        }
        let body = if self.bytes() > SMALL_BODY_BYTES_MAX || compression != Compression::None {
            let entries: Vec<Entry> = self.entries.iter().map(Entry::copied).collect();
            let made =
                tokio::task::spawn_blocking(move || compressed(encoded(&entries, is_batch), compression));
            made.await.map_err(io::Error::other)??
        } else {
            encoded(&self.entries, is_batch)
        };
        self.body = Some(body.clone());
        Ok(body)
    }
}

/// Events that wait until a batch is full or old enough.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    entries: Vec<Entry>,
    bytes: usize,
    pub(super) since: Option<Instant>,
}

impl Gathering {
    /// Whether another event may be added.
    pub(super) fn is_open(&self, options: &RestOptions) -> bool {
        self.entries.len() < options.batch.map_or(1, usize::from) && self.bytes < options.batch_bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn push(&mut self, entry: &Entry, options: &RestOptions) {
        // Measured before the entry is copied: the envelope is encoded once and shared by all
        // receivers.
        self.bytes += match options.batch {
            Some(_) => entry.envelope().len(),
            None => entry.event.json().len(),
        };
        self.entries.push(entry.copied());
        self.since.get_or_insert_with(Instant::now);
    }

    /// Takes the events if the batch is full or old enough, or if no more events will come
    /// (`is_over`).
    pub(super) fn take_if_ready(&mut self, options: &RestOptions, is_over: bool) -> Option<Batch> {
        let since = self.since?;
        let is_ready = !self.is_open(options) || is_over || since.elapsed() >= options.batch_wait;
        is_ready.then(|| Batch::new(std::mem::take(self).entries))
    }
}

fn encoded(entries: &[Entry], is_batch: bool) -> Bytes {
    if let (false, Some(entry)) = (is_batch, entries.first()) {
        return entry.event.json().clone();
    }
    let bytes = entries.iter().map(|entry| entry.envelope().len() + 1).sum::<usize>() + 1;
    let mut body = BytesMut::with_capacity(bytes);
    for (index, entry) in entries.iter().enumerate() {
        body.put_u8(if index == 0 { b'[' } else { b',' });
        body.put_slice(entry.envelope());
    }
    body.put_u8(b']');
    body.freeze()
}

/// Compresses at a fast level: a body is sent once, usually within a data centre.
fn compressed(plain: Bytes, compression: Compression) -> io::Result<Bytes> {
    match compression {
        Compression::None => Ok(plain),
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            io::Write::write_all(&mut encoder, &plain)?;
            Ok(encoder.finish()?.into())
        }
        Compression::Zstd => Ok(zstd::bulk::compress(&plain, 3)?.into()),
    }
}
