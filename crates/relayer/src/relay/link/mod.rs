//! One relay's connection: dialling, reading its frames, talking to it, and waiting before the next
//! dial.
//!
//! [`connection`] is the task that keeps a relay connected, and [`disconnect`] says why a
//! connection ended. A [`session`] is one open connection: its [`reader`] handles each frame and
//! counts in [`read_counts`], [`pongs`] tells a dead connection from a busy one, and the
//! [`throttle`] slows a flood. The [`conversation`] opens the [`live_subscription`] and runs the
//! backfill.

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
