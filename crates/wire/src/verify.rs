//! Verification: the id is NIP-01's SHA-256 of the event, and the signature is a BIP-340 signature
//! of that id.

use secp256k1::{Secp256k1, VerifyOnly, XOnlyPublicKey, schnorr};
use sha2::{Digest, Sha256};

use crate::event::{Serialisation, UnverifiedEvent, VerifiedEvent};
use crate::ids::{EventId, PublicKey, Signature};

/// Why an event is not genuine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The fields do not hash to the claimed id.
    #[error("the id is not the hash of the event")]
    IdMismatch,
    /// The public key is not a point of secp256k1.
    #[error("the public key is not on the curve")]
    PublicKeyOffCurve,
    /// The signature is invalid.
    #[error("the signature is wrong")]
    BadSignature,
}

/// Verifies events. A verifier owns buffers and parsed keys, so each thread has its own verifier.
#[derive(Debug)]
pub struct Verifier {
    secp: Secp256k1<VerifyOnly>,
    keys: KeyCache,
    serialisation: Serialisation,
}

impl Default for Verifier {
    fn default() -> Self {
        Self::new()
    }
}

impl Verifier {
    /// A verifier with an empty key cache, about 400 KB.
    pub fn new() -> Self {
        Self {
            secp: Secp256k1::verification_only(),
            keys: KeyCache::new(),
            serialisation: Serialisation::default(),
        }
    }

    /// Recomputes the id, checks the signature, and serialises the event from its signed fields.
    ///
    /// # Errors
    /// When the event differs from what its author signed.
    pub fn verify(&mut self, event: &UnverifiedEvent<'_>) -> Result<VerifiedEvent, VerifyError> {
        let UnverifiedEvent { pubkey, created_at, kind, .. } = *event;
        self.serialisation.write(&pubkey, created_at, kind, &event.tags, &event.content);
        let id = hash(&self.serialisation);
        if id != event.id {
            return Err(VerifyError::IdMismatch);
        }
        self.verify_signature(&pubkey, id.as_bytes(), &event.sig)?;
        Ok(self.serialisation.to_verified(id, pubkey, created_at, kind, &event.sig))
    }

    /// Checks a BIP-340 signature of a 32-byte message.
    ///
    /// # Errors
    /// [`VerifyError::PublicKeyOffCurve`] or [`VerifyError::BadSignature`].
    pub fn verify_signature(
        &mut self,
        pubkey: &PublicKey,
        message: &[u8; 32],
        sig: &Signature,
    ) -> Result<(), VerifyError> {
        let key = self.keys.parse(pubkey).ok_or(VerifyError::PublicKeyOffCurve)?;
        let sig = schnorr::Signature::from_byte_array(*sig.as_bytes());
        self.secp.verify_schnorr(&sig, message, &key).map_err(|_| VerifyError::BadSignature)
    }
}

pub(crate) fn hash(serialisation: &Serialisation) -> EventId {
    EventId::new(Sha256::digest(serialisation.text()).into())
}

/// A cache of parsed public keys, because parsing a key costs about a seventh of a verification. A
/// new key replaces the key in its slot.
#[derive(Debug)]
struct KeyCache {
    places: Box<[Option<(PublicKey, XOnlyPublicKey)>]>,
}

impl KeyCache {
    /// The number of slots, 100 bytes each. A few thousand authors write most of the events at any
    /// time.
    const PLACES: usize = 4096;

    fn new() -> Self {
        Self { places: vec![None; Self::PLACES].into() }
    }

    fn place(pubkey: &PublicKey) -> usize {
        let [a, b, ..] = *pubkey.as_bytes();
        usize::from(u16::from_le_bytes([a, b])) % Self::PLACES
    }

    fn parse(&mut self, pubkey: &PublicKey) -> Option<XOnlyPublicKey> {
        let place = self.places.get_mut(Self::place(pubkey))?;
        match place {
            Some((known, key)) if known == pubkey => Some(*key),
            _ => {
                let key = XOnlyPublicKey::from_slice(pubkey.as_bytes()).ok()?;
                *place = Some((*pubkey, key));
                Some(key)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Signer;

    fn verify(json: &str) -> Result<VerifiedEvent, VerifyError> {
        Verifier::new().verify(&UnverifiedEvent::parse(json.as_bytes()).expect("well-formed"))
    }

    fn signed() -> String {
        let event =
            Signer::from_seed(3).sign(1_700_000_000, 1, &[vec!["t".to_owned(), "x".to_owned()]], "hello");
        String::from_utf8(event.json().to_vec()).expect("UTF-8")
    }

    #[test]
    fn a_signed_event_verifies_to_itself() {
        let json = signed();
        assert_eq!(verify(&json).expect("genuine").json(), json.as_bytes());
    }

    #[test]
    fn unsigned_extras_do_not_pass() {
        let extended = signed().replacen('{', r#"{"extra":{"id":"x"}, "#, 1);
        assert_eq!(verify(&extended).expect("genuine").json(), signed().as_bytes());
    }

    #[test]
    fn every_altered_field_is_noticed() {
        for (from, to) in [
            ("hello", "hullo"),
            ("\"x\"", "\"y\""),
            ("1700000000", "1700000001"),
            ("\"kind\":1", "\"kind\":2"),
        ] {
            assert_eq!(verify(&signed().replace(from, to)), Err(VerifyError::IdMismatch), "{to}");
        }
        let json = signed();
        let other = Signer::from_seed(4).sign(1, 1, &[] as &[Vec<String>], "");
        let other = UnverifiedEvent::parse(other.json()).expect("well-formed").sig;
        let sig = UnverifiedEvent::parse(json.as_bytes()).expect("well-formed").sig;
        assert_eq!(
            verify(&json.replace(&sig.to_string(), &other.to_string())),
            Err(VerifyError::BadSignature)
        );
    }

    #[test]
    fn a_key_off_the_curve_is_named() {
        let pubkey = PublicKey::from_bytes([0xff; 32]);
        let mut serialisation = Serialisation::default();
        serialisation.write(&pubkey, 1, 1, &[] as &[Vec<&str>], "");
        let event =
            serialisation.to_verified(hash(&serialisation), pubkey, 1, 1, &Signature::from_bytes([1; 64]));
        let event = String::from_utf8(event.json().to_vec()).expect("UTF-8");
        assert_eq!(verify(&event), Err(VerifyError::PublicKeyOffCurve));
    }

    #[test]
    fn authors_on_one_place_of_the_key_cache_are_told_apart() {
        let place = |signer: &Signer| KeyCache::place(signer.pubkey());
        let mut signers: Vec<Signer> = (0..1000).map(Signer::from_seed).collect();
        signers.sort_by_key(place);
        let pair = signers.windows(2).find(|pair| place(&pair[0]) == place(&pair[1])).expect("a pair");
        let (first, second) = (&pair[0], &pair[1]);
        let mut verifier = Verifier::new();
        for signer in [first, second, first] {
            let event = signer.sign(1, 1, &[] as &[Vec<String>], "");
            let parsed = UnverifiedEvent::parse(event.json()).expect("well-formed");
            assert_eq!(verifier.verify(&parsed), Ok(event.clone()));
            let (id, sig) = (event.id(), parsed.sig);
            let other = if signer.pubkey() == first.pubkey() { second } else { first };
            assert_eq!(
                verifier.verify_signature(other.pubkey(), id.as_bytes(), &sig),
                Err(VerifyError::BadSignature)
            );
        }
    }
}
