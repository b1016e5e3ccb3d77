//! Pushes the log to the sinks of the configuration, over [TCP](tcp) or [HTTP](http).
//!
//! [`workers`] starts one [`worker`] per sink. The worker runs the sink's transport and executes the
//! operator's [commands](order) in between. A transport takes events from a [`feed`]; the [`bookmark`]
//! stores how far the sink is; events that the sink refuses become dead [`letters`]. [`state`] is what
//! the API and the metrics show of a sink.

pub mod bookmark;
pub mod feed;
pub mod http;
pub mod letters;
pub mod order;
pub mod rate;
pub mod state;
pub mod tcp;
pub mod worker;
pub mod workers;

pub use letters::Which;
pub use order::Command;
pub use state::{Sink, SinkState};
pub use workers::{SinkSetupError, Workers, needed_after};
