//! The relays: who is wanted ([`pool`]), how each connection lives ([`connection`]) and what is known of
//! it ([`peer`]).
//!
//! A connection [dials](dial), [subscribes](mod@subscription), and passes every frame through the scan and
//! the seen set; only what memory does not know leaves it, towards a shard. After a connection ends, its
//! relay is tried again after a [back-off](backoff).

pub mod backoff;
pub mod connection;
pub mod dial;
pub mod peer;
pub mod pool;
mod socket;
pub mod subscription;
mod turn;
mod upgrade;

pub use peer::{ConnectionState, Peer};
pub use pool::{Added, Pool, PoolError, Removed};
