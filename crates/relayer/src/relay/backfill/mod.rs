//! Asks a relay for what is missing of its past, as `REQ`s or by NIP-77, until it is proven or known to be a gap.

mod past;
mod reconcile;
mod repair;

pub(crate) use repair::{Answer, Repair, Window};
