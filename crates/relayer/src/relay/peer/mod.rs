//! Everything known about one relay: its state, what it sent, what is proven of it, what it supports, and its
//! offences.

mod capabilities;
mod caps;
mod coverage;
mod handle;
mod offences;
mod pace;
mod stats;

pub(crate) use capabilities::{Capabilities, Form, LiveForm, Stated};
pub(crate) use caps::{Basis, Caps, Size};
pub use coverage::{Coverage, Gap, GapReason};
pub use handle::{ConnectionState, PastState, Peer, RepairProgress};
#[cfg(test)]
pub(crate) use pace::Pace;
