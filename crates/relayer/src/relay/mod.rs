//! The relays that are wanted, their connections, and what is known about each of them.
//!
//! The [pool] keeps a [link] to each wanted [peer]. On a link, a reader passes every frame through the scan and the
//! seen set, while a conversation subscribes to live events and [backfills](backfill) what is missing.

mod backfill;
mod information;
mod link;
mod peer;
mod pool;
mod protocol;
mod silence;
mod transport;

pub use information::{Information, InformationError};
pub use link::Shared;
pub use peer::{ConnectionState, Coverage, Gap, GapReason, PastState, Peer, RepairProgress};
pub use pool::{Added, Changes, Pool, PoolError, Removed};
pub use transport::{DialError, DialOptions, DialSetupError, Dialer, InstanceId, Reach};
