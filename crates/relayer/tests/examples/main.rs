//! The programs in `examples/`, in each language, against the built program.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod consumer;
mod fanout;
mod follower;
mod http;
mod kills;
mod other_log;
#[path = "../process/program.rs"]
#[allow(dead_code, reason = "other tests use the rest of it")]
mod program;
mod tcp;
mod websocket;
