//! The items that relays serve: genuine events, forgeries, and lines from files.
//!
//! An [`Item`] is a text for an `EVENT` frame. Items are created before the start, or when the
//! first relay serves them ([`Slot`]).

mod forge;
mod generate;
mod jsonl;
mod poison;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use wire::{EventId, UnverifiedEvent, VerifiedEvent, Verifier};

pub use forge::{Forgery, forge};
pub use generate::{Generator, Sizes};
pub use jsonl::{JsonlError, read_jsonl};
pub use poison::{Poison, oversized, poison};

/// Whether an item's text is genuine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A genuine event.
    Genuine,
    /// An altered event.
    Forged(Forgery),
    /// A text that does not verify, from a file or a test.
    Invalid,
}

/// One event text as relays serve it.
#[derive(Debug, Clone)]
pub struct Item {
    /// The text of the event object.
    pub text: Bytes,
    /// The values that filters match; for an item that is not genuine, the values that it claims.
    pub claims: VerifiedEvent,
    /// Whether the text is genuine.
    pub origin: Origin,
}

impl Item {
    /// An event that is known to be genuine.
    pub fn genuine(event: VerifiedEvent) -> Self {
        Self { text: event.json().clone(), claims: event, origin: Origin::Genuine }
    }

    /// An item with any text; verifies the text to set the origin. Filters use `created_at` if the
    /// text has no date.
    pub fn from_text(text: Bytes, created_at: u64, verifier: &mut Verifier) -> Self {
        let parsed = UnverifiedEvent::parse(&text).ok();
        if let Some(Ok(event)) = parsed.as_ref().map(|event| verifier.verify(event)) {
            return Self { text, claims: event, origin: Origin::Genuine };
        }
        let claims = claims_of(&text, created_at);
        Self { text, claims, origin: Origin::Invalid }
    }

    pub fn genuine_id(&self) -> Option<EventId> {
        (self.origin == Origin::Genuine).then(|| self.claims.id())
    }
}

/// The claims of a malformed event, with zeros for unreadable values, so that filters can match it.
fn claims_of(text: &[u8], created_at: u64) -> VerifiedEvent {
    let value: serde_json::Value = serde_json::from_slice(text).unwrap_or_default();
    let hex = |key: &str| {
        let hex = value.get(key).and_then(serde_json::Value::as_str).unwrap_or_default();
        let well_formed = hex.parse::<wire::ClaimedId>().is_ok();
        if well_formed { hex.to_owned() } else { "0".repeat(64) }
    };
    let number = |key: &str| value.get(key).and_then(serde_json::Value::as_u64);
    let tags: Vec<Vec<String>> =
        value.get("tags").and_then(|tags| serde_json::from_value(tags.clone()).ok()).unwrap_or_default();
    let kind = number("kind").filter(|kind| *kind <= u16::MAX.into()).unwrap_or(1);
    let json = format!(
        r#"{{"id":"{}","pubkey":"{}","created_at":{},"kind":{kind},"tags":{},"content":"","sig":"{}"}}"#,
        hex("id"),
        hex("pubkey"),
        // If strings are not Unicode, only the date can be read.
        number("created_at").or_else(|| wire::event::created_at(text)).unwrap_or(created_at),
        serde_json::Value::from_iter(tags),
        "0".repeat(128),
    );
    // This text is always canonical. Only filters use it; it is never sent.
    VerifiedEvent::from_canonical(json.into()).unwrap_or_else(|| nothing(created_at))
}

fn nothing(created_at: u64) -> VerifiedEvent {
    wire::Signer::from_seed(0).sign(created_at, 1, &[] as &[Vec<String>], "")
}

/// One item, perhaps not created yet, and the time at which its first copy was written.
#[derive(Debug, Default)]
pub struct Slot {
    item: OnceLock<Item>,
    /// Unix time in microseconds; 0 before the first copy is written.
    first_sent_us: AtomicU64,
}

impl Slot {
    /// A slot whose item exists.
    pub fn filled(item: Item) -> Self {
        Self { item: OnceLock::from(item), first_sent_us: AtomicU64::new(0) }
    }

    /// The item, if it exists.
    pub fn get(&self) -> Option<&Item> {
        self.item.get()
    }

    /// The item, created now if it does not exist.
    pub fn get_or_make(&self, make: impl FnOnce() -> Item) -> &Item {
        self.item.get_or_init(make)
    }

    /// When the first copy entered a socket's buffer (Unix microseconds).
    pub fn first_sent_us(&self) -> Option<u64> {
        Some(self.first_sent_us.load(Ordering::Relaxed)).filter(|time| *time != 0)
    }

    /// Records that a copy is written; `true` if it is the first.
    pub fn note_sent(&self, now_us: u64) -> bool {
        // Most copies are not the first, and cost only a load.
        self.first_sent_us.load(Ordering::Relaxed) == 0
            && self
                .first_sent_us
                .compare_exchange(0, now_us.max(1), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}
