//! The `Store` trait, which stores a registry.
//!
//! A store gets only [sealed](super::seal) secrets, and knows the public key of their owner. A
//! store caches nothing.

use std::fmt::Debug;

use futures_util::future::BoxFuture;
use tokio::time::Instant;
use wire::PublicKey;

use super::row::{Change, FollowRow, Row, RowKey};
use super::seal::SealedSecret;
use crate::event_log::StorageError;
use crate::limits::FOLLOWS_MAX;

/// Why the registry cannot be read or written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RegistryError {
    /// The database cannot be reached or does not answer. Transient.
    #[error("the registry's database cannot be reached: {0}")]
    Unreachable(String),
    /// The database accepts no writes: the server is a standby or was demoted, or
    /// `default_transaction_read_only` is set. Transient.
    #[error("the registry's database is read-only: {0}")]
    ReadOnly(String),
    /// The operation waited too long for a lock, a connection or other writers. Nothing was
    /// changed.
    #[error("the registry's database is busy: {0}")]
    Busy(String),
    /// The database refuses the gateway. An operator must act.
    #[error("the registry's database refuses: {0}")]
    Refused(String),
    #[error("the registry's database was made by a later version (migration {0}); use that version")]
    Newer(i64),
    /// The secrets were sealed with another gateway key.
    #[error(
        "the registry belongs to the gateway key {found}, and this gateway has {ours}; set that key under [nostr], or \
         move the registry to this one with `moltrade-relayer registry rekey --old-key-file FILE`"
    )]
    OtherKey {
        /// The public key of the owner.
        found: PublicKey,
        /// The public key of this gateway.
        ours: PublicKey,
    },
    #[error("the bot {0} is not registered")]
    NoSuchBot(PublicKey),
    #[error("the bot {0} waits for the operator's approval")]
    NotApproved(PublicKey),
    /// A bot that must have no followers has followers.
    #[error("the bot {0} is followed")]
    Followed(PublicKey),
    #[error(
        "registration is closed: [fanout] registration = \"closed\" allows only the operator to register new bots"
    )]
    Closed,
    #[error("the follower follows {FOLLOWS_MAX} bots, which is the limit; unsubscribe from one first")]
    TooManyFollows,
    #[error("the registry is full: [fanout] max_bots or max_follows allows no more")]
    Full,
    /// A stored value is not valid.
    #[error("the registry is damaged: {0}")]
    Damaged(String),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl RegistryError {
    /// Names the kind of error in a few words, without details of the database.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "its database cannot be reached",
            Self::ReadOnly(_) => "its database is read-only",
            Self::Busy(_) => "its database is busy",
            Self::Refused(_) => "its database refuses",
            Self::Newer(_) => "its database was made by a later version",
            Self::OtherKey { .. } => "it belongs to another key",
            Self::NoSuchBot(_)
            | Self::NotApproved(_)
            | Self::Followed(_)
            | Self::Closed
            | Self::TooManyFollows
            | Self::Full => "it does not take this",
            Self::Damaged(_) => "it is damaged",
            Self::Storage(_) => "the gateway's database fails",
        }
    }

    /// Whether the error may resolve by itself.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::ReadOnly(_) | Self::Busy(_))
    }

    /// Whether the error concerns the database as a whole, and not only one call.
    pub(crate) const fn is_database_fault(&self) -> bool {
        match self {
            Self::Busy(_)
            | Self::NoSuchBot(_)
            | Self::NotApproved(_)
            | Self::Followed(_)
            | Self::Closed
            | Self::TooManyFollows
            | Self::Full => false,
            Self::Unreachable(_)
            | Self::ReadOnly(_)
            | Self::Refused(_)
            | Self::Newer(_)
            | Self::OtherKey { .. }
            | Self::Damaged(_)
            | Self::Storage(_) => true,
        }
    }
}

/// Whether a prepared store accepts writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Writable,
    ReadOnly,
}

/// The changes that other gateways or people have made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// The rows with these keys were written or removed.
    Rows(Vec<RowKey>),
    /// Unknown rows have changed: all rows must be read again.
    Unknown,
}

/// The result of a store operation.
pub(crate) type StoreFuture<'a, T> = BoxFuture<'a, Result<T, RegistryError>>;

/// Decides on changes after seeing the stored rows; `None` stands for a row that does not exist.
pub(crate) type Decide<'a> = dyn FnMut(&[Option<Row>]) -> Result<Vec<Change>, RegistryError> + Send + 'a;

/// Seals the secret of a follow again for another owner.
pub(crate) type Reseal<'a> = dyn FnMut(&FollowRow) -> Result<Option<SealedSecret>, RegistryError> + Send + 'a;

/// Refuses a registry that belongs to a key other than `ours`, or to no key.
pub(super) fn check_owner(found: Option<PublicKey>, ours: PublicKey) -> Result<(), RegistryError> {
    match found {
        Some(found) if found == ours => Ok(()),
        Some(found) => Err(RegistryError::OtherKey { found, ours }),
        None => Err(RegistryError::Damaged("it has no owner".to_owned())),
    }
}

/// Stores a registry.
pub trait Store: Debug + Send + Sync {
    /// The name of the store in logs and responses.
    fn name(&self) -> &'static str;

    /// Creates or migrates the tables of the store, for secrets that the key `owner` has sealed. A
    /// registry without an owner is assigned to `owner`. If nothing is missing, writes nothing, so
    /// a read-only store can be prepared, too.
    ///
    /// # Errors
    /// [`RegistryError::OtherKey`] if the registry belongs to another key; other errors of the
    /// database.
    fn prepare(&self, owner: PublicKey) -> StoreFuture<'_, Mode>;

    /// Calls `each` for all rows, bots before their follows.
    ///
    /// # Errors
    /// [`RegistryError::OtherKey`], before any call of `each`, if the registry does not belong to
    /// `owner`; other errors of the database, possibly after calls of `each`.
    fn load<'a>(&'a self, owner: PublicKey, each: &'a mut (dyn FnMut(Row) + Send)) -> StoreFuture<'a, ()>;

    /// Returns the current rows of these keys, in the same order; `None` for a missing row.
    ///
    /// # Errors
    /// [`RegistryError::OtherKey`] if the registry does not belong to `owner`; other errors of the
    /// database.
    fn read<'a>(&'a self, owner: PublicKey, keys: &'a [RowKey]) -> StoreFuture<'a, Vec<Option<Row>>>;

    /// Reads these rows and commits the changes that `decide` derives from them. Meanwhile, nobody
    /// else changes these rows or adds missing rows. Ends by `until`.
    ///
    /// # Errors
    /// [`RegistryError::OtherKey`] if the registry does not belong to `owner`;
    /// [`RegistryError::NoSuchBot`]; [`RegistryError::Followed`]; errors of `decide`; other errors
    /// of the database. After [`RegistryError::Unreachable`], the changes may or may not be
    /// committed; after any other error, they are not.
    fn change<'a>(
        &'a self,
        owner: PublicKey,
        keys: &'a [RowKey],
        until: Instant,
        decide: &'a mut Decide<'a>,
    ) -> StoreFuture<'a, ()>;

    /// Commits all changes in the given order, regardless of the stored rows. If one change fails,
    /// no change is committed.
    ///
    /// # Errors
    /// [`RegistryError::OtherKey`] if the registry does not belong to `owner`;
    /// [`RegistryError::NoSuchBot`]; other errors of the database. After
    /// [`RegistryError::Unreachable`] the changes may or may not be committed.
    fn write(&self, owner: PublicKey, changes: Vec<Change>) -> StoreFuture<'_, ()>;

    /// Changes the owner of the registry. `reseal` seals each secret again. Returns the number of
    /// secrets. An error leaves the registry unchanged.
    ///
    /// # Errors
    /// [`RegistryError::OtherKey`] if the registry does not belong to `from`; errors of `reseal`;
    /// other errors of the database.
    fn rekey<'a>(
        &'a self,
        from: PublicKey,
        to: PublicKey,
        reseal: &'a mut Reseal<'a>,
    ) -> StoreFuture<'a, u64>;

    /// Waits for changes by other writers; never completes if there are no other writers. May also
    /// report the gateway's own changes. Dropping the future misses no change.
    ///
    /// # Errors
    /// When changes cannot be received. Changes before the next success may then be missed, so all
    /// rows must be read again.
    fn changed(&self) -> StoreFuture<'_, Changed>;
}
