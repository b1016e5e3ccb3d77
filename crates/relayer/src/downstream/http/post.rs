//! One request's worth of events: its body, and by what it is recognised when it comes again.

use bytes::{BufMut, Bytes, BytesMut};
use ring::digest;

use crate::config::Compression;
use crate::event_log::{Entry, Seq};

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

    /// The body: one bare event, or an array of envelopes. It is made once, on a thread for work if it has to
    /// be compressed.
    pub async fn body(&mut self, is_batch: bool, compression: Compression) -> Bytes {
        if let Some(body) = &self.body {
            return body.clone();
        }
        let written = match (is_batch, self.entries.first()) {
            (false, Some(entry)) => entry.event.json().clone(),
            _ => array(&self.entries),
        };
        let body = match compression {
            Compression::None => written,
            compression => {
                let plain = written.clone();
                let made = tokio::task::spawn_blocking(move || compressed(&plain, compression)).await;
                // Compressing into memory fails for lack of memory alone.
                made.unwrap_or(written)
            }
        };
        self.body = Some(body.clone());
        body
    }
}

fn array(entries: &[Entry]) -> Bytes {
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
fn compressed(plain: &[u8], compression: Compression) -> Bytes {
    match compression {
        Compression::None => Bytes::copy_from_slice(plain),
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            let written = std::io::Write::write_all(&mut encoder, plain).and_then(|()| encoder.finish());
            written.map_or_else(|_| Bytes::new(), Bytes::from)
        }
        Compression::Zstd => zstd::bulk::compress(plain, 3).map_or_else(|_| Bytes::new(), Bytes::from),
    }
}
