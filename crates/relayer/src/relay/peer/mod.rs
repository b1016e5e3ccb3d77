//! Everything known about one relay: its state, what it sent, what is proven of it, what it supports, and its
//! offences.

mod caps;
mod conduct;
mod coverage;
mod handle;
mod manners;
mod pace;
mod tally;

pub(crate) use caps::{Basis, Caps, Size};
pub use coverage::{Coverage, Gap, GapReason};
pub use handle::{ConnectionState, PastState, Peer, RepairProgress};
pub(crate) use manners::{Manners, Stated};
#[cfg(test)]
pub(crate) use pace::Pace;
