//! Checks the dependencies between modules against ARCHITECTURE.md.

#![allow(clippy::expect_used, clippy::panic, reason = "a test says what it expects")]

mod layers;
