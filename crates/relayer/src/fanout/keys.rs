//! What signals are encrypted with: NIP-44 conversation keys, and who has agreed on a secret.

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

/// What separates keys that follow from a shared secret from all others.
pub const SHARED_SECRET_SALT: &[u8] = b"moltrade-fanout-v1";

/// A NIP-44 conversation key. It is wiped when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct MessageKey(Zeroizing<[u8; 32]>);

impl MessageKey {
    /// The key that follows from a secret: HKDF-SHA256-extract (RFC 5869, section 2.2).
    pub fn from_shared_secret(secret: &[u8]) -> Self {
        let extracted = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SHARED_SECRET_SALT), secret);
        let mut key = Zeroizing::new([0; 32]);
        // SHA-256 has 32 bytes.
        key.iter_mut().zip(extracted.as_ref()).for_each(|(to, from)| *to = *from);
        Self(key)
    }

    /// The NIP-44 v2 payload of a text of 1 to 2^32 - 1 bytes, in base64: different each time. `None` for any other
    /// length.
    pub fn encrypt(&self, plaintext: &[u8]) -> Option<String> {
        let payload = encrypt_to_bytes_with_nonce(&ConversationKey::new(*self.0), plaintext, rand::random());
        payload.ok().map(|payload| STANDARD.encode(payload))
    }
}

impl fmt::Debug for MessageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MessageKey(***)")
    }
}

/// The conversation keys between the gateway and its followers. Deriving one costs as much as verifying a signature,
/// so those of the last [`CONVERSATION_KEYS_MAX`] followers are kept.
pub struct ConversationKeys {
    gateway: nostr::key::SecretKey,
    known: Cache<PublicKey, Arc<MessageKey>>,
}

impl ConversationKeys {
    /// Of the gateway with this key; `None` if it is no key, which a [`Signer`]'s always is.
    pub fn new(gateway: &Signer) -> Option<Self> {
        let gateway = nostr::key::SecretKey::from_slice(&*gateway.secret()).ok()?;
        Some(Self { gateway, known: Cache::new(CONVERSATION_KEYS_MAX) })
    }

    /// The key of the conversation with a follower (NIP-44); `None` if its public key is not on the curve.
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

    /// Vectors of the NIP-44 authors, sha256 269ed0f69e4c192512cc779e78c555090cebc7c785b609e338a62afc3ce25040; the file
    /// has more, which the library's own tests go through.
    #[test]
    fn conversation_keys_are_those_of_nip_44() {
        for (secret, public, expected) in [
            (
                "315e59ff51cb9209768cf7da80791ddcaae56ac9775eb25b6dee1234bc5d2268",
                "c2f9d9948dc8c7c38321e4b85c8558872eafa0641cd269db76848a6073e69133",
                "3dfef0ce2a4d80a25e7a328accf73448ef67096f65f79588e358d9a0eb9013f1",
            ),
            (
                "a1e37752c9fdc1273be53f68c5f74be7c8905728e8de75800b94262f9497c86e",
                "03bb7947065dde12ba991ea045132581d0954f042c84e06d8c00066e23c1a800",
                "4d14f36e81b8452128da64fe6f1eae873baae2f444b02c950b90e43553f2178b",
            ),
        ] {
            let mut bytes = [0; 32];
            faster_hex::hex_decode(secret.as_bytes(), &mut bytes).unwrap();
            let keys = ConversationKeys::new(&Signer::from_secret(&bytes).unwrap()).unwrap();
            let key = keys.with(&public.parse().unwrap()).unwrap();
            assert_eq!(faster_hex::hex_string(&*key.0), expected);
            assert!(Arc::ptr_eq(&keys.with(&public.parse().unwrap()).unwrap(), &key), "it is remembered");
        }
    }

    #[test]
    fn the_same_text_is_encrypted_differently_each_time() {
        let keys = ConversationKeys::new(&Signer::from_seed(1)).unwrap();
        let key = keys.with(Signer::from_seed(2).pubkey()).unwrap();
        let payloads: std::collections::HashSet<String> =
            (0..100).map(|_| key.encrypt(b"a signal").unwrap()).collect();
        assert_eq!(payloads.len(), 100);
        // The follower's half of the key is the gateway's.
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

    /// HMAC-SHA256("moltrade-fanout-v1", secret), as Python's `hmac` computes it.
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
