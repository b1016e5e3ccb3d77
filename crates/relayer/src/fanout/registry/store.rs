//! Where a registry is kept: one trait, so that what stands above it does not know which database it is.
//!
//! A store holds secrets only as they were [sealed](super::seal), and knows by whose key. It caches nothing.

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
    /// The database cannot be reached, or does not answer. That passes by itself.
    #[error("the registry's database cannot be reached: {0}")]
    Unreachable(String),
    /// The database takes no writes: a standby, a server after a failover, or
    /// `default_transaction_read_only`. It passes when the database is writable again, or another
    /// one takes its place.
    #[error("the registry's database is read-only: {0}")]
    ReadOnly(String),
    /// The database is there, but what was asked waited too long for a lock, a connection, or its
    /// turn. Nothing was changed.
    #[error("the registry's database is busy: {0}")]
    Busy(String),
    /// The database refuses us. Somebody must mend that.
    #[error("the registry's database refuses: {0}")]
    Refused(String),
    /// The database was made by a later version.
    #[error("the registry's database was made by a later version (migration {0}); use that version")]
    Newer(i64),
    /// The secrets in it were sealed with another key.
    #[error(
        "the registry belongs to the gateway key {found}, and this gateway has {ours}; set that key under [nostr], or \
         move the registry to this one with `moltrade-relayer registry rekey --old-key-file FILE`"
    )]
    OtherKey {
        /// The public key of who sealed them.
        found: PublicKey,
        /// Our public key.
        ours: PublicKey,
    },
    /// A follow names a bot that is not registered.
    #[error("the bot {0} is not registered")]
    NoSuchBot(PublicKey),
    /// A bot waits for the operator.
    #[error("the bot {0} waits for the operator's approval")]
    NotApproved(PublicKey),
    /// A bot is followed that must not be.
    #[error("the bot {0} is followed")]
    Followed(PublicKey),
    /// No bots are registered.
    #[error(
        "registration is closed: [fanout] registration = \"closed\" lets nobody but the operator register new bots"
    )]
    Closed,
    /// A follower follows as many bots as one may.
    #[error(
        "the follower follows {FOLLOWS_MAX} bots, and nobody may follow more; unsubscribe from one first"
    )]
    TooManyFollows,
    /// There are as many bots, or follows, as there may be.
    #[error("the registry is full: [fanout] max_bots or max_follows allows no more")]
    Full,
    /// What was read is not what was written.
    #[error("the registry is damaged: {0}")]
    Damaged(String),
    /// RocksDB failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl RegistryError {
    /// What it is, in a few words without anything of the database.
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

    /// Whether waiting mends it.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::ReadOnly(_) | Self::Busy(_))
    }

    /// Whether it says something of the database, and not only of the call that met it.
    pub const fn is_database_fault(&self) -> bool {
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

/// Whether a store that is ready takes writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It does.
    Writable,
    /// It can only be read.
    ReadOnly,
}

/// What others have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// These rows, which may be there or not.
    Rows(Vec<RowKey>),
    /// Nobody knows what: all of it must be read again.
    Unknown,
}

/// What an operation of a store comes to.
pub type StoreFuture<'a, T> = BoxFuture<'a, Result<T, RegistryError>>;

/// Decides what to change, from the rows as they are in the store; `None` stands for a row that is
/// not there.
pub type Decide<'a> = dyn FnMut(&[Option<Row>]) -> Result<Vec<Change>, RegistryError> + Send + 'a;

/// Seals the secret of a follow again, for another owner.
pub type Reseal<'a> = dyn FnMut(&FollowRow) -> Result<Option<SealedSecret>, RegistryError> + Send + 'a;

/// Refuses a registry that belongs to another key than `ours`, or to none.
pub(super) fn check_owner(found: Option<PublicKey>, ours: PublicKey) -> Result<(), RegistryError> {
    match found {
        Some(found) if found == ours => Ok(()),
        Some(found) => Err(RegistryError::OtherKey { found, ours }),
        None => Err(RegistryError::Damaged("it has no owner".to_owned())),
    }
}

/// Where a registry is kept.
pub trait Store: Debug + Send + Sync {
    /// What it is called in logs and answers.
    fn name(&self) -> &'static str;

    /// Makes it ready: its tables as this version knows them, for secrets that the key `owner` has
    /// sealed. A registry that nobody owns becomes that key's. Nothing is written if nothing is
    /// missing, so that a store that can only be read may be ready, too.
    ///
    /// # Errors
    /// [`RegistryError::OtherKey`] if it belongs to another one; and when the database does not do it.
    fn prepare(&self, owner: PublicKey) -> StoreFuture<'_, Mode>;

    /// Calls `each` for all rows, bots before those who follow them.
    ///
    /// # Errors
    /// [`RegistryError::OtherKey`] if the registry no longer belongs to `owner`, and `each` was not called then; and when
    /// the database fails, and `each` may have been called before.
    fn load<'a>(&'a self, owner: PublicKey, each: &'a mut (dyn FnMut(Row) + Send)) -> StoreFuture<'a, ()>;

    /// These rows as they are now, in the same order; `None` for one that is not there.
    ///
    /// # Errors
    /// [`RegistryError::OtherKey`] if the registry no longer belongs to `owner`; and when the database fails.
    fn read<'a>(&'a self, owner: PublicKey, keys: &'a [RowKey]) -> StoreFuture<'a, Vec<Option<Row>>>;

    /// Reads these rows, makes the changes that `decide` derives from them, and commits, as one
    /// step: meanwhile nobody else changes these rows or adds those that are missing. It ends by
    /// `until`, so that a caller can rely on the whole operation taking no longer.
    ///
    /// # Errors
    /// [`RegistryError::OtherKey`] if the registry no longer belongs to `owner`, [`RegistryError::NoSuchBot`],
    /// [`RegistryError::Followed`], what `decide` says; and when the database fails. After [`RegistryError::Unreachable`] the changes may have been made or
    /// not, after all others they were not.
    fn change<'a>(
        &'a self,
        owner: PublicKey,
        keys: &'a [RowKey],
        until: Instant,
        decide: &'a mut Decide<'a>,
    ) -> StoreFuture<'a, ()>;

    /// Makes all of these changes in their order, or none, whatever is there.
    ///
    /// # Errors
    /// [`RegistryError::OtherKey`] if the registry no longer belongs to `owner`, [`RegistryError::NoSuchBot`]; and when
    /// the database fails. After [`RegistryError::Unreachable`] the changes may have been made or not.
    fn write(&self, owner: PublicKey, changes: Vec<Change>) -> StoreFuture<'_, ()>;

    /// Gives the registry from one key to another: `reseal` seals a follow's secret anew. All of it is done or nothing.
    /// Returns how many secrets there are.
    ///
    /// # Errors
    /// [`RegistryError::OtherKey`] if it does not belong to `from`; what `reseal` says; and when the database fails.
    fn rekey<'a>(
        &'a self,
        from: PublicKey,
        to: PublicKey,
        reseal: &'a mut Reseal<'a>,
    ) -> StoreFuture<'a, u64>;

    /// Waits until others have changed something; where nobody else can, for ever. What this store changed itself may
    /// be told, too. When the future is dropped, nothing is missed.
    ///
    /// # Errors
    /// When it can no longer be told. What was changed until it can again is then unknown.
    fn changed(&self) -> StoreFuture<'_, Changed>;
}
