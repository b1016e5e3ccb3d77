//! Limits the HTTP connections of a port and refuses those above the limit. A connection that
//! becomes a client of `/ws`, `/api/events/stream` or `/fanout` counts towards the client limits
//! instead.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use enum_map::Enum;
use http_body_util::BodyExt;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use strum::IntoStaticStr;
use tokio::net::TcpStream;

use super::error::ApiError;
use super::proxies::Proxies;
use crate::limits::CONNECTIONS_REFUSED_LOGGED_EVERY;
use crate::serve::{Client, ClientLimits, Clients, Refused};
use crate::telemetry::metrics::{PerLabel, metrics};

/// Why a connection to one of our ports was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Enum, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub(crate) enum ConnectionRefusal {
    TooMany,
    TooManyFromAddress,
    Stopping,
    AcceptFailed,
    /// A trusted proxy sent no valid header of the PROXY protocol.
    BadProxyHeader,
}

/// Whether a request or a response took too long, so that the connection was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Stalled {
    Request,
    Response,
}

metrics! {
    /// The metrics of connections to our ports.
    pub(crate) struct ConnectionMetrics {
        /// Open connections to the ports, except clients of /ws, event streams and /fanout.
        open: Gauge = "connections";
        /// Accepted connections to the gateway's ports.
        accepted: Counter = "connections_accepted";
        /// Refused connections to the gateway's ports, by reason.
        refused: PerLabel<ConnectionRefusal, Counter> = "connections_refused", PerLabel::new("reason");
        /// Connections that were closed because a request or a response took too long, by reason.
        timed_out: PerLabel<Stalled, Counter> = "connections_timed_out", PerLabel::new("reason");
    }
}

/// The connections of one port. Clones share their state.
#[derive(Debug, Clone)]
pub struct Connections {
    slots: Clients,
    pub(super) proxies: Proxies,
    pub(super) metrics: Arc<ConnectionMetrics>,
    /// When each refusal reason was last logged.
    logged: Arc<Mutex<HashMap<ConnectionRefusal, Instant>>>,
}

impl Connections {
    pub fn new(limits: ClientLimits, metrics: &Arc<ConnectionMetrics>) -> Self {
        Self {
            slots: Clients::new(limits, metrics.open.clone()),
            proxies: Proxies::default(),
            metrics: Arc::clone(metrics),
            logged: Arc::default(),
        }
    }

    /// Trusts these proxies. Limits per address do not apply to their own connections.
    #[must_use]
    pub fn behind(self, proxies: Proxies) -> Self {
        Self { proxies, ..self }
    }

    /// Sets the limits for new connections.
    pub(crate) fn set_limits(&self, limits: ClientLimits) {
        self.slots.set_limits(limits);
    }

    /// Assigns a slot to a connection from this address, or answers with the reason for the refusal
    /// and closes the connection.
    pub(super) async fn enter(&self, stream: TcpStream, address: IpAddr) -> Option<(TcpStream, Client)> {
        let is_shared = self.proxies.trust(address);
        match if is_shared { self.slots.enter_shared(address) } else { self.slots.enter(address) } {
            Ok(slot) => Some((stream, slot)),
            Err(refused) => {
                let (reason, error) = match refused {
                    Refused::Stopping => (ConnectionRefusal::Stopping, ApiError::stopping()),
                    Refused::TooMany(max) => {
                        (
                        ConnectionRefusal::TooMany,
                        ApiError::unavailable(
                            "too_many_connections",
                            format!(
                                "{max} connections other than clients of /ws, /api/events/stream and /fanout are open, and [api] \
                                 max_connections allows no more; try again later or raise it"
                            ),
                        ),
                    )
                    }
                    Refused::TooManyFromAddress(max) => (
                        ConnectionRefusal::TooManyFromAddress,
                        ApiError::new(
                            StatusCode::TOO_MANY_REQUESTS,
                            "too_many_connections_from_address",
                            format!(
                                "{max} connections other than clients of /ws, /api/events/stream and /fanout are open from your address, \
                                 and [api] max_connections_per_address allows no more; close some or raise it (or name \
                                 the proxy between us in [api] trusted_proxies)"
                            ),
                        )
                        .retry_after_secs(5),
                    ),
                };
                self.refused(reason, &format_args!("{address}: {error}"));
                // The answer may fail: the close also tells the client of the refusal.
                let _ = answer(stream, error).await;
                None
            }
        }
    }

    /// Counts a refusal, and logs it at most once per interval.
    pub(super) fn refused(&self, reason: ConnectionRefusal, why: &dyn std::fmt::Display) {
        self.metrics.refused[reason].inc();
        let mut logged = self.logged.lock();
        if logged.get(&reason).is_none_or(|logged| logged.elapsed() >= CONNECTIONS_REFUSED_LOGGED_EVERY) {
            logged.insert(reason, Instant::now());
            tracing::warn!(
                name: "connection_refused",
                reason = <&str>::from(reason),
                "a connection was refused: {why} (connections_refused_total counts further ones)"
            );
        }
    }
}

/// Sends an error as the response without waiting for a request.
async fn answer(stream: TcpStream, error: ApiError) -> io::Result<()> {
    let response = error.into_response();
    let (head, body) = response.into_parts();
    let body = Body::new(body).collect().await.map_err(io::Error::other)?.to_bytes();
    let mut text =
        format!("HTTP/1.1 {}\r\nconnection: close\r\ncontent-length: {}\r\n", head.status, body.len())
            .into_bytes();
    for (name, value) in &head.headers {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"\r\n");
    text.extend_from_slice(&body);
    let mut stream = stream.into_std()?;
    // Data that is not read would make the system reset the connection and discard the answer.
    let _bytes = stream.read(&mut [0; 4096]).unwrap_or_default();
    stream.write_all(&text)
}
