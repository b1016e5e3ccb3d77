//! Pushes the log to the configured sinks, over [TCP](tcp) or [HTTP](http).
//!
//! [`workers`] runs one [`worker`] per sink, after [`setup`] has set up its transport. The worker
//! runs the sink's [`transport`] and applies the operator's [commands](command) in between. A
//! transport takes events from a [`feed`], and the [`cursor_writer`] stores the sink's position.
//! Events that the sink refuses become [`dead_letters`]. [`state`] is what the API and the metrics
//! show of a sink, including its [`rate`].
//!
//! To add a transport: declare its table in `config/sinks.rs` and `config/settings.rs`, add a
//! folder here that implements `Transport`, set it up in [`setup`], and count its descriptors in
//! `descriptors.rs`.

mod command;
mod cursor_writer;
mod dead_letters;
mod feed;
mod http;
mod metrics;
mod rate;
mod setup;
mod state;
mod tcp;
mod transport;
mod worker;
mod workers;

pub use command::{Command, CommandError};
pub use dead_letters::{DeadLetters, LetterSelector};
pub use metrics::{SinkLabel, SinkMetrics};
pub use setup::SinkSetupError;
pub use state::{LostRange, Sink, SinkState, SinkStatus};
pub(crate) use workers::{ApplyError, SinkChanges, SinkPlan};
pub use workers::{Workers, needed_after};
