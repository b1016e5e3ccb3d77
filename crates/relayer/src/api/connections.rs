//! The connections of a port that are no clients of `/ws` or `/fanout`, or not yet: how many there
//! may be, and what happens to those that are too many. Once a connection is upgraded, the limits
//! on clients count it.

use std::collections::HashMap;
use std::io::{self, Read, Write};
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
use crate::limits::CONNECTIONS_REFUSED_LOGGED_EVERY;
use crate::serve::{Client, ClientLimits, Clients, Refused};
use crate::telemetry::metrics::{PerLabel, metrics};

/// Why a connection to one of our ports was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Enum, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum ConnectionRefusal {
    TooMany,
    TooManyFromAddress,
    /// The gateway is stopping.
    Stopping,
    /// The system did not hand it out.
    AcceptFailed,
}

/// What did not come, or was not taken, in time on a connection that was closed for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Stalled {
    Request,
    Response,
}

metrics! {
    /// What is counted of connections to our ports.
    pub struct ConnectionMetrics {
        /// Connections to our ports that are open and no clients of /ws or /fanout, or not yet.
        open: Gauge = "connections";
        /// Connections to our ports that were let in.
        accepted: Counter = "connections_accepted";
        /// Connections to our ports that were not let in, by reason.
        refused: PerLabel<ConnectionRefusal, Counter> = "connections_refused", PerLabel::new("reason");
        /// Connections to our ports that were closed because a request did not come, or a response was not taken, in time.
        timed_out: PerLabel<Stalled, Counter> = "connections_timed_out", PerLabel::new("reason");
    }
}

/// The connections of one port. Clones are the same.
#[derive(Debug, Clone)]
pub struct Connections {
    /// Their places.
    places: Clients,
    /// Everything that is counted.
    pub(super) metrics: Arc<ConnectionMetrics>,
    /// When each reason was logged last.
    logged: Arc<Mutex<HashMap<ConnectionRefusal, Instant>>>,
}

impl Connections {
    /// None yet.
    pub fn new(limits: ClientLimits, metrics: &Arc<ConnectionMetrics>) -> Self {
        Self {
            places: Clients::new(limits, metrics.open.clone()),
            metrics: Arc::clone(metrics),
            logged: Arc::default(),
        }
    }

    /// Gives a connection its place, or tells the other side why it has none and closes it.
    pub(super) async fn enter(&self, stream: TcpStream) -> Option<(TcpStream, Client)> {
        let address = stream.peer_addr().ok()?.ip();
        match self.places.enter(address) {
            Ok(place) => {
                self.metrics.accepted.inc();
                Some((stream, place))
            }
            Err(refused) => {
                let (reason, error) = match refused {
                    Refused::Stopping => (ConnectionRefusal::Stopping, ApiError::stopping()),
                    Refused::TooMany(max) => {
                        (
                        ConnectionRefusal::TooMany,
                        ApiError::unavailable(
                            "too_many_connections",
                            format!(
                                "{max} connections are open that are no clients of /ws or /fanout, and [api] \
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
                                "{max} connections are open from your address that are no clients of /ws or /fanout, \
                                 and [api] max_connections_per_address allows no more; close some or raise it (behind \
                                 a proxy, all have its address)"
                            ),
                        )
                        .retry_after_secs(5),
                    ),
                };
                self.refused(reason, &format_args!("{address}: {error}"));
                // Whoever does not hear it sees that the connection is closed.
                let _ = answer(stream, error).await;
                None
            }
        }
    }

    /// Counts what was refused, and says so once in a while.
    pub(super) fn refused(&self, reason: ConnectionRefusal, why: &dyn std::fmt::Display) {
        self.metrics.refused[reason].inc();
        let mut logged = self.logged.lock();
        if logged.get(&reason).is_none_or(|logged| logged.elapsed() >= CONNECTIONS_REFUSED_LOGGED_EVERY) {
            logged.insert(reason, Instant::now());
            tracing::warn!(
                reason = <&str>::from(reason),
                "a connection was refused: {why} (connections_refused_total counts further ones)"
            );
        }
    }
}

/// Answers whatever was asked, as far as that can be done at once: nobody waits for this client.
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
    // What is left unread would have the system take the answer back.
    let _bytes = stream.read(&mut [0; 4096]).unwrap_or_default();
    stream.write_all(&text)
}
