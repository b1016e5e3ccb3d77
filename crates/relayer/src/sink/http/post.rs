//! One request's worth of events: its body, and by what it is recognised when it comes again.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use ring::digest;

use crate::config::Compression;
use crate::event_log::{Entry, Seq};
use crate::limits::SMALL_BODY_BYTES_MAX;

/// Events that go in one request.
#[derive(Debug)]
pub struct Post {
    /// In order; at least one.
    entries: Vec<Entry>,
    /// Whether it is a dead letter that is sent again, out of order.
    pub is_replay: bool,
    /// Requests that ended without the sink having it.
    pub tries: u32,
    /// What is sent, once it was made.
    body: Option<Bytes>,
}

impl Post {
    /// A post of events, of which there must be at least one.
    pub const fn new(entries: Vec<Entry>) -> Self {
        Self { entries, is_replay: false, tries: 0, body: None }
    }

    /// A post of a dead letter that was tried so often.
    pub fn replay(entry: Entry, tries: u32) -> Self {
        Self { is_replay: true, tries, ..Self::new(vec![entry]) }
    }

    /// The events.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The events, for whoever keeps them.
    pub fn into_entries(self) -> Vec<Entry> {
        self.entries
    }

    /// Bytes of the events' JSON.
    pub fn bytes(&self) -> usize {
        self.entries.iter().map(|entry| entry.event.json().len()).sum()
    }

    /// The first sequence.
    pub fn first(&self) -> Seq {
        self.entries.first().map_or(Seq::FIRST, |entry| entry.seq)
    }

    /// `webhook-id`: the same whenever the same events are sent, by whichever gateway.
    pub fn id(&self) -> String {
        let mut hash = digest::Context::new(&digest::SHA256);
        for entry in &self.entries {
            hash.update(entry.event.id().as_bytes());
        }
        let digest = hash.finish();
        format!("msg_{}", faster_hex::hex_string(digest.as_ref().get(..16).unwrap_or_default()))
    }

    /// Two posts of half the events each, if there are several.
    ///
    /// # Errors
    /// The post itself if there is nothing to halve.
    pub fn halved(mut self) -> Result<[Self; 2], Self> {
        if self.entries.len() < 2 {
            return Err(self);
        }
        let second = self.entries.split_off(self.entries.len() / 2);
        Ok([Self::new(self.entries), Self::new(second)])
    }

    /// The body: one bare event, or an array of envelopes. It is made once; on a thread for work if that takes
    /// long.
    ///
    /// # Errors
    /// When it cannot be compressed.
    pub async fn body(&mut self, is_batch: bool, compression: Compression) -> io::Result<Bytes> {
        if let Some(body) = &self.body {
            return Ok(body.clone());
        }
        let body = if self.bytes() > SMALL_BODY_BYTES_MAX || compression != Compression::None {
            let entries: Vec<Entry> = self.entries.iter().map(Entry::copied).collect();
            let made =
                tokio::task::spawn_blocking(move || compressed(written(&entries, is_batch), compression));
            made.await.map_err(io::Error::other)??
        } else {
            written(&self.entries, is_batch)
        };
        self.body = Some(body.clone());
        Ok(body)
    }
}

fn written(entries: &[Entry], is_batch: bool) -> Bytes {
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

/// What is compressed quickly: a body is sent once, and mostly not far.
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
