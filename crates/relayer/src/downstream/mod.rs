//! Who receives the log. Every receiver reads it behind its own cursor and is paced by nothing but itself:
//! there is no queue per receiver, so a slow one costs the others nothing.
//!
//! A receiver [selects](selection) what it wants. [`websocket`] serves the clients of `/ws`; [`slow`] says
//! when one is given up, and [`clients`] how many there may be, and ends them when the gateway stops.
//!
//! A sink is a receiver that we connect to, and whose cursor we keep. [`workers`] has them all; a [`worker`]
//! keeps one connected by [`tcp`], where events go into the [`outbox`], stay in [`flight`] until the sink has
//! them, and [`ack`] says that it does; a [`bookmark`] writes the cursor down. [`sink`] is what is known of it.

pub mod ack;
pub mod bookmark;
pub mod clients;
pub mod flight;
pub mod outbox;
pub mod selection;
pub mod sink;
pub mod slow;
pub mod tcp;
pub mod websocket;
pub mod worker;
pub mod workers;

pub use clients::{ClientLimits, Clients};
pub use selection::{Format, Selection};
pub use sink::{Sink, SinkState};
pub use slow::Patience;
pub use workers::Workers;
