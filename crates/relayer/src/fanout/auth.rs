//! The NIP-42 exchange on a `/fanout` socket.
//!
//! The gateway sends `["AUTH",<challenge>]` first. The client may send nothing else before its
//! answer.

use axum::extract::ws::{Message, WebSocket};
use futures_util::StreamExt;
use tokio::time::timeout;
use wire::{ClientMessage, PublicKey, RelayMessage, UnverifiedEvent};

use super::proof::nip42::Challenge;
use super::proof::{BadProof, ProofVerifier};
use crate::limits::PROOF_TIMEOUT;

/// The text of this error is the close reason, which may have at most 123 bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AuthError {
    #[error("the client disconnected")]
    Disconnected,
    #[error("auth-required: the challenge was not answered within {} seconds", PROOF_TIMEOUT.as_secs())]
    Timeout,
    #[error("auth-required: answer the challenge with [\"AUTH\",<event of kind 22242>] first (NIP-42)")]
    UnexpectedMessage,
    #[error("auth-required: the proof is not valid")]
    BadProof(BadProof),
}

/// Sends a challenge, waits for the answer, and replies with an `OK` message that has the result.
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
