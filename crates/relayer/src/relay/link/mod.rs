//! The connection to one relay: dialling, reading frames, sending requests, and waiting before the
//! next dial.
//!
//! [`connection`] is the task that keeps a relay connected, and [`disconnect`] says why a
//! connection ended. A [`session`] is one open connection: its [`reader`] handles each frame and
//! counts in [`read_counts`], [`pongs`] answers the relay's pings, and the [`throttle`] slows a
//! flood. The [`conversation`] opens the [`live_subscription`] and runs the backfill.

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
