//! The built program: crashes, real events, failed starts, graceful shutdown.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod backup;
mod connections;
mod control;
mod corpus;
mod crash;
mod downtime;
mod faults;
mod health;
mod log_format;
mod program;
mod prometheus;
mod receivers;
mod reload;
mod sinks;
mod start;
mod status;
mod stop;
mod systemd;
mod tail;
mod top;
