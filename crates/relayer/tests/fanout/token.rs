//! Valid and invalid proofs of a key: NIP-98 tokens and NIP-42 answers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};
use wire::{Signer, VerifiedEvent};

/// An unsigned NIP-98 token. A test can spoil each part.
#[derive(Debug, Clone)]
pub struct Token {
    pub kind: u16,
    pub created_at: u64,
    pub url: String,
    pub method: String,
    pub payload: Option<String>,
}

impl Token {
    /// A valid token.
    pub fn new(method: &str, url: String, body: &[u8]) -> Self {
        let payload = (!body.is_empty()).then(|| hash(body));
        Self { kind: 27_235, created_at: now(), url, method: method.to_owned(), payload }
    }

    pub fn sign(&self, signer: &Signer) -> VerifiedEvent {
        // Without a nonce, two tokens signed in the same second would be equal.
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed).to_string();
        let mut tags = vec![["u", &*self.url], ["method", &*self.method], ["nonce", &*count]];
        tags.extend(self.payload.as_ref().map(|payload| ["payload", &**payload]));
        signer.sign(self.created_at, self.kind, &tags, "")
    }

    /// Signs the token, and returns the value of the Authorization header.
    pub fn header(&self, signer: &Signer) -> String {
        header(self.sign(signer).json())
    }
}

/// The value of an Authorization header that contains this event.
pub fn header(event: &[u8]) -> String {
    format!("Nostr {}", STANDARD.encode(event))
}

/// The unsigned answer to a challenge. A test can spoil each part.
#[derive(Debug, Clone)]
pub struct AuthEvent {
    pub kind: u16,
    pub created_at: u64,
    pub relay: String,
    pub challenge: String,
}

impl AuthEvent {
    /// A valid answer.
    pub fn new(challenge: &str, relay: String) -> Self {
        Self { kind: 22_242, created_at: now(), relay, challenge: challenge.to_owned() }
    }

    pub fn sign(&self, signer: &Signer) -> VerifiedEvent {
        let tags = [["relay", &*self.relay], ["challenge", &*self.challenge]];
        signer.sign(self.created_at, self.kind, &tags, "")
    }
}

/// The event with the signature of a different event by the same key.
pub fn tampered(event: &VerifiedEvent, signer: &Signer) -> String {
    let other = signer.sign(event.created_at(), 1, &[[""]; 0], "another");
    let signature = |event: &VerifiedEvent| {
        let text = text(event);
        text.split(r#""sig":""#).nth(1).expect("a signature")[..128].to_owned()
    };
    text(event).replace(&signature(event), &signature(&other))
}

pub fn text(event: &VerifiedEvent) -> String {
    String::from_utf8(event.json().to_vec()).expect("UTF-8")
}

/// SHA-256 in hex.
pub fn hash(body: &[u8]) -> String {
    faster_hex::hex_string(digest(&SHA256, body).as_ref())
}

/// Unix seconds.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}
