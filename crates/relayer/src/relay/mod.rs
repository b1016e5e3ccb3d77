//! The relays: who is wanted ([`pool`]), how each connection lives ([`connection`]) and what is known of
//! it ([`peer`]).
//!
//! A connection is [dialled](dial) and becomes a [session](mod@session), in which a [reader] passes
//! every frame through the scan and the seen set: only what memory does not know leaves it, towards
//! a shard. Beside it a [conversation](mod@conversation) [subscribes](mod@subscription) and asks
//! for what is missing of the [past](mod@past), to [repair](mod@repair) it or
//! [reconcile](mod@reconcile) it; the two meet at the [desk]. [Authentication](mod@authentication)
//! proves our key to relays that ask for it. What is thereby proven of a relay is its [coverage].
//! How a relay wants to be treated are its [manners] ([caps], [pace]), how it behaves is its
//! [conduct], what it sent its [tally]. After a connection ends, its relay is tried again after a
//! [back-off](crate::net::backoff).

mod authentication;
pub mod caps;
#[cfg(test)]
mod clock_model;
pub mod conduct;
pub mod connection;
mod conversation;
pub mod coverage;
mod desk;
pub mod dial;
pub mod information;
pub mod instance;
pub mod manners;
pub mod metrics;
pub mod pace;
mod past;
pub mod peer;
mod pongs;
pub mod pool;
mod reader;
mod reconcile;
pub mod refusal;
pub mod repair;
mod same_second;
mod session;
mod silence;
mod socket;
pub mod subscription;
pub mod tally;
mod throttle;
mod turn;
pub mod upgrade;

pub use coverage::Coverage;
pub use metrics::Metrics;
pub use peer::{ConnectionState, Peer};
pub use pool::{Added, Pool, PoolError, Removed};
