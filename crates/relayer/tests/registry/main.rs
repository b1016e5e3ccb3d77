//! The registry's stores: common properties, and further tests for PostgreSQL.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../support/postgres.rs"]
mod postgres;

mod conformance;
mod directory;
mod faults;
mod frozen;
mod listening;
mod locks;
mod owner;
mod read_only;
mod schema;
mod stores;
mod unnotified;
