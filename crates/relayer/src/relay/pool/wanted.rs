//! Which relays are wanted: those of the configuration, with the changes made over the API.

use std::collections::HashSet;

use super::damaged;
use crate::config::RelayUrl;
use crate::event_log::{EventLog, RelayTable, StorageError};

/// The configured, added and removed relays, which together determine the wanted ones.
#[derive(Debug)]
pub(super) struct WantedRelays {
    pub configured: Vec<RelayUrl>,
    /// Relays in the order of addition. After a restart, relays added before the restart are sorted
    /// by URL.
    pub added: Vec<RelayUrl>,
    pub removed: HashSet<RelayUrl>,
}

/// The values in [`RelayTable::Wanted`].
pub(super) const ADDED: &[u8] = b"added";
pub(super) const REMOVED: &[u8] = b"removed";

impl WantedRelays {
    pub fn restore(configured: &[RelayUrl], log: &EventLog) -> Result<Self, StorageError> {
        let mut wanted = Self { configured: configured.to_vec(), added: Vec::new(), removed: HashSet::new() };
        for (url, row) in log.relay_rows(RelayTable::Wanted)? {
            // An earlier version accepted URLs that this version does not accept.
            let url = match url.parse() {
                Ok(url) => url,
                Err(error) => {
                    tracing::warn!(
                        name: "relay_ignored",
                        url, %error,
                        "ignored a relay that was added or removed over the API: its URL is no longer accepted"
                    );
                    continue;
                }
            };
            match row.as_slice() {
                ADDED => wanted.added.push(url),
                REMOVED => _ = wanted.removed.insert(url),
                _ => return Err(damaged("the addition or removal of a relay")),
            }
        }
        Ok(wanted)
    }

    /// The wanted relays without duplicates. The `bool` says whether the configuration names the
    /// relay.
    pub fn wanted(&self) -> impl Iterator<Item = (&RelayUrl, bool)> {
        let mut seen = HashSet::new();
        let configured = self.configured.iter().map(|url| (url, true));
        let all = configured.chain(self.added.iter().map(|url| (url, false)));
        all.filter(|(url, _)| !self.removed.contains(*url)).filter(move |(url, _)| seen.insert(*url))
    }

    pub fn contains(&self, url: &RelayUrl) -> bool {
        self.wanted().any(|(wanted, _)| wanted == url)
    }
}
