//! What is known about one relay and outlives its connections: state, statistics, coverage,
//! capabilities, offences.

mod capabilities;
mod caps;
mod commits;
mod coverage;
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
pub use metrics::Metrics;
#[cfg(test)]
pub(crate) use pace::Pace;
pub use state::{ConnectionState, PastState, StateName};
