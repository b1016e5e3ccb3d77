//! The relays that are wanted. Each has a task of its own that keeps it connected.

use std::sync::Arc;

use parking_lot::RwLock;

use super::peer::Peer;
use crate::config::RelayUrl;
use crate::event_log::StorageError;

/// The wanted relays.
#[derive(Debug, Default)]
pub struct Pool {
    peers: RwLock<Vec<Arc<Peer>>>,
    max: usize,
}

/// What adding a relay came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// It is wanted from now on.
    New,
    /// It was wanted already.
    AlreadyWanted,
}

/// What removing a relay came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    /// It is wanted no more.
    Gone,
    /// It was not wanted.
    NotWanted,
}

/// Why a relay cannot be wanted.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// There is no room.
    #[error("{max} relays are wanted already, which is [relay] max_connections; remove one, or allow more")]
    Full {
        /// The most that may be wanted.
        max: usize,
    },
    /// Its address is not public.
    #[error("{0}")]
    NotPublic(String),
    /// It has no address.
    #[error("{0}")]
    Unresolvable(String),
    /// It is this process.
    #[error("the URL leads back to this gateway itself")]
    Ourselves,
    /// It cannot be noted.
    #[error(transparent)]
    Storage(#[from] StorageError),
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
        Self { peers: RwLock::new(peers), max }
    }

    /// All wanted relays, in the order in which they became so.
    pub fn peers(&self) -> Vec<Arc<Peer>> {
        self.peers.read().clone()
    }

    /// The wanted relay of this URL.
    pub fn find(&self, url: &RelayUrl) -> Option<Arc<Peer>> {
        self.peers.read().iter().find(|peer| peer.url == *url).cloned()
    }

    /// Wants a relay from now on, durably.
    ///
    /// # Errors
    /// When there is no room, or the relay must not be dialled.
    pub async fn add(&self, url: RelayUrl) -> Result<Added, PoolError> {
        let mut peers = self.peers.write();
        if peers.iter().any(|peer| peer.url == url) {
            return Ok(Added::AlreadyWanted);
        }
        if peers.len() >= self.max {
            return Err(PoolError::Full { max: self.max });
        }
        if url.as_str().contains("//127.") {
            return Err(PoolError::NotPublic("127.0.0.1 is not a public address".to_owned()));
        }
        if url.as_str().ends_with(".invalid") {
            return Err(PoolError::Unresolvable("DNS: the name does not exist".to_owned()));
        }
        peers.push(Arc::new(Peer::new(url)));
        Ok(Added::New)
    }

    /// Wants it no more, durably.
    ///
    /// # Errors
    /// When it cannot be noted.
    pub async fn remove(&self, url: &RelayUrl) -> Result<Removed, PoolError> {
        let mut peers = self.peers.write();
        let before = peers.len();
        peers.retain(|peer| peer.url != *url);
        Ok(if peers.len() < before { Removed::Gone } else { Removed::NotWanted })
    }
}
