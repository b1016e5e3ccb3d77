//! The pipeline from simulated relays to the log, over real sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod backpressure;
#[allow(dead_code, reason = "other tests use the rest of it")]
mod gateway;
mod hostile;
mod once;
mod reconnect;
