//! Requests the [`gaps`] of a relay's coverage, by `REQ` or [NIP-77](negentropy), until each gap is
//! proven or known to stay. [`repair`] decides, without I/O, which window comes next and what an
//! answer proves.

mod gaps;
mod negentropy;
mod repair;

pub(crate) use gaps::{Backfill, record};
pub(crate) use repair::Repair;
