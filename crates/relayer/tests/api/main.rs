//! `/ws` and the REST API, over real sockets and a real log.

// Helper functions outside of #[test] functions are test code, too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../support/description.rs"]
mod described;

mod alerts;
mod auth;
mod consumer_client;
mod cors;
mod description;
mod downstreams;
mod event_client;
mod event_stream;
mod event_stream_nginx;
mod event_stream_slow;
mod events;
mod follower;
mod gateway;
#[path = "../support/haproxy.rs"]
mod haproxy_process;
mod health;
mod heartbeat;
mod metrics;
#[path = "../support/nginx.rs"]
#[allow(dead_code, reason = "other tests use the rest of it")]
mod nginx_process;
mod overview;
mod proxies;
mod proxy_header;
mod readers;
mod readers_limits;
mod refusals;
mod relays;
mod reload;
mod reload_limits;
mod reload_sinks;
mod since;
mod trace;
mod websocket_consumer;
mod websocket_consumer_names;
mod websocket_delivery;
mod websocket_end;
mod websocket_handshake;
mod websocket_refused;
mod websocket_resumption;
mod websocket_selection;
mod websocket_slow;
