//! The live page, driven in Chromium by the scripts in `browser`.

// Helper functions outside of #[test] functions are test code, too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod assets;
mod browser;
mod fanout;
mod gateway;
mod log;
mod overview;
mod relays;
mod sinks;
mod tokens;
