//! Ingest without sockets: what a shard lets through, whatever comes in whatever order.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod bench;
mod forgery;
mod once;
mod order;
