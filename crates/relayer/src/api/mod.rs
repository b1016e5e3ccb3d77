//! The HTTP API. [`mod@router`] has the complete route table.
//!
//! Requests are hostile input: `query` and `body` parse them strictly and within bounds, and every
//! failure is answered with the same [`error`] type. Routes that change something require
//! authorization: `auth` has the rules, `middleware` applies them. The handlers of each subject are
//! in one module, such as `health`, `relays` or `operations`. [`serve`] sets up sockets, and
//! [`connections`] limits the number of connections.

mod auth;
mod body;
mod connections;
mod consumers;
mod context;
mod downstreams;
mod error;
mod events;
mod fanout;
mod health;
mod metrics;
mod middleware;
mod operations;
mod origin;
mod query;
mod relays;
mod router;
mod serve;
mod websocket;

pub use connections::Connections;
pub use context::Context;
pub(crate) use router::metrics_router;
pub use router::router;
pub use serve::{listen, serve};
