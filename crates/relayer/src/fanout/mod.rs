//! Trade signals, encrypted for each follower of a bot.
//!
//! - [`serve`] admits and serves followers; [`service`] builds, runs and stops the fan-out.
//! - `runtime`: the threads that encrypt and send signals.
//! - `auth`: the NIP-42 exchange on a `/fanout` socket.
//! - [`follower`]: the messages for one follower.
//! - [`signals`]: reads the signals from the log, once for all followers.
//! - [`registry`]: bots and follows, in a store and in memory.
//! - [`rate_limit`]: limits calls per key and per address.
//! - [`proof`]: verifies NIP-42 and NIP-98 events.
//! - [`identity`]: the gateway's own key.
//! - [`keys`]: the keys that encrypt signals; [`shared_secret`]: refuses weak secrets.
//!
//! A module imports only modules that are listed below it (tested in `tests/structure`):
//!
//! ```layers
//! serve
//! service
//! runtime auth follower
//! signals
//! registry
//! metrics rate_limit
//! proof
//! identity shared_secret keys
//! ```

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
