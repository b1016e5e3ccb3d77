//! Verified events, in the one form in which they are stored and sent.
//!
//! A verified event consists of JSON, which this crate writes from the seven signed fields, and of
//! the few values that every reader needs. The JSON is written once, stored, and sent to every
//! reader unchanged; unsigned extras of the received event are dropped. The JSON's layout is fixed,
//! so [`VerifiedEvent::from_canonical`] reads it back without a JSON parser.

use std::fmt;

use bytes::Bytes;
use serde::Deserialize;

use super::Tag;
use crate::ids::{ClaimedId, EventId, PublicKey, Signature};

/// An event whose id was recomputed from its fields and whose signature is valid.
///
/// Only [`Verifier`](crate::Verifier) and [`Signer`](crate::Signer) create verified events.
/// [`from_canonical`](Self::from_canonical) reads back an event that they created.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifiedEvent {
    id: EventId,
    pubkey: PublicKey,
    created_at: u64,
    kind: u16,
    json: Bytes,
}

impl VerifiedEvent {
    pub const fn id(&self) -> EventId {
        self.id
    }

    /// The author.
    pub const fn pubkey(&self) -> &PublicKey {
        &self.pubkey
    }

    /// Unix time in seconds, as the author states it.
    pub const fn created_at(&self) -> u64 {
        self.created_at
    }

    pub const fn kind(&self) -> u16 {
        self.kind
    }

    /// The seven signed fields as JSON, in valid UTF-8.
    pub const fn json(&self) -> &Bytes {
        &self.json
    }

    /// The tags, parsed at each call without looking at the content.
    pub fn tags(&self) -> Vec<Tag<'_>> {
        // The text was written from parsed fields, so parsing the tags cannot fail.
        let tags = Head::read(&self.json).map(|head| head.tags_onward).unwrap_or_default();
        Vec::deserialize(&mut serde_json::Deserializer::from_slice(tags)).unwrap_or_default()
    }

    /// Reads back the text that [`json`](Self::json) returned, without verifying the event again.
    ///
    /// Use this function only for text that was stored where nobody else writes, because only the
    /// layout up to the tags is checked. `None` means that the text was certainly not written by
    /// this crate.
    pub fn from_canonical(json: Bytes) -> Option<Self> {
        let Head { id, pubkey, created_at, kind, tags_onward } = Head::read(&json)?;
        tags_onward.strip_prefix(b"[")?.strip_suffix(br#""}"#)?;
        Some(Self { id, pubkey, created_at, kind, json })
    }
}

/// The beginning of the canonical JSON.
struct Head<'a> {
    id: EventId,
    pubkey: PublicKey,
    created_at: u64,
    kind: u16,
    /// The text from the value of `tags` to the end.
    tags_onward: &'a [u8],
}

impl<'a> Head<'a> {
    fn read(json: &'a [u8]) -> Option<Self> {
        let (id, rest) = json.strip_prefix(br#"{"id":""#)?.split_at_checked(64)?;
        let (pubkey, rest) = rest.strip_prefix(br#"","pubkey":""#)?.split_at_checked(64)?;
        let (created_at, rest) = leading_number(rest.strip_prefix(br#"","created_at":"#)?)?;
        let (kind, rest) = leading_number(rest.strip_prefix(br#","kind":"#)?)?;
        Some(Self {
            id: EventId::new(*ClaimedId::from_hex(id).ok()?.as_bytes()),
            pubkey: PublicKey::from_hex(pubkey).ok()?,
            created_at,
            kind: kind.try_into().ok()?,
            tags_onward: rest.strip_prefix(br#","tags":"#)?,
        })
    }
}

fn leading_number(text: &[u8]) -> Option<(u64, &[u8])> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, rest) = text.split_at_checked(digits)?;
    Some((std::str::from_utf8(number).ok()?.parse().ok()?, rest))
}

impl fmt::Debug for VerifiedEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.json))
    }
}

/// NIP-01's serialisation of an event: the text whose SHA-256 is the id. The event's own JSON is
/// made from the same pieces.
#[derive(Debug, Default)]
pub(crate) struct Serialisation {
    text: Vec<u8>,
    tags_at: usize,
    content_at: usize,
}

impl Serialisation {
    /// Writes the text for these fields.
    ///
    /// NIP-01 lists JSON's seven short escapes and requires every other character verbatim.
    /// Verbatim control characters without a short escape would not be JSON. Clients write these
    /// characters as their JSON library does (`JSON.stringify`, `serde_json`), as `\u00xx` in lower
    /// case, and so does this function. DEL, the slash and everything beyond ASCII remain
    /// unchanged.
    pub fn write<T: AsRef<[S]>, S: std::ops::Deref<Target = str>>(
        &mut self,
        pubkey: &PublicKey,
        created_at: u64,
        kind: u16,
        tags: &[T],
        content: &str,
    ) {
        let text = &mut self.text;
        text.clear();
        text.extend_from_slice(b"[0,\"");
        pubkey.write_hex(text);
        text.extend_from_slice(b"\",");
        write_number(text, created_at);
        text.push(b',');
        write_number(text, kind.into());
        text.push(b',');
        self.tags_at = text.len();
        write_list(text, tags, |text, tag| {
            write_list(text, tag.as_ref(), |text, value| write_string(text, value));
        });
        text.push(b',');
        self.content_at = text.len();
        write_string(text, content);
        text.push(b']');
    }

    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// The event that results from these fields and a valid signature.
    pub fn to_verified(
        &self,
        id: EventId,
        pubkey: PublicKey,
        created_at: u64,
        kind: u16,
        sig: &Signature,
    ) -> VerifiedEvent {
        const FRAME: usize = 350; // The maximum size of the JSON without tags and content.
        let (head, content) = self.text.split_at(self.content_at);
        let tags = head.get(self.tags_at..).unwrap_or_default();
        let mut json = Vec::with_capacity(tags.len() + content.len() + FRAME);
        json.extend_from_slice(br#"{"id":""#);
        id.write_hex(&mut json);
        json.extend_from_slice(br#"","pubkey":""#);
        pubkey.write_hex(&mut json);
        json.extend_from_slice(br#"","created_at":"#);
        write_number(&mut json, created_at);
        json.extend_from_slice(br#","kind":"#);
        write_number(&mut json, kind.into());
        json.extend_from_slice(br#","tags":"#);
        json.extend_from_slice(tags);
        json.extend_from_slice(br#""content":"#);
        json.extend_from_slice(content.strip_suffix(b"]").unwrap_or(content));
        json.extend_from_slice(br#","sig":""#);
        sig.write_hex(&mut json);
        json.extend_from_slice(br#""}"#);
        VerifiedEvent { id, pubkey, created_at, kind, json: json.into() }
    }
}

fn write_list<T>(text: &mut Vec<u8>, items: &[T], write: impl Fn(&mut Vec<u8>, &T)) {
    text.push(b'[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        write(text, item);
    }
    text.push(b']');
}

fn write_number(text: &mut Vec<u8>, number: u64) {
    to_json(text, &number);
}

fn write_string(text: &mut Vec<u8>, value: &str) {
    to_json(text, value);
}

fn to_json<T: serde::Serialize + ?Sized>(text: &mut Vec<u8>, value: &T) {
    let written = serde_json::to_writer(&mut *text, value);
    debug_assert!(written.is_ok(), "numbers and strings go into memory without error");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Signer;

    #[test]
    fn what_was_written_reads_back_and_nothing_else_does() {
        let event = Signer::from_seed(1).sign(7, 1, &[vec!["e".to_owned(), "\u{1}\"".to_owned()]], "hi\n");
        assert_eq!(VerifiedEvent::from_canonical(event.json().clone()), Some(event.clone()));
        assert_eq!(event.tags()[0][1].to_string(), "\u{1}\"");
        let text = std::str::from_utf8(event.json()).expect("UTF-8");
        let kind = text.replace("\"kind\":1", "\"kind\":65536");
        assert_ne!(kind, text);
        for wrong in ["", "{}", &kind, &text.replace('{', " {")] {
            assert_eq!(VerifiedEvent::from_canonical(Bytes::copy_from_slice(wrong.as_bytes())), None);
        }
    }
}
