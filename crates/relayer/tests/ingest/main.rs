//! Ingest without sockets: what a shard lets through, whatever comes in whatever order.

mod bench;
mod forgery;
mod once;
