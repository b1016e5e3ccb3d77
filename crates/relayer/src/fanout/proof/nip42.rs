//! NIP-42: a client signs a challenge that belongs to one connection.

use rand::Rng;
use wire::{PublicKey, UnverifiedEvent};

use super::{BadProof, ProofVerifier, check};
use crate::limits::ANSWER_SECS_MAX;

/// The kind of the signed answer.
const KIND: u16 = 22_242;

/// The challenge of one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Challenge(String);

impl Challenge {
    /// Creates a challenge of 256 random bits.
    pub fn random() -> Self {
        let mut bytes = [0; 32];
        rand::rng().fill_bytes(&mut bytes);
        Self(faster_hex::hex_string(&bytes))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ProofVerifier {
    /// Returns the key that signed the answer to a challenge.
    pub(crate) fn verify_answer(
        &self,
        event: &UnverifiedEvent<'_>,
        challenge: &Challenge,
    ) -> Result<PublicKey, BadProof> {
        if !self.can_verify() {
            return Err(BadProof::NoPublicUrl);
        }
        check(event, KIND, ANSWER_SECS_MAX, self.clock.unix_secs())?;
        if event.tag_value("challenge") != Some(challenge.as_str()) {
            return Err(BadProof::Challenge);
        }
        let relay = event.tag_value("relay").unwrap_or_default();
        if !self.gateway_url.matches_relay(relay) {
            return Err(BadProof::Url { tag: "relay", expected: self.gateway_url.expected("/fanout") });
        }
        self.verify(event)
    }
}
