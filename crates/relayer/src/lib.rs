//! The gateway as a library.
//!
//! The modules in the order of the data flow: [`relay`] reads from relays, [`ingest`] admits new
//! genuine events, [`event_log`] stores them in order, [`sink`] pushes them, [`serve`] lets clients
//! pull them, [`fanout`] encrypts trade signals for followers, and `api` serves HTTP. [`gateway`]
//! owns all of these, and [`app`] is the program.

#![warn(clippy::disallowed_methods)]
// `println!` and `eprintln!` panic when the reader of the output has closed it. Log lines go
// through `telemetry::log_buffer`.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod api;
pub mod app;
pub mod backup;
pub mod cli;
pub mod clock;
pub mod config;
mod control;
mod crash_point;
mod descriptors;
pub mod event_log;
pub mod fanout;
pub mod gateway;
pub mod health_check;
pub mod ingest;
pub mod limits;
pub mod net;
pub mod nip19;
pub mod offline;
mod overview;
mod printable;
pub mod pulse;
pub mod receiver;
pub mod relay;
pub mod remote;
pub mod serve;
pub mod sink;
pub mod status;
pub mod systemd;
pub mod tail;
mod tasks;
pub mod telemetry;
pub mod testing;
pub mod top;
pub mod watchdog;
