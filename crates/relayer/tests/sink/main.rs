//! Sinks: delivery, order and cursors.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod acks;
#[path = "../dial/authority.rs"]
#[allow(dead_code, reason = "other tests use the rest of it")]
mod authority;
#[path = "../event_log/bench.rs"]
#[allow(dead_code, reason = "other tests use the rest of it")]
mod bench;
mod commands;
mod cursor;
mod dead_letters;
mod delivery;
mod disk;
mod gateway;
mod goaway;
mod heartbeat;
mod hook;
mod http;
mod https;
mod nginx;
#[path = "../support/nginx.rs"]
mod nginx_process;
mod receiver;
mod responses;
mod retention;
mod tls;
