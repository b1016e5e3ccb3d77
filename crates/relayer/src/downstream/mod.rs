//! Who receives the log. Every receiver reads it behind its own cursor and is paced by nothing but itself:
//! there is no queue per receiver, so a slow one costs the others nothing.
//!
//! A receiver [selects](selection) what it wants. [`websocket`] serves the clients of a WebSocket, each from its
//! [`source`]; [`slow`] says when one is given up, and [`clients`] how many there may be, and ends them when the
//! gateway stops; [`farewell`] is what it is told at the end. A client with a name is one of the [`consumers`], whose cursors we keep: it has
//! its [`seat`] for itself, and what it has [`said`] moves its cursor.
//!
//! A sink is a receiver that we go to, and whose cursor we keep. [`workers`] has them all. Each has a
//! [`worker`], which obeys the operator's [`order`]s and has events brought by its transport, [`tcp`] or
//! [`http`]: they come out of a [`feed`], and how far the sink is, the [`bookmark`] writes down. What it
//! refuses becomes dead [`letters`]. [`sink`] is what is known of it, its [`rate`] included.

pub mod ack;
pub mod bookmark;
pub mod client_metrics;
pub mod clients;
pub mod consumers;
pub mod farewell;
pub mod feed;
pub mod http;
pub mod letters;
pub mod order;
pub mod rate;
pub mod said;
pub mod seat;
pub mod selection;
pub mod sink;
pub mod sink_metrics;
pub mod slow;
pub mod source;
pub mod tcp;
pub mod websocket;
pub mod worker;
pub mod workers;

pub use clients::{ClientLimits, Clients};
pub use consumers::Consumers;
pub use letters::Which;
pub use order::Command;
pub use selection::{Format, Selection};
pub use sink::{Sink, SinkState};
pub use slow::Patience;
pub use source::{LogSource, Source};
pub use workers::{SinkSetupError, Workers, needed_after};
