//! Who may be followed and who follows: kept in a [`store`], known in memory.
//!
//! A [`row`] is a bot or a follow. Secrets are [sealed](seal) before a store sees them. There are two stores: one that is
//! [`embedded`] in the gateway's own database, and [`postgres`], which several gateways share.

pub mod embedded;
pub mod postgres;
pub mod row;
pub mod seal;
pub mod store;

pub use embedded::Embedded;
pub use postgres::Postgres;
pub use row::{BotName, BotRow, Change, FollowKey, FollowRow, Row, RowKey};
pub use seal::{SealedSecret, Sealer};
pub use store::{Changed, RegistryError, Store};
