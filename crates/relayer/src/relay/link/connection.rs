//! Keeps one relay connected: dials, runs the [session](super::session), waits, and dials again.
//!
//! The wait depends on the reason for the disconnect: a back-off for temporary failures, hours for
//! relays that do not serve us, and a quarantine for offences.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::disconnect::DisconnectReason;
use super::session::RelaySession;
use crate::clock::unix_ms;
use crate::limits::{BACKOFF_MAX, PARKED};
use crate::net::ConnectError;
use crate::net::backoff::Backoff;
use crate::net::handshake::HandshakeError;
use crate::relay::peer::{ConnectionState, DialFailure, Peer};
use crate::relay::protocol::{ExchangeError, Subscription};
use crate::relay::shared::Shared;
use crate::relay::transport::{DialError, SocketError};

/// The state that the pool wants for a connection.
#[derive(Debug, Clone)]
pub(crate) enum DesiredState {
    /// Keep the relay connected, with this subscription.
    Connected(Arc<Subscription>),
    Stopped,
}

/// Keeps one relay connected until told to stop.
pub(crate) async fn run(peer: Arc<Peer>, shared: Arc<Shared>, mut desired: watch::Receiver<DesiredState>) {
    let mut connection = Connection {
        peer,
        shared,
        backoff: Backoff::of_relay(),
        failures: Failures::default(),
        logged_reason: None,
    };
    while let Some(subscription) = desired_subscription(&mut desired) {
        let Some(wait) = connection.once(subscription, &mut desired).await else { break };
        tokio::select! {
            () = sleep(wait.time) => {}
            () = woken(&mut desired, wait.is_parked) => {}
        }
    }
    connection.peer.set_state(ConnectionState::Stopped);
}

/// The subscription wanted now; `None` to stop. A dropped sender also means to stop.
pub(super) fn desired_subscription(desired: &mut watch::Receiver<DesiredState>) -> Option<Arc<Subscription>> {
    let is_supervised = desired.has_changed().is_ok();
    match &*desired.borrow_and_update() {
        DesiredState::Connected(subscription) if is_supervised => Some(Arc::clone(subscription)),
        DesiredState::Connected(_) | DesiredState::Stopped => None,
    }
}

struct Connection {
    peer: Arc<Peer>,
    shared: Arc<Shared>,
    backoff: Backoff,
    failures: Failures,
    /// The last logged reason why the relay is not connected.
    logged_reason: Option<String>,
}

/// The request that was unanswered when a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct UnansweredRequest {
    since: u64,
    until: Option<u64>,
    /// The limit of the request. As long as the limit gets smaller, the backfill may still make
    /// progress.
    limit: Option<u32>,
}

/// The reason for the last disconnect, and the request that was unanswered then.
#[derive(Debug, Default)]
struct Failures(Option<(String, UnansweredRequest)>);

impl Failures {
    /// Whether a disconnect counts as a failure even after a useful connection: if it repeats the
    /// last disconnect (same reason, same request), or if the relay broke the protocol. Otherwise,
    /// we would dial such a relay again at once, endlessly.
    fn recurs(&mut self, reason: &DisconnectReason, request: Option<UnansweredRequest>) -> bool {
        let failure = request.map(|request| (reason.to_string(), request));
        let is_same = failure.is_some() && failure == self.0;
        self.0 = failure;
        is_same || matches!(reason, DisconnectReason::Socket(SocketError::Decode(_)))
    }
}

/// The wait before the next dial.
struct Wait {
    time: Duration,
    is_parked: bool,
}

impl Connection {
    /// Dials once, runs the connection to its end, and returns the wait before the next dial;
    /// `None` to stop.
    async fn once(
        &mut self,
        subscription: Arc<Subscription>,
        desired: &mut watch::Receiver<DesiredState>,
    ) -> Option<Wait> {
        self.peer.set_state(ConnectionState::Connecting);
        let dialled = tokio::select! {
            dialled = self.shared.dialer.dial(&self.peer.url, self.peer.reach()) => dialled,
            () = stopped(desired) => return None,
        };
        let reason = match dialled {
            Ok(socket) => {
                self.peer.stats.connections.add(1);
                self.shared.metrics.relay_connections.inc();
                tracing::info!(name: "relay_connected", relay = %self.peer.url, "relay connected");
                self.peer.set_state(ConnectionState::Backfilling { since_ms: unix_ms() });
                let (mut session, began) = (RelaySession::new(&self.peer, &self.shared), Instant::now());
                let reason = session.run(socket, subscription, desired).await;
                let recurs = self.failures.recurs(&reason, self.unanswered_request());
                if session.was_useful() && (!recurs || began.elapsed() >= BACKOFF_MAX) {
                    self.backoff.reset();
                    self.logged_reason = None;
                }
                reason
            }
            Err(error) => {
                self.shared.metrics.relay_dial_failures[DialFailure::from(&error)].inc();
                DisconnectReason::Dial(error)
            }
        };
        self.peer.set_repair(None);
        self.wait_after(reason)
    }

    fn unanswered_request(&self) -> Option<UnansweredRequest> {
        let asked = self.peer.repair()?;
        let limit = self.peer.capabilities(|capabilities| capabilities.caps.unanswered());
        Some(UnansweredRequest { since: asked.since, until: asked.until, limit })
    }

    /// Sets the state that follows from the reason for a disconnect, and returns the wait; `None`
    /// to stop.
    fn wait_after(&mut self, reason: DisconnectReason) -> Option<Wait> {
        let mut text = reason.to_string();
        let (time, is_parked) = match &reason {
            DisconnectReason::Stopping => return None,
            DisconnectReason::Conversation(
                ExchangeError::NeedsAuthentication(_) | ExchangeError::Refused(_),
            )
            | DisconnectReason::Dial(
                DialError::Ourselves | DialError::Connect(ConnectError::NotPublic { .. }),
            ) => (PARKED, true),
            DisconnectReason::Offences => {
                self.shared.metrics.quarantines.inc();
                let (time, last) = self.peer.offences.quarantine(Instant::now().into_std());
                if let Some(last) = last {
                    text = format!("{text}, lately {}", last.label());
                }
                (time, false)
            }
            DisconnectReason::Dial(error) => {
                if error.is_permanent() {
                    self.backoff.note_permanent_failure();
                }
                let wanted = error.retry_after_secs().map_or(Duration::ZERO, Duration::from_secs);
                (self.backoff.next_delay().max(wanted.min(PARKED)), false)
            }
            _ => (self.backoff.next_delay(), false),
        };
        let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let until_ms = unix_ms().saturating_add(milliseconds);
        self.log(&text, milliseconds, matches!(reason, DisconnectReason::Offences));
        self.peer.set_state(match reason {
            DisconnectReason::Conversation(ExchangeError::NeedsAuthentication(_)) => {
                ConnectionState::NeedsAuthentication { until_ms, reason: text }
            }
            DisconnectReason::Offences => ConnectionState::Quarantined { until_ms, reason: text },
            _ if is_parked => ConnectionState::Refused { until_ms, reason: text },
            _ => ConnectionState::BackingOff { until_ms, reason: text },
        });
        Some(Wait { time, is_parked })
    }

    /// Logs the reason at `info` only if it changed, so that an unreachable relay does not fill the
    /// log. A quarantine is always logged: each is longer than the one before.
    fn log(&mut self, reason: &str, milliseconds: u64, is_quarantine: bool) {
        if is_quarantine {
            tracing::warn!(
                name: "relay_quarantined",
                relay = %self.peer.url, reason, milliseconds, "relay quarantined; Relayer tries again"
            );
            self.logged_reason = Some(reason.to_owned());
        } else if self.logged_reason.as_deref() == Some(reason) {
            tracing::debug!(relay = %self.peer.url, reason, milliseconds, "still not connected");
        } else {
            tracing::info!(
                name: "relay_disconnected",
                relay = %self.peer.url, reason, milliseconds, "relay not connected; Relayer tries again"
            );
            self.logged_reason = Some(reason.to_owned());
        }
    }
}

impl From<&DialError> for DialFailure {
    fn from(error: &DialError) -> Self {
        match error {
            DialError::Url | DialError::Ourselves => Self::Unusable,
            DialError::Upgrade(_) => Self::Upgrade,
            DialError::Connect(error) => match error {
                ConnectError::NoSuchName(_) | ConnectError::Dns(_) => Self::Dns,
                ConnectError::NotPublic { .. } => Self::NotPublic,
                ConnectError::Tcp(_) => Self::Tcp,
                ConnectError::Host(_) | ConnectError::Tls(HandshakeError::Certificate(_)) => {
                    Self::Certificate
                }
                ConnectError::Tls(_) => Self::Tls,
                ConnectError::Timeout(_) => Self::Timeout,
            },
        }
    }
}

/// Returns when the connection is to stop. A dropped sender also means to stop.
///
/// Waits on a clone, so that the caller's receiver does not mark the value as seen.
async fn stopped(desired: &watch::Receiver<DesiredState>) {
    let _ = desired.clone().wait_for(|state| matches!(state, DesiredState::Stopped)).await;
}

/// Returns when a wait is to end early. If the relay is parked, any change of the desired state
/// ends the wait, because the relay may serve another subscription. Otherwise, only a stop ends the
/// wait.
async fn woken(desired: &mut watch::Receiver<DesiredState>, is_parked: bool) {
    if is_parked { changed(desired).await } else { stopped(desired).await }
}

/// Returns when the desired state changes. A dropped sender means to stop.
pub(super) async fn changed(desired: &mut watch::Receiver<DesiredState>) {
    if desired.changed().await.is_err() {
        desired.mark_changed();
    }
}

#[cfg(test)]
mod tests {
    use wire::websocket::DecodeError;

    use super::super::disconnect::CloseReason;
    use super::*;

    #[test]
    fn the_same_failure_at_the_same_request_recurs() {
        let request = |limit| Some(UnansweredRequest { since: 1, until: None, limit });
        let closed = |text: &[u8]| DisconnectReason::Closed(CloseReason::parse(text));
        let mut failures = Failures::default();
        assert!(!failures.recurs(&closed(b""), request(Some(500))), "the first time");
        assert!(!failures.recurs(&closed(b""), request(Some(250))), "a smaller request may succeed");
        assert!(failures.recurs(&closed(b""), request(Some(250))));
        assert!(!failures.recurs(&closed(b"\x0f\xa0other"), request(Some(250))), "another reason");
        assert!(!failures.recurs(&closed(b""), None));
        assert!(!failures.recurs(&closed(b""), None), "relays may close idle connections");
        let breach = DisconnectReason::Socket(SocketError::Decode(DecodeError::ReservedBits));
        assert!(failures.recurs(&breach, None), "a protocol error always counts");
    }
}
