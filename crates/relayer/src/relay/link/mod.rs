//! One connection to a relay, from the dial to the disconnect and the wait before the next dial.

mod connection;
mod conversation;
mod pongs;
mod read_counts;
mod reader;
mod session;
mod throttle;

pub use connection::Shared;
pub(crate) use connection::{DesiredState, DisconnectReason, run};
pub(crate) use conversation::{Conversation, Then};
