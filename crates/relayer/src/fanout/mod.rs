//! Trade signals, encrypted for each follower of a bot.
//!
//! Each module uses only modules above it in this list:
//!
//! - [`keys`]: the keys that encrypt signals; [`shared_secret`]: which secrets are too weak.
//! - [`identity`]: the gateway's own key.
//! - [`proof`]: verifies NIP-42 and NIP-98 events.
//! - [`rate_limit`]: limits calls per key and per address.
//! - [`metrics`].
//! - [`registry`]: bots and follows, in a store and in memory.
//! - [`signals`]: reads the signals from the log, once for all followers.
//! - [`follower`]: the messages for one follower.
//! - `auth`: the NIP-42 exchange on a `/fanout` socket.
//! - `runtime`: the threads that encrypt and send signals.
//! - [`service`]: builds, runs and stops all of it; [`serve`] admits and serves followers.

mod auth;
pub mod follower;
pub(crate) mod identity;
pub mod keys;
pub(crate) mod metrics;
pub(crate) mod proof;
pub(crate) mod rate_limit;
pub mod registry;
mod runtime;
pub(crate) mod serve;
pub(crate) mod service;
pub(crate) mod shared_secret;
pub mod signals;

pub use metrics::Metrics;
pub(crate) use service::Fanout;
