//! The keys that encrypt signals: NIP-44 conversation keys, and keys from shared secrets.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nostr::nips::nip44::v2::{ConversationKey, encrypt_to_bytes_with_nonce};
use quick_cache::sync::Cache;
use ring::hmac;
use wire::{PublicKey, Signer};
use zeroize::Zeroizing;

use crate::limits::CONVERSATION_KEYS_MAX;

/// The HKDF salt: it separates keys that are derived from a shared secret from all other keys.
pub(crate) const SHARED_SECRET_SALT: &[u8] = b"moltrade-fanout-v1";

/// A NIP-44 conversation key. The memory is wiped on drop.
#[derive(Clone, PartialEq, Eq)]
pub struct MessageKey(Zeroizing<[u8; 32]>);

impl MessageKey {
    /// Derives a key from a secret with HKDF-SHA256-extract (RFC 5869, section 2.2).
    pub fn from_shared_secret(secret: &[u8]) -> Self {
        let extracted = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SHARED_SECRET_SALT), secret);
        let mut key = Zeroizing::new([0; 32]);
        // A SHA-256 hash has 32 bytes.
        key.iter_mut().zip(extracted.as_ref()).for_each(|(to, from)| *to = *from);
        Self(key)
    }

    /// Returns the NIP-44 v2 payload in base64, with a random nonce. Returns `None` unless the text
    /// has 1 to 2^32 - 1 bytes.
    pub(crate) fn encrypt(&self, plaintext: &[u8]) -> Option<String> {
        self.encrypt_with(plaintext, rand::random())
    }

    fn encrypt_with(&self, plaintext: &[u8], nonce: [u8; 32]) -> Option<String> {
        let payload = encrypt_to_bytes_with_nonce(&ConversationKey::new(*self.0), plaintext, nonce);
        payload.ok().map(|payload| STANDARD.encode(payload))
    }
}

impl fmt::Debug for MessageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MessageKey(***)")
    }
}

/// The conversation keys between the gateway and its followers. Deriving a key costs as much as
/// verifying a signature, so the last [`CONVERSATION_KEYS_MAX`] keys are cached.
pub struct ConversationKeys {
    gateway: nostr::key::SecretKey,
    known: Cache<PublicKey, Arc<MessageKey>>,
}

impl ConversationKeys {
    /// Returns `None` if the gateway's key is invalid, which the key of a [`Signer`] never is.
    pub fn new(gateway: &Signer) -> Option<Self> {
        let gateway = nostr::key::SecretKey::from_slice(&*gateway.secret()).ok()?;
        Some(Self { gateway, known: Cache::new(CONVERSATION_KEYS_MAX) })
    }

    /// The number of keys in memory.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// Returns the NIP-44 conversation key with a follower. `None` if the public key is not on the
    /// curve.
    pub fn with(&self, follower: &PublicKey) -> Option<Arc<MessageKey>> {
        let key = self.known.get_or_insert_with(follower, || {
            let point = nostr::key::PublicKey::from_byte_array(*follower.as_bytes());
            let key = ConversationKey::derive(&self.gateway, &point).map_err(|_| ())?;
            let bytes: [u8; 32] = key.as_bytes().try_into().map_err(|_| ())?;
            Ok::<_, ()>(Arc::new(MessageKey(Zeroizing::new(bytes))))
        });
        key.ok()
    }
}

impl fmt::Debug for ConversationKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConversationKeys({} known)", self.known.len())
    }
}

#[cfg(test)]
mod tests {
    use nostr::nips::nip44::v2::decrypt_to_bytes;

    use super::*;

    fn decrypted(key: &[u8; 32], payload: &str) -> Vec<u8> {
        decrypt_to_bytes(&ConversationKey::new(*key), &STANDARD.decode(payload).unwrap()).unwrap()
    }

    /// The official NIP-44 vectors, SHA-256
    /// 269ed0f69e4c192512cc779e78c555090cebc7c785b609e338a62afc3ce25040.
    fn vectors() -> serde_json::Value {
        let text = include_str!("../../tests/vectors/nip44.json");
        serde_json::from_str::<serde_json::Value>(text).unwrap()["v2"].clone()
    }

    fn hex(value: &serde_json::Value) -> [u8; 32] {
        let mut bytes = [0; 32];
        faster_hex::hex_decode(value.as_str().unwrap().as_bytes(), &mut bytes).unwrap();
        bytes
    }

    fn conversation(secret: [u8; 32], public: [u8; 32]) -> Option<Arc<MessageKey>> {
        let keys = ConversationKeys::new(&Signer::from_secret(&secret)?)?;
        let key = keys.with(&PublicKey::from_bytes(public))?;
        assert!(Arc::ptr_eq(&keys.with(&PublicKey::from_bytes(public))?, &key), "it is remembered");
        Some(key)
    }

    #[test]
    fn conversation_keys_are_those_of_the_official_vectors() {
        let vectors = vectors();
        let valid = vectors["valid"]["get_conversation_key"].as_array().unwrap();
        for case in valid {
            let key = conversation(hex(&case["sec1"]), hex(&case["pub2"])).unwrap();
            assert_eq!(*key.0, hex(&case["conversation_key"]));
        }
        let invalid = vectors["invalid"]["get_conversation_key"].as_array().unwrap();
        for case in invalid {
            assert!(conversation(hex(&case["sec1"]), hex(&case["pub2"])).is_none(), "{case}");
        }
        assert_eq!((valid.len(), invalid.len()), (35, 8));
    }

    #[test]
    fn payloads_are_those_of_the_official_vectors() {
        let vectors = vectors();
        let short = vectors["valid"]["encrypt_decrypt"].as_array().unwrap();
        for case in short {
            let public = *Signer::from_secret(&hex(&case["sec2"])).unwrap().pubkey();
            let key = conversation(hex(&case["sec1"]), *public.as_bytes()).unwrap();
            assert_eq!(*key.0, hex(&case["conversation_key"]));
            let plaintext = case["plaintext"].as_str().unwrap();
            let payload = key.encrypt_with(plaintext.as_bytes(), hex(&case["nonce"]));
            assert_eq!(payload.as_deref(), case["payload"].as_str());
        }
        let long = vectors["valid"]["encrypt_decrypt_long_msg"].as_array().unwrap();
        for case in long {
            let key = MessageKey(Zeroizing::new(hex(&case["conversation_key"])));
            let repeat = usize::try_from(case["repeat"].as_u64().unwrap()).unwrap();
            let plaintext = case["pattern"].as_str().unwrap().repeat(repeat);
            let payload = key.encrypt_with(plaintext.as_bytes(), hex(&case["nonce"])).unwrap();
            let sha256 = ring::digest::digest(&ring::digest::SHA256, payload.as_bytes());
            assert_eq!(sha256.as_ref(), hex(&case["payload_sha256"]));
        }
        assert_eq!((short.len(), long.len()), (10, 3));
    }

    #[test]
    fn the_same_text_is_encrypted_differently_each_time() {
        let keys = ConversationKeys::new(&Signer::from_seed(1)).unwrap();
        let key = keys.with(Signer::from_seed(2).pubkey()).unwrap();
        let payloads: std::collections::HashSet<String> =
            (0..100).map(|_| key.encrypt(b"a signal").unwrap()).collect();
        assert_eq!(payloads.len(), 100);
        // Both sides derive the same key.
        let theirs = ConversationKeys::new(&Signer::from_seed(2)).unwrap();
        let theirs = theirs.with(Signer::from_seed(1).pubkey()).unwrap();
        assert!(payloads.iter().all(|payload| decrypted(&theirs.0, payload) == b"a signal"));
        assert_eq!(key.encrypt(b""), None);
    }

    #[test]
    fn a_key_off_the_curve_has_no_conversation() {
        let keys = ConversationKeys::new(&Signer::from_seed(1)).unwrap();
        assert!(keys.with(&PublicKey::from_bytes([0xff; 32])).is_none());
    }

    /// The expected value is HMAC-SHA256("moltrade-fanout-v1", secret) from Python's `hmac`.
    #[test]
    fn a_shared_secret_gives_a_key_by_hkdf_extract() {
        let key = MessageKey::from_shared_secret(b"correct horse battery staple");
        assert_eq!(
            faster_hex::hex_string(&*key.0),
            "3894c5f86290740b56be0fb33bcbff33253dcb57e0ab8e64c448e102c9f000ee"
        );
        assert_eq!(format!("{key:?}"), "MessageKey(***)");
    }
}
