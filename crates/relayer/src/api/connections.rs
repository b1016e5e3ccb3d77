//! The connections of a port that are no clients of `/ws` or `/fanout`, or not yet: how many there
//! may be, and what happens to those that are too many. Once a connection is upgraded, the limits
//! on clients count it.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::response::IntoResponse;
use http_body_util::BodyExt;
use parking_lot::Mutex;
use tokio::net::TcpStream;

use super::error::ApiError;
use crate::limits::CONNECTIONS_REFUSED_LOGGED_EVERY;
use crate::serve::{Client, ClientLimits, Clients, Refused};
use crate::telemetry::Metrics;

/// The connections of one port. Clones are the same.
#[derive(Debug, Clone)]
pub struct Connections {
    /// Their places.
    places: Clients,
    /// Everything that is counted.
    pub(super) metrics: Arc<Metrics>,
    /// When each reason was logged last.
    logged: Arc<Mutex<HashMap<&'static str, Instant>>>,
}

impl Connections {
    /// None yet.
    pub fn new(limits: ClientLimits, metrics: &Arc<Metrics>) -> Self {
        Self {
            places: Clients::new(limits, metrics.connections.clone()),
            metrics: Arc::clone(metrics),
            logged: Arc::default(),
        }
    }

    /// Gives a connection its place, or tells the other side why it has none and closes it.
    pub(super) async fn enter(&self, stream: TcpStream) -> Option<(TcpStream, Client)> {
        let address = stream.peer_addr().ok()?.ip();
        match self.places.enter(address) {
            Ok(place) => {
                self.metrics.connections_accepted.inc();
                Some((stream, place))
            }
            Err(refused) => {
                let (reason, error) = match refused {
                    Refused::Stopping => ("stopping", ApiError::Stopping),
                    Refused::TooMany(max) => ("too_many", ApiError::TooManyConnections { max }),
                    Refused::TooManyFromAddress(max) => {
                        ("too_many_from_address", ApiError::TooManyConnectionsFromAddress { max })
                    }
                };
                self.refused(reason, &format_args!("{address}: {error}"));
                // Whoever does not hear it sees that the connection is closed.
                let _ = answer(stream, error).await;
                None
            }
        }
    }

    /// Counts what was refused, and says so once in a while.
    pub(super) fn refused(&self, reason: &'static str, why: &dyn std::fmt::Display) {
        self.metrics.connection_refused(reason).inc();
        let mut logged = self.logged.lock();
        if logged.get(reason).is_none_or(|logged| logged.elapsed() >= CONNECTIONS_REFUSED_LOGGED_EVERY) {
            logged.insert(reason, Instant::now());
            tracing::warn!(
                reason,
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
