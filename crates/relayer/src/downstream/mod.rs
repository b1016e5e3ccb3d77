//! Who receives the log. Every receiver reads it behind its own cursor and is paced by nothing but itself:
//! there is no queue per receiver, so a slow one costs the others nothing.
//!
//! A receiver [selects](selection) what it wants. [`websocket`] serves the clients of `/ws`; [`slow`] says
//! when one is given up, and [`clients`] how many there may be, and ends them when the gateway stops.

pub mod clients;
pub mod selection;
pub mod slow;
pub mod websocket;

pub use clients::{ClientLimits, Clients};
pub use selection::{Format, Selection};
pub use slow::Patience;
