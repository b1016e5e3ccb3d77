//! The wanted relays, their connections, and the knowledge about each relay.
//!
//! The [pool] keeps a [link] to each wanted relay. On a link, a reader passes every frame through
//! the scan and the seen set, and a conversation subscribes to live events and requests the
//! [backfill]. What outlives a connection is in the [peer].
//!
//! Modules import only modules that stand below them (tested in `tests/structure`):
//!
//! ```layers
//! pool
//! silence link
//! backfill
//! protocol
//! shared
//! peer transport
//! information
//! ```

mod backfill;
mod information;
mod link;
mod peer;
mod pool;
mod protocol;
mod shared;
mod silence;
mod transport;

pub use information::Information;
pub(crate) use peer::{Census, Group};
pub use peer::{
    ConnectionState, Coverage, DialFailure, Gap, GapReason, Metrics, PastState, Peer, RepairProgress,
    StateName,
};
pub use pool::{Added, Changes, Pool, PoolError, Removed};
pub use shared::{LinkLimits, Shared};
pub use transport::{DialError, DialOptions, DialSetupError, Dialer, InformationError, InstanceId, Reach};
