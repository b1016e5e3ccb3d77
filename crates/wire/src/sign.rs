//! Signing, for simulated authors and for the gateway's own events (NIP-42, NIP-98).

use secp256k1::{Keypair, Secp256k1, SignOnly};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::event::{Serialisation, VerifiedEvent};
use crate::ids::{ClaimedId, PublicKey, Signature};
use crate::verify::hash;

/// A secret key that signs events.
pub struct Signer {
    secp: Secp256k1<SignOnly>,
    keypair: Keypair,
    pubkey: PublicKey,
}

impl Signer {
    /// A signer for a secret key; `None` if the bytes are not a valid secret key (zero, or not
    /// below the order of the curve).
    pub fn from_secret(secret: &[u8; 32]) -> Option<Self> {
        let secp = Secp256k1::signing_only();
        let keypair = Keypair::from_seckey_slice(&secp, secret).ok()?;
        let pubkey = PublicKey::from_bytes(keypair.x_only_public_key().0.serialize());
        Some(Self { secp, keypair, pubkey })
    }

    /// A signer whose key is derived from a number that anybody can guess: for simulated authors
    /// only.
    pub fn from_seed(seed: u64) -> Self {
        let mut secret: [u8; 32] = Sha256::digest(seed.to_le_bytes()).into();
        loop {
            if let Some(signer) = Self::from_secret(&secret) {
                return signer;
            }
            secret = Sha256::digest(secret).into();
        }
    }

    /// The public key for this signer's signatures.
    pub const fn pubkey(&self) -> &PublicKey {
        &self.pubkey
    }

    /// The secret key, for deriving other keys. The returned copy is wiped when it is dropped.
    pub fn secret(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.keypair.secret_bytes())
    }

    /// Signs any text as if it were NIP-01's serialisation of an event: returns the text's hash and
    /// the signature of the hash. For tests that need texts that NIP-01 forbids.
    pub fn sign_text(&self, text: &[u8]) -> (ClaimedId, Signature) {
        let id: [u8; 32] = Sha256::digest(text).into();
        let sig = self.secp.sign_schnorr_no_aux_rand(&id, &self.keypair);
        (ClaimedId::from_bytes(id), Signature::from_bytes(sig.to_byte_array()))
    }

    /// Creates and signs an event. The same fields give the same signature.
    pub fn sign<T: AsRef<[S]>, S: std::ops::Deref<Target = str>>(
        &self,
        created_at: u64,
        kind: u16,
        tags: &[T],
        content: &str,
    ) -> VerifiedEvent {
        let mut serialisation = Serialisation::default();
        serialisation.write(&self.pubkey, created_at, kind, tags, content);
        let id = hash(&serialisation);
        let sig = self.secp.sign_schnorr_no_aux_rand(id.as_bytes(), &self.keypair);
        let sig = Signature::from_bytes(sig.to_byte_array());
        serialisation.to_verified(id, self.pubkey, created_at, kind, &sig)
    }
}

impl Drop for Signer {
    fn drop(&mut self) {
        self.keypair.non_secure_erase();
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signer({})", self.pubkey)
    }
}
