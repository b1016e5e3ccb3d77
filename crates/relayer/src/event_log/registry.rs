//! The rows of the embedded registry, as bytes. [`embedded`](crate::fanout::registry::embedded)
//! encodes and decodes these rows.

use wire::PublicKey;

use super::store::reading;
use super::{EventLog, StorageError, keys};

/// The key of a row, and its new value; `None` deletes the row.
pub(crate) type RegistryChange = (Vec<u8>, Option<Vec<u8>>);

impl EventLog {
    /// Calls `each` for the rows of the registry from a key on, in the order of the keys, until
    /// `each` returns `Some(false)`. All rows are from one snapshot. `each` returns `None` for a
    /// damaged row.
    ///
    /// # Errors
    /// When RocksDB fails, or a row is damaged.
    pub(crate) fn for_each_registry_row(
        &self,
        from: &[u8],
        each: impl FnMut(&[u8], &[u8]) -> Option<bool>,
    ) -> Result<(), StorageError> {
        self.note(self.store.for_each_row(keys::REGISTRY, from, each))
    }

    /// A row of the registry, decoded by `read`.
    ///
    /// # Errors
    /// When RocksDB fails, or `read` returns `None`.
    pub(crate) fn registry_row<T>(
        &self,
        key: &[u8],
        read: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, StorageError> {
        self.registry_value(keys::REGISTRY, key, read)
    }

    /// The public key whose secrets the registry holds.
    ///
    /// # Errors
    /// When RocksDB fails, or the row is damaged.
    pub(crate) fn registry_owner(&self) -> Result<Option<PublicKey>, StorageError> {
        self.registry_value(keys::META, keys::META_REGISTRY_OWNER, |key| {
            Some(PublicKey::from_bytes(key.try_into().ok()?))
        })
    }

    /// Changes rows of the registry and, if `owner` is given, the registry's owner, in one commit.
    /// Waits for the disk.
    ///
    /// # Errors
    /// When RocksDB fails; the process must then stop.
    pub fn change_registry(
        &self,
        rows: &[RegistryChange],
        owner: Option<PublicKey>,
    ) -> Result<(), StorageError> {
        // Room is not checked for the owner alone: it is written once, and a fan-out cannot start
        // without it.
        let mut changes = if rows.is_empty() { self.store.batch_with_room() } else { self.store.batch() };
        let written = (|| {
            for (key, row) in rows {
                match row {
                    Some(row) => changes.put(keys::REGISTRY, key, row)?,
                    None => changes.delete(keys::REGISTRY, key)?,
                }
            }
            if let Some(owner) = owner {
                changes.put(keys::META, keys::META_REGISTRY_OWNER, owner.as_bytes())?;
            }
            changes.commit_durably()
        })();
        self.note(written)
    }

    fn registry_value<T>(
        &self,
        family: &'static str,
        key: &[u8],
        read: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, StorageError> {
        let value = self.store.row(family, key).and_then(|value| {
            let Some(value) = value else { return Ok(None) };
            read(&value).map(Some).ok_or_else(|| StorageError::damaged(reading(family), family, key))
        });
        self.note(value)
    }
}
