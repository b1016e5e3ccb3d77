//! The relays that are wanted. Each has a task of its own that keeps it connected.

use std::sync::Arc;

use parking_lot::RwLock;

use super::peer::Peer;
use crate::config::RelayUrl;

/// The wanted relays.
#[derive(Debug, Default)]
pub struct Pool {
    peers: RwLock<Vec<Arc<Peer>>>,
}

impl Pool {
    /// The relays of these URLs, each once, and not more than `max`.
    pub fn new(urls: impl IntoIterator<Item = RelayUrl>, max: usize) -> Self {
        let mut peers: Vec<Arc<Peer>> = Vec::new();
        let mut known = std::collections::HashSet::new();
        for url in urls {
            if peers.len() < max && known.insert(url.clone()) {
                peers.push(Arc::new(Peer::new(url)));
            }
        }
        Self { peers: RwLock::new(peers) }
    }

    /// All wanted relays, in the order in which they became so.
    pub fn peers(&self) -> Vec<Arc<Peer>> {
        self.peers.read().clone()
    }
}
