//! The knowledge about one relay that outlives its connections.
//!
//! [`handle`] has the `Peer` that the other modules share. It holds the [`state`] of its
//! connection, its [`stats`], its [`coverage`] and the committed part of it ([`coverage_commits`]),
//! its [`capabilities`] with the cap on its answers ([`caps`]) and its [`pace`], and its budget of
//! [`offences`]. [`metrics`] counts over all relays.

mod capabilities;
mod caps;
mod coverage;
mod coverage_commits;
mod handle;
mod metrics;
mod offences;
mod pace;
mod state;
mod stats;

pub(crate) use capabilities::{Capabilities, Form, LiveForm, Stated};
pub(crate) use caps::{Basis, Caps, Size};
pub use coverage::{Coverage, Gap, GapReason};
pub use handle::{Peer, RepairProgress};
pub use metrics::{DialFailure, Metrics};
#[cfg(test)]
pub(crate) use pace::Pace;
pub use state::{ConnectionState, PastState, StateName};
