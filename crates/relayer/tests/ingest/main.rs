//! Ingest without sockets: which events a shard accepts, for any input in any order.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod bench;
mod forgery;
mod once;
mod order;
