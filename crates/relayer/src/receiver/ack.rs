//! An acknowledgement as JSON: `{"ack":42}`, and nothing else.

use serde::Deserialize;

/// What is no acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it sent something that is no acknowledgement")]
pub struct NotAnAck;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    ack: u64,
}

/// The sequence that is acknowledged by a text, which may have white space around it.
///
/// # Errors
/// When it says anything else.
pub fn number(text: &[u8]) -> Result<u64, NotAnAck> {
    let text = text.trim_ascii();
    // An array of one number would be read as such an object, too.
    if !text.starts_with(b"{") {
        return Err(NotAnAck);
    }
    serde_json::from_slice::<Line>(text).map(|line| line.ack).map_err(|_| NotAnAck)
}
