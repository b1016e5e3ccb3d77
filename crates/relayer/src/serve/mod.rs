//! Serves clients that pull the log over WebSocket: `/ws` and `/fanout`.
//!
//! Every client reads the log behind its own cursor. There is no queue per client, so a slow client
//! costs the others nothing. [`websocket`] sends one client what its [`source`] yields, [`slow`] decides
//! when a client is too slow, and [`farewell`] says why a connection was closed. [`clients`] limits how many
//! there are and ends them when the gateway stops.
//!
//! A client with a name is a consumer: [`consumers`] keeps its cursor, a [`seat`] makes it the only
//! connection of that name, and its [acknowledgements](said) move the cursor.

pub mod clients;
pub mod consumers;
pub mod farewell;
pub mod said;
pub mod seat;
pub mod slow;
pub mod source;
pub mod websocket;

pub use clients::{ClientLimits, Clients};
pub use consumers::Consumers;
pub use slow::Patience;
pub use source::{LogSource, Source};
