//! A relay as it is shown, in one place: in `/status`, in the list of relays, and by itself.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::relay::{ConnectionState, Peer};

/// One relay, as it is shown.
#[derive(Debug, Serialize)]
pub struct Connection {
    url: String,
    /// `status`, and what belongs to it.
    #[serde(flatten)]
    state: ConnectionState,
    connections_opened: u64,
    frames: u64,
    bytes: u64,
    first: u64,
    copies: u64,
    notices: u64,
    forgeries: u64,
    refused: BTreeMap<&'static str, u64>,
}

impl From<&Peer> for Connection {
    fn from(peer: &Peer) -> Self {
        let tally = &peer.tally;
        Self {
            url: peer.url.to_string(),
            state: peer.state(),
            connections_opened: tally.connections.get(),
            frames: tally.frames.get(),
            bytes: tally.bytes.get(),
            first: tally.first.get(),
            copies: tally.copies.get(),
            notices: tally.notices.get(),
            forgeries: tally.forgeries(),
            refused: tally.refused().map(|(reason, count)| (reason.label(), count)).collect(),
        }
    }
}
