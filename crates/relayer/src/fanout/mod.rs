//! Trade signals, encrypted for each follower of a bot.
//!
//! The [`registry`] knows who follows whom; what it knows is in memory, in the [`directory`]. The
//! gateway's [`identity`] is the key that followers know it by, and [`keys`] are what signals are
//! encrypted with, of which a [`shared_secret`] may be the source. [`signals`] are picked out of
//! the log, and each [`follower`] gets those of its bots, once it has given [`proof`] of its key,
//! on a WebSocket by its [`greeting`]. [`calls`] are counted: somebody may call, and [`service`]
//! puts all of it together.

pub mod calls;
pub mod directory;
pub mod follower;
pub mod greeting;
pub mod identity;
pub mod keys;
pub mod metrics;
pub mod proof;
pub mod registry;
pub mod service;
pub mod shared_secret;
pub mod signals;

pub use metrics::Metrics;
pub use service::Fanout;
