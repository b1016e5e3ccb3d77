//! What the gateway answers over HTTP. [`mod@router`] is the whole route table.
//!
//! A request is hostile input: the [query] is read strictly and within bounds, and whatever is wrong is
//! answered by one type of [error]. Handlers stand by subject: [health], [metrics], [relays], [events],
//! and the upgrade to a [WebSocket](websocket).

pub mod context;
pub mod error;
pub mod events;
pub mod health;
pub mod metrics;
pub mod query;
pub mod relays;
pub mod router;
pub mod websocket;

pub use context::{Context, Parts};
pub use error::ApiError;
pub use router::{metrics_router, router};
