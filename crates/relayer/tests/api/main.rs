//! `/ws` and the REST API, over real sockets and a real log.

// Helper functions outside of #[test] functions are test code, too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod alerts;
mod auth;
mod consumer_client;
mod downstreams;
mod events;
mod follower;
mod gateway;
mod health;
mod metrics;
mod relays;
mod reload;
mod websocket_consumer;
mod websocket_consumer_names;
mod websocket_delivery;
mod websocket_end;
mod websocket_handshake;
mod websocket_refused;
mod websocket_resumption;
mod websocket_selection;
mod websocket_slow;
