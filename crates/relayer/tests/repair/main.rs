//! Missed events are backfilled, and every claim is true: invariant 6, over real sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod caps;
mod clock;
mod drops;
#[path = "../pipeline/gateway.rs"]
#[allow(dead_code, reason = "other tests use the rest of it")]
mod gateway;
mod kinds;
mod order;
mod proof;
mod restart;
mod second;
mod truth;
mod watermark;
