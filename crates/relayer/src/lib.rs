//! The gateway, as a library: modules in the order of the data's way.
//!
//! [`relay`] reads sockets, [`ingest`] decides what is new and genuine, [`event_log`] keeps it in order,
//! [`sink`] pushes it, [`serve`] lets clients pull it, [`fanout`] encrypts trade signals for followers, [`api`] answers. [`pipeline`] puts the way together, [`app`] is the program.

#![warn(clippy::disallowed_methods)]
// They panic when nobody reads what is written: the log and the answers of the program have ways of
// their own.
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod cli;

pub mod config;

pub mod limits;

pub mod nip19;

pub mod clock;

pub mod net;

pub mod relay;

pub mod ingest;

pub mod event_log;

pub mod receiver;

pub mod sink;

pub mod serve;

pub mod fanout;

pub mod api;

pub mod control;

pub mod descriptors;

pub mod gateway;

pub mod crash_point;

pub mod tasks;

pub mod testing;

pub mod watchdog;

pub mod app;

pub mod offline;

pub mod backup;

pub mod telemetry;
