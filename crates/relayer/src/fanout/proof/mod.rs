//! Who holds a key: NIP-42 on a WebSocket, NIP-98 on a request.
//!
//! Both are a signed event that says for whom and for what it was signed: [`gateway_url`] is what we are called. What was
//! proved to somebody else, for something else, at another time or before is no proof here.

pub mod gateway_url;
pub mod nip42;
pub mod nip98;
mod used_tokens;

use enum_map::Enum;
use parking_lot::Mutex;
use strum::{EnumDiscriminants, IntoStaticStr};
use wire::{ParseError, PublicKey, UnverifiedEvent, Verifier, VerifyError};

use gateway_url::GatewayUrl;
use used_tokens::UsedTokens;

use crate::clock::Clock;

/// Why something proves nothing. The text tells who sent it how to mend it, and says nothing of what it holds.
#[derive(EnumDiscriminants, Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[strum_discriminants(
    name(BadProofReason),
    derive(Enum, IntoStaticStr),
    strum(serialize_all = "snake_case"),
    doc = "Why something proves nothing, as it is counted."
)]
pub enum BadProof {
    /// It is no event, or too long for one.
    #[error("it is no base64 of a signed event")]
    NotEncoded,
    /// The event is malformed.
    #[error("its event is malformed: {0}")]
    Malformed(ParseError),
    /// The event is for something else.
    #[error("its event must be of kind {expected}")]
    Kind {
        /// The kind that it must be of.
        expected: u16,
    },
    /// The event is too old.
    #[error("it has expired: created_at must be within {0} seconds of the gateway's clock; sign a new one")]
    Expired(u64),
    /// The event is dated ahead.
    #[error(
        "it is dated ahead: created_at must be within {0} seconds of the gateway's clock; set your clock"
    )]
    Future(u64),
    /// It is older than this process, or dated in a time that the clock has shown twice, so nobody
    /// knows whether it was used before.
    #[error("it was signed before the gateway started, or before its clock was set; sign a new one")]
    BeforeStart,
    /// It was signed for somebody else.
    #[error("it was signed for another URL than this request's: its `{tag}` tag must be {expected}")]
    Url {
        /// The tag that names the URL.
        tag: &'static str,
        /// What the tag must be.
        expected: Box<str>,
    },
    /// It was signed for another method.
    #[error("it was signed for another method than this request's")]
    Method,
    /// It was signed for another body, or for none.
    #[error("its `payload` tag is not the SHA-256 of this body in hex")]
    Payload,
    /// It answers to another challenge.
    #[error("it answers to another challenge than this connection's")]
    Challenge,
    /// The signature or the id is wrong.
    #[error("its event is forged: {0}")]
    Forged(VerifyError),
    /// It was used before.
    #[error("it was used before; sign a new one for each request")]
    Replayed,
    /// Nobody can prove anything to a gateway that does not know its name.
    #[error(
        "the gateway does not know what it is called from outside; its operator must set public_url under [api]"
    )]
    NoPublicUrl,
    /// No more tokens can be remembered.
    #[error("too many tokens were used in the last minutes; try again in a minute")]
    TooMany,
}

/// What checks proofs.
#[derive(Debug)]
pub struct ProofVerifier {
    gateway_url: GatewayUrl,
    /// A check takes 50 us, so those who wait for this do not wait long.
    verifier: Mutex<Verifier>,
    used_tokens: Mutex<UsedTokens>,
    clock: Clock,
}

impl ProofVerifier {
    /// For a gateway that is called so, and has used this clock since its start.
    pub fn new(gateway_url: GatewayUrl, clock: Clock) -> Self {
        let (verifier, used_tokens) = (Mutex::new(Verifier::new()), Mutex::default());
        Self { gateway_url, verifier, used_tokens, clock }
    }

    /// Whether anybody can prove anything.
    pub const fn can_verify(&self) -> bool {
        !matches!(self.gateway_url, GatewayUrl::Unknown)
    }

    /// Verifies an event that says the right things.
    fn verify(&self, event: &UnverifiedEvent<'_>) -> Result<PublicKey, BadProof> {
        let verified = self.verifier.lock().verify(event).map_err(BadProof::Forged)?;
        Ok(*verified.pubkey())
    }
}

/// Checks kind and time of an event.
fn check(event: &UnverifiedEvent<'_>, kind: u16, secs_max: u64, now: u64) -> Result<(), BadProof> {
    if event.kind != kind {
        return Err(BadProof::Kind { expected: kind });
    }
    if now.saturating_sub(event.created_at) > secs_max {
        return Err(BadProof::Expired(secs_max));
    }
    if event.created_at.saturating_sub(now) > secs_max {
        return Err(BadProof::Future(secs_max));
    }
    Ok(())
}
