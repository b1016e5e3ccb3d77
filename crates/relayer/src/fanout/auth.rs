//! How a follower that has connected proves its key: NIP-42.
//!
//! The gateway begins with `["AUTH",<challenge>]`, and nothing but the answer may come before it is given.

use axum::extract::ws::{Message, WebSocket};
use futures_util::StreamExt;
use tokio::time::timeout;
use wire::{ClientMessage, PublicKey, RelayMessage, UnverifiedEvent};

use super::proof::nip42::Challenge;
use super::proof::{BadProof, ProofVerifier};
use crate::limits::PROOF_TIMEOUT;

/// Why nobody was authenticated. The text is the reason of the close, which has room for 123 bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// The client went.
    #[error("it left")]
    Disconnected,
    /// It did not answer in time.
    #[error("auth-required: the challenge was not answered within {} seconds", PROOF_TIMEOUT.as_secs())]
    Timeout,
    /// It said something else.
    #[error("auth-required: answer the challenge with [\"AUTH\",<event of kind 22242>] first (NIP-42)")]
    UnexpectedMessage,
    /// Its answer proves nothing.
    #[error("auth-required: the proof does not hold")]
    BadProof(BadProof),
}

/// Asks for a proof and waits for it. A good one is acknowledged, of a bad one it is said what is wrong.
///
/// # Errors
/// When it does not come, or does not hold.
pub async fn authenticate(socket: &mut WebSocket, proofs: &ProofVerifier) -> Result<PublicKey, AuthError> {
    let challenge = Challenge::random();
    let authenticated = async {
        send(socket, &RelayMessage::Auth { challenge: challenge.as_str().into() }).await?;
        let text = loop {
            match socket.next().await {
                Some(Ok(Message::Text(text))) => break text,
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Binary(_))) => return Err(AuthError::UnexpectedMessage),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(AuthError::Disconnected),
            }
        };
        let Ok(ClientMessage::Auth { event }) = ClientMessage::parse(text.as_bytes()) else {
            return Err(AuthError::UnexpectedMessage);
        };
        let event = match UnverifiedEvent::parse(event.as_bytes()) {
            Ok(event) => event,
            Err(error) => return Err(AuthError::BadProof(BadProof::Malformed(error))),
        };
        let id = event.id.to_string();
        let verified = proofs.verify_answer(&event, &challenge);
        let reason = verified.as_ref().map_or_else(|bad| format!("auth-required: {bad}"), |_| String::new());
        let accepted = verified.is_ok();
        send(socket, &RelayMessage::Ok { id: id.into(), accepted, reason: reason.into() }).await?;
        verified.map_err(AuthError::BadProof)
    };
    timeout(PROOF_TIMEOUT, authenticated).await.unwrap_or(Err(AuthError::Timeout))
}

async fn send(socket: &mut WebSocket, message: &RelayMessage<'_>) -> Result<(), AuthError> {
    socket.send(Message::text(message.to_json())).await.map_err(|_| AuthError::Disconnected)
}
