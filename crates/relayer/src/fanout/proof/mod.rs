//! Verifies that a client holds a key: by NIP-42 on a WebSocket, by NIP-98 on a request.
//!
//! Both proofs are signed events that name the [`gateway_url`] and their purpose. A proof for
//! another server, request or time is refused, and so is a proof that was used before.

pub(crate) mod gateway_url;
pub(crate) mod nip42;
pub(crate) mod nip98;
mod used_tokens;

use enum_map::Enum;
use parking_lot::Mutex;
use strum::{EnumDiscriminants, IntoStaticStr};
use wire::{ParseError, PublicKey, UnverifiedEvent, Verifier, VerifyError};

use gateway_url::GatewayUrl;
use used_tokens::UsedTokens;

use crate::clock::Clock;

/// Why a proof is refused. The text says how to fix the problem, without quoting the proof.
#[derive(EnumDiscriminants, Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[strum_discriminants(
    name(BadProofReason),
    derive(Enum, IntoStaticStr),
    strum(serialize_all = "snake_case"),
    doc = "Why something proves nothing, as it is counted."
)]
pub enum BadProof {
    #[error("it is not a signed event in base64")]
    NotEncoded,
    #[error("its event is malformed: {0}")]
    Malformed(ParseError),
    #[error("its event must be of kind {expected}")]
    Kind { expected: u16 },
    #[error("it has expired: created_at must be within {0} seconds of the gateway's clock; sign a new one")]
    Expired(u64),
    #[error(
        "it is dated ahead: created_at must be within {0} seconds of the gateway's clock; set your clock"
    )]
    Future(u64),
    /// The event may have been used before: it is older than this process, or the clock has passed
    /// its `created_at` twice.
    #[error("it was signed before the gateway started, or before its clock was set; sign a new one")]
    BeforeStart,
    #[error("it was signed for another URL than this request's: its `{tag}` tag must be {expected}")]
    Url {
        tag: &'static str,
        /// The required value of the tag.
        expected: Box<str>,
    },
    #[error("it was signed for another method than this request's")]
    Method,
    #[error("its `payload` tag is not the SHA-256 of this body in hex")]
    Payload,
    #[error("it answers another challenge than this connection's")]
    Challenge,
    #[error("its event is forged: {0}")]
    Forged(VerifyError),
    #[error("it was used before; sign a new one for each request")]
    Replayed,
    #[error("the gateway does not know its public URL; its operator must set public_url under [api]")]
    NoPublicUrl,
    #[error("too many tokens were used in the last minutes; try again in a minute")]
    TooMany,
}

/// Verifies proofs.
#[derive(Debug)]
pub struct ProofVerifier {
    gateway_url: GatewayUrl,
    /// Locked only briefly: a verification takes 50 us.
    verifier: Mutex<Verifier>,
    used_tokens: Mutex<UsedTokens>,
    clock: Clock,
}

impl ProofVerifier {
    /// `clock` must have been running since the process started.
    pub fn new(gateway_url: GatewayUrl, clock: Clock) -> Self {
        let (verifier, used_tokens) = (Mutex::new(Verifier::new()), Mutex::default());
        Self { gateway_url, verifier, used_tokens, clock }
    }

    /// Whether the gateway knows its own URL, without which no proof can be verified.
    pub(crate) const fn can_verify(&self) -> bool {
        !matches!(self.gateway_url, GatewayUrl::Unknown)
    }

    /// The number of tokens that are remembered.
    pub(super) fn used_tokens(&self) -> usize {
        self.used_tokens.lock().len()
    }

    /// Verifies the signature, after all other checks.
    fn verify(&self, event: &UnverifiedEvent<'_>) -> Result<PublicKey, BadProof> {
        let verified = self.verifier.lock().verify(event).map_err(BadProof::Forged)?;
        Ok(*verified.pubkey())
    }
}

/// Checks the kind and the date of an event.
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
