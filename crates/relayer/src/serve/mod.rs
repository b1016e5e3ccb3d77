//! Serves clients that pull the log over WebSocket: `/ws` and `/fanout`.
//!
//! Every client reads the log behind its own cursor. There is no queue per client, so a slow client
//! costs the others nothing. [`websocket`] sends one client what its [`source`] yields, [`slow`]
//! decides when a client is too slow, and [`close`] says why a connection was closed. [`clients`]
//! limits how many there are and ends them when the gateway stops.
//!
//! A client with a name is a consumer: [`consumers`] keeps its cursor, a [`lease`] makes it the
//! only connection of that name, and its [acknowledgements](client_message) move the cursor.

mod client_message;
mod clients;
mod close;
mod consumers;
mod lease;
mod metrics;
mod slow;
mod source;
mod websocket;

pub(crate) use clients::origin;
pub use clients::{Client, ClientLimits, Clients, Refused};
pub use close::CloseReason;
pub(crate) use consumers::{ConsumerName, EnterError, StartPosition};
pub use consumers::{Consumers, Forgotten, Share};
pub(crate) use lease::Lease;
pub use metrics::{ClientCounts, ClientRefusal, WebSocketMetrics};
pub(crate) use slow::Patience;
pub use slow::Taken;
pub(crate) use source::LogSource;
pub use source::{Damaged, Source};
pub(crate) use websocket::ClientTask;
