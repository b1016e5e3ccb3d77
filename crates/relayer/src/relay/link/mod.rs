//! One relay's connection: dialling, reading its frames, talking to it, and waiting before the next
//! dial.

mod connection;
mod conversation;
mod disconnect;
mod live_subscription;
mod pongs;
mod read_counts;
mod reader;
mod session;
mod throttle;

pub(crate) use connection::{DesiredState, run};
