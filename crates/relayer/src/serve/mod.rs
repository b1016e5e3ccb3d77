//! Serves clients that pull the log: `/ws`, `/api/events/stream` and `/fanout`.
//!
//! Every client has its own cursor in the log. There is no queue per client, so a slow client does
//! not affect the others. [`delivery`] sends a client the messages of its [`source`], over a
//! [`socket`] that is a [WebSocket](websocket) or an [event stream](event_stream). [`slow`] decides
//! when a client is too slow, and [`close`] has the reasons for closing a connection. [`clients`]
//! limits the number of clients and disconnects them when the gateway stops.
//!
//! [`readers`] decides who may read the log over `/ws`, event streams and the other paths.
//!
//! A client with a name is a consumer: [`consumers`] stores its cursor, a [`lease`] allows only one
//! connection of that name, and its [acknowledgements](client_message) move the cursor.

mod client_message;
mod clients;
mod close;
mod consumers;
mod delivery;
mod event_stream;
mod lease;
mod metrics;
mod readers;
mod slow;
mod socket;
mod source;
mod websocket;

pub(crate) use clients::origin;
pub use clients::{Client, ClientLimits, Clients, Refused};
pub use close::CloseReason;
pub(crate) use close::REPLACED;
pub use consumers::{ConsumerLimits, Consumers, Forgotten, Share};
pub(crate) use consumers::{ConsumerName, EnterError, StartPosition};
pub(crate) use delivery::ClientTask;
pub(crate) use event_stream::{EventBody, EventStream};
pub(crate) use lease::Lease;
pub use metrics::{ClientCounts, ClientRefusal, WebSocketMetrics};
pub(crate) use readers::{Credential, Grant, Refused as ReadRefused, Session};
pub use readers::{ReadRefusal, ReaderMetrics, Readers, ReadersReplaced};
pub(crate) use slow::Patience;
pub use slow::Taken;
pub(crate) use source::LogSource;
pub use source::{Damaged, Source};
