//! Everything known about one relay. This knowledge outlives the relay's connections.
//!
//! [`handle`] has the `Peer` that the other modules share. A `Peer` holds the connection's
//! [`state`], the [`stats`], the [`coverage`] with its committed part ([`coverage_commits`]), the
//! [`capabilities`] with the [`pace`] of requests and the cap on answers ([`caps`]), and the budget
//! of [`offences`]. The [`census`] counts all relays, also for the [`metrics`].

mod capabilities;
mod caps;
mod census;
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
pub(crate) use census::{Census, Group};
pub use coverage::{Coverage, Gap, GapReason};
pub use handle::{Peer, RepairProgress};
pub use metrics::{DialFailure, Metrics};
#[cfg(test)]
pub(crate) use pace::Pace;
pub use state::{ConnectionState, PastState, StateName};
