//! How the modules of the gateway depend on each other, as ARCHITECTURE.md has it.

#![allow(clippy::expect_used, clippy::panic, reason = "a test says what it expects")]

mod layers;
