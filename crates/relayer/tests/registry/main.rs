//! The registry's stores: both keep the same promises, and PostgreSQL's some more.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../support/postgres.rs"]
mod postgres;

mod bench;
mod conformance;
mod deaf;
mod faults;
mod frozen;
mod known;
mod listening;
mod locks;
mod owner;
mod read_only;
mod schema;
