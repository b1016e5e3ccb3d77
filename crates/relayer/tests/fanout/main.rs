//! The fan-out of the built program: delivery, access, secrets, and failures of the gateway and its
//! database.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../support/description.rs"]
#[allow(dead_code, reason = "other tests use the rest of it")]
mod described;
#[path = "../support/postgres.rs"]
mod postgres;
#[path = "../process/program.rs"]
#[allow(dead_code, reason = "other tests use the rest of it")]
mod program;

mod bots;
mod client;
mod connection;
mod end_to_end;
mod http;
mod identity;
mod intrusion;
mod notices;
mod reader_secrets;
mod registrations;
mod registry_commands;
mod registry_life;
mod resume;
mod secrets;
mod stop;
mod token;
