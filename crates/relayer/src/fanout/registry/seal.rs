//! Encrypts secrets at rest with XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03). The encryption
//! key is derived from the gateway's key.
//!
//! The keys of bot and follower are associated data, so a secret that is moved to another row
//! cannot be opened.

use std::fmt;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use ring::hkdf;
use wire::Signer;
use zeroize::Zeroizing;

use super::row::FollowKey;

/// The HKDF salt: it separates the sealing key from other keys that the gateway's key yields.
const SALT: &[u8] = b"moltrade-relayer registry secrets v1";

/// The first byte of a sealed secret.
const VERSION: u8 = 1;

const NONCE_BYTES: usize = 24;

/// A sealed secret: version, nonce, ciphertext and tag.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedSecret(Box<[u8]>);

impl SealedSecret {
    /// The maximum length of a sealed secret: that of a secret plus the overhead of sealing.
    pub(crate) const BYTES_MAX: usize = 1 + NONCE_BYTES + crate::limits::SHARED_SECRET_BYTES_MAX + 16;

    /// Returns `None` if there are too many bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        (bytes.len() <= Self::BYTES_MAX).then(|| Self(bytes.into()))
    }

    /// The stored form.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SealedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedSecret({} bytes)", self.0.len())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a secret cannot be opened: it was sealed with another key or for another row, or it is damaged")]
pub struct UnsealError;

/// Seals and opens secrets.
pub struct Sealer(XChaCha20Poly1305);

impl Sealer {
    /// Derives the sealing key from the gateway's key.
    pub fn new(gateway: &Signer) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        let secret = hkdf::Salt::new(hkdf::HKDF_SHA256, SALT).extract(&*gateway.secret());
        // HKDF-SHA256 yields up to 8,160 bytes, so 32 bytes cannot fail.
        let filled = secret.expand(&[], hkdf::HKDF_SHA256).and_then(|output| output.fill(&mut *key));
        debug_assert!(filled.is_ok());
        Self(XChaCha20Poly1305::new((&*key).into()))
    }

    /// Seals a follow's secret, with a random nonce.
    pub fn seal(&self, follow: &FollowKey, secret: &[u8]) -> SealedSecret {
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let payload = Payload { msg: secret, aad: &associated(follow) };
        // Encryption fails only above 256 GiB.
        let ciphertext = self.0.encrypt(XNonce::from_slice(&nonce), payload).unwrap_or_default();
        SealedSecret([&[VERSION], nonce.as_slice(), &ciphertext].concat().into())
    }

    /// Opens a follow's secret.
    ///
    /// # Errors
    /// When the secret was not sealed with this key for this follow.
    pub fn open(&self, follow: &FollowKey, sealed: &SealedSecret) -> Result<Zeroizing<Vec<u8>>, UnsealError> {
        let rest = sealed.0.strip_prefix(&[VERSION]).ok_or(UnsealError)?;
        let (nonce, ciphertext) = rest.split_at_checked(NONCE_BYTES).ok_or(UnsealError)?;
        let payload = Payload { msg: ciphertext, aad: &associated(follow) };
        let secret = self.0.decrypt(XNonce::from_slice(nonce), payload);
        secret.map(Zeroizing::new).map_err(|_| UnsealError)
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(***)")
    }
}

fn associated(follow: &FollowKey) -> [u8; 64] {
    let mut identity = [0; 64];
    let (bot, follower) = identity.split_at_mut(32);
    bot.copy_from_slice(follow.bot.as_bytes());
    follower.copy_from_slice(follow.follower.as_bytes());
    identity
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(bot: u64, follower: u64) -> FollowKey {
        FollowKey { bot: *Signer::from_seed(bot).pubkey(), follower: *Signer::from_seed(follower).pubkey() }
    }

    #[test]
    fn a_secret_opens_only_with_its_key_and_for_its_row() {
        let (sealer, follow) = (Sealer::new(&Signer::from_seed(1)), key(2, 3));
        let sealed = sealer.seal(&follow, b"sixteen bytes ok");
        assert_eq!(sealer.open(&follow, &sealed).unwrap().as_slice(), b"sixteen bytes ok");
        assert_eq!(Sealer::new(&Signer::from_seed(1)).open(&follow, &sealed).unwrap().len(), 16);
        assert_ne!(sealer.seal(&follow, b"sixteen bytes ok"), sealed);
        assert!(!sealed.as_bytes().windows(7).any(|part| part == b"sixteen"));
        for other in [key(3, 2), key(2, 4), key(4, 3)] {
            assert_eq!(sealer.open(&other, &sealed), Err(UnsealError));
        }
        assert_eq!(Sealer::new(&Signer::from_seed(9)).open(&follow, &sealed), Err(UnsealError));
    }

    #[test]
    fn a_damaged_secret_does_not_open() {
        let (sealer, follow) = (Sealer::new(&Signer::from_seed(1)), key(2, 3));
        let sealed = sealer.seal(&follow, b"secret");
        for index in 0..sealed.as_bytes().len() {
            let mut bytes = sealed.as_bytes().to_vec();
            bytes[index] ^= 1;
            let changed = SealedSecret::from_bytes(&bytes).unwrap();
            assert_eq!(sealer.open(&follow, &changed), Err(UnsealError), "{index}");
            let cut = SealedSecret::from_bytes(&bytes[..index]).unwrap();
            assert_eq!(sealer.open(&follow, &cut), Err(UnsealError), "{index}");
        }
        assert!(SealedSecret::from_bytes(&[1; SealedSecret::BYTES_MAX + 1]).is_none());
    }
}
