//! The HTTP API. [`mod@router`] has the complete route table.
//!
//! Requests are hostile input: `query` and `body` parse them strictly and within bounds, `start`
//! determines where reading begins, and every failure is answered with the same [`error`] type.
//! Routes that change something require authorization: `auth` has the rules, `middleware` applies
//! them. `reading` admits readers, and `tickets` issues the tickets that web pages send in place of
//! a token. `origin` and `cors` decide which web pages may use the API. The handlers of each
//! subject are in one module, such as `health`, `relays` or `operations`. [`serve`] sets up
//! sockets, [`connections`] limits the number of connections, and `proxies` and `proxy_protocol`
//! determine the client's address behind a proxy.

mod assets;
mod auth;
mod body;
mod connections;
mod consumers;
mod context;
mod cors;
mod description;
mod downstreams;
mod error;
mod event_stream;
mod events;
mod fanout;
mod health;
mod metrics;
mod middleware;
mod operations;
mod origin;
mod overview;
mod page;
mod parameter;
mod proxies;
mod proxy_protocol;
mod query;
mod reading;
mod refusals;
mod relays;
mod router;
mod serve;
mod start;
mod tickets;
mod trace;
mod websocket;

pub use connections::Connections;
pub use context::Context;
pub use proxies::Proxies;
pub use router::router;
pub(crate) use router::{description, metrics_router};
pub use serve::{listen, serve};
