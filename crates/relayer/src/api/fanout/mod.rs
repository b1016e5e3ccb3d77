//! The fan-out over HTTP: bots register, followers subscribe, and connect to `/fanout`.
//!
//! Each request is a `call` of somebody who proves who it is; [`Refusal`] is what it is answered otherwise.

pub(super) mod bots;
pub(super) mod call;
pub(super) mod identity;
pub(super) mod refusal;
pub(super) mod registry;
pub(super) mod upgrade;

use std::sync::Arc;

pub use refusal::Refusal;

use super::context::Context;
use crate::fanout::Fanout;

/// The fan-out, if there is one and it knows somebody.
fn ready(context: &Context) -> Result<&Arc<Fanout>, Refusal> {
    let fanout = context.fanout().ok_or(Refusal::Disabled)?;
    if fanout.registry.is_loaded() { Ok(fanout) } else { Err(Refusal::RegistryUnavailable) }
}
