//! Parses an acknowledgement in JSON: `{"ack":42}`, and nothing else.

use serde::Deserialize;

/// The text is not an acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it sent something that is not an acknowledgement")]
pub(crate) struct NotAnAck;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    ack: u64,
}

/// Returns the acknowledged sequence. White space around the JSON is allowed.
pub(crate) fn parse(text: &[u8]) -> Result<u64, NotAnAck> {
    let text = text.trim_ascii();
    // Serde would accept an array of one number as well.
    if !text.starts_with(b"{") {
        return Err(NotAnAck);
    }
    serde_json::from_slice::<Line>(text).map(|line| line.ack).map_err(|_| NotAnAck)
}
