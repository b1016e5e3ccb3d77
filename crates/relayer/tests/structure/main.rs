//! Checks the source against the documentation: dependencies between modules against
//! ARCHITECTURE.md, and the names of log lines against docs/operations.md.

#![allow(clippy::expect_used, clippy::panic, reason = "a test says what it expects")]

mod layers;
mod log_events;
