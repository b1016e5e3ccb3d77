//! How the gateway adapts to relays and to their offences, and how relays are changed while it
//! runs.
//!
//! Each test simulates a relay that requires the tested behaviour.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod addresses;
mod authentication;
mod black_holes;
mod blame;
mod certificates;
mod eose;
mod figures;
mod floods;
mod foreign_faults;
#[path = "../pipeline/gateway.rs"]
#[allow(dead_code, reason = "other tests use the rest of it")]
mod gateway;
mod health;
mod information;
mod limits;
mod refusals;
mod reload;
mod wanted;

use relay_sim::Who;

/// Selects one relay for a rule of the simulation.
fn only(relay: usize) -> Who {
    Who::These(vec![relay])
}
