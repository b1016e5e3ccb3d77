//! The relays: who is wanted ([`pool`]), how each connection lives ([`connection`]) and what is known of
//! it ([`peer`]).
//!
//! A connection [dials](dial) one of the [addresses](address) that a [resolver] tells, [subscribes](mod@subscription), and passes every frame through the scan and
//! the seen set; only what memory does not know leaves it, towards a shard. After a connection ends, its
//! relay is tried again after a [back-off](backoff).

pub mod address;
pub mod backoff;
pub mod connection;
pub mod dial;
pub mod information;
pub mod instance;
pub mod peer;
pub mod pool;
pub mod resolver;
mod socket;
pub mod subscription;
mod tcp;
pub mod tls;
mod turn;
pub mod upgrade;

pub use peer::{ConnectionState, Peer};
pub use pool::{Added, Pool, PoolError, Removed};
