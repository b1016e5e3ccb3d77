//! Signed events that common relays accept, although they violate NIP-01 or are very large.

use bytes::Bytes;
use serde_json::json;
use wire::Signer;

/// The defect of a correctly signed event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Poison {
    /// `kind` is above 65535.
    Kind,
    /// A tag has an element that is a number.
    Tag,
    /// `content` is an object.
    Content,
    /// `content` has half of a surrogate pair, as written by `JSON.stringify`.
    Surrogate,
    /// `tags` is missing; the hashed text has an empty list.
    NoTags,
}

impl Poison {
    pub const ALL: [Self; 5] = [Self::Kind, Self::Tag, Self::Content, Self::Surrogate, Self::NoTags];
}

/// Creates the text of an event with this defect. `number` distinguishes events of the same second.
pub fn poison(signer: &Signer, poison: Poison, created_at: u64, number: u64) -> Bytes {
    let (mut kind, mut tags) = (1, json!([["n", number.to_string()]]));
    let mut content = r#""poison""#;
    match poison {
        Poison::Kind => kind = 70_000,
        Poison::Tag => tags = json!([["n", number]]),
        Poison::Content => content = r#"{"a":1}"#,
        Poison::Surrogate => content = r#""\ud83d""#,
        Poison::NoTags => tags = json!([]),
    }
    let pubkey = signer.pubkey();
    // Without tags, the number is part of the content.
    let numbered = format!(r#""poison {number}""#);
    let content = if poison == Poison::NoTags { &numbered } else { content };
    let signed = format!(r#"[0,"{pubkey}",{created_at},{kind},{tags},{content}]"#);
    let (id, sig) = signer.sign_text(signed.as_bytes());
    let tags = if poison == Poison::NoTags { String::new() } else { format!(r#","tags":{tags}"#) };
    let text = format!(
        r#"{{"id":"{id}","pubkey":"{pubkey}","created_at":{created_at},"kind":{kind}{tags},"content":{content},"sig":"{sig}"}}"#
    );
    text.into()
}

/// Creates the text of a genuine event whose content has this many bytes. With `content_first`, the
/// members are in alphabetical order, as some relays write them, so the content precedes date and
/// id.
pub fn oversized(signer: &Signer, created_at: u64, content_bytes: usize, content_first: bool) -> Bytes {
    let event = signer.sign(created_at, 1, &[] as &[Vec<String>], &"x".repeat(content_bytes));
    if !content_first {
        return event.json().clone();
    }
    let value: serde_json::Value = serde_json::from_slice(event.json()).unwrap_or_default();
    let member = |name: &str| format!("{}:{}", json!(name), value.get(name).unwrap_or(&json!(null)));
    let members = ["content", "created_at", "id", "kind", "pubkey", "sig", "tags"].map(member);
    format!("{{{}}}", members.join(",")).into()
}

#[cfg(test)]
mod tests {
    use wire::{UnverifiedEvent, Verifier, event::names_signature};

    use super::*;

    #[test]
    fn poison_is_signed_and_cannot_be_read() {
        let signer = Signer::from_seed(1);
        for sort in Poison::ALL {
            let text = poison(&signer, sort, 1_700_000_000, 7);
            assert!(UnverifiedEvent::parse(&text).is_err(), "{sort:?}");
            assert!(names_signature(&text), "{sort:?}");
            assert_eq!(wire::event::created_at(&text), Some(1_700_000_000), "{sort:?}");
            assert_ne!(text, poison(&signer, sort, 1_700_000_001, 7), "{sort:?}");
        }
    }

    #[test]
    fn oversized_events_are_genuine_in_any_order() {
        let signer = Signer::from_seed(1);
        for content_first in [false, true] {
            let text = oversized(&signer, 1_700_000_000, 300_000, content_first);
            let event = UnverifiedEvent::parse(&text).expect("well-formed");
            assert!(Verifier::new().verify(&event).is_ok());
            assert_eq!(text.starts_with(br#"{"content""#), content_first);
        }
    }
}
