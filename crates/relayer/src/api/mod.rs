//! What the gateway answers over HTTP. [`mod@router`] is the whole route table.
//!
//! A request is hostile input: [query] and `body` are read strictly and within bounds, and whatever
//! is wrong is answered by one type of [error]. What changes something is behind [auth]. Handlers
//! stand by subject: [health], [metrics], [relays], [events], [downstreams], [consumers], [backup],
//! [fanout], [config](mod@config), and the upgrade to a [WebSocket](websocket). [serve] is about
//! the sockets under it, [connections] about how many there may be.

pub mod auth;
pub mod backup;
mod body;
mod clock;
mod config;
pub mod connections;
pub mod consumers;
pub mod context;
pub mod downstreams;
pub mod error;
pub mod events;
pub mod fanout;
pub mod health;
mod itself;
pub mod metrics;
pub mod query;
pub mod relays;
pub mod router;
pub mod serve;
pub mod websocket;

pub use auth::Access;
pub use connections::Connections;
pub use context::Context;
pub use error::ApiError;
pub use router::{metrics_router, router};
pub use serve::{listen, serve};
pub use websocket::WebSocketOptions;
