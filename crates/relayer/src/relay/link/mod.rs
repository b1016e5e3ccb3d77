//! One connection to a relay, from the dial to the disconnect and the wait before the next dial.

mod connection;
mod conversation;
mod pongs;
mod reader;
mod session;
mod throttle;
mod turn;

pub use connection::Shared;
pub(crate) use connection::{End, Order, run};
pub(crate) use conversation::{Conversation, Then};
