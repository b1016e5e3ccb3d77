//! Properties that hold for every input, valid or hostile.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod checks;
mod events;
mod filters;
mod hostile;
mod lawful;
mod messages;
mod websocket;
