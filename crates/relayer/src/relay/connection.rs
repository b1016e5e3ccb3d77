//! The life of one relay's connection: dial, [converse](super::session), and after a rest again.
//!
//! How long the rest is depends on why the connection ended: a back-off for what passes, hours for relays
//! that do not serve us, a quarantine for those that send what no honest relay does.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep};
use wire::Signer;

use super::dial::{DialError, Dialer};
use super::metrics::Metrics;
use super::peer::{ConnectionState, Peer};
use super::refusal::Refusal;
use super::session::Session;
use super::socket::SocketError;
use super::subscription::Subscription;
use crate::clock::unix_ms;
use crate::event_log::EventLog;
use crate::ingest::{self, Dedupe, Inboxes};
use crate::limits::{BACKOFF_MAX, PARKED};
use crate::net::ConnectError;
use crate::net::backoff::Backoff;

/// What all connections share.
#[derive(Debug)]
pub struct Shared {
    /// Opens connections.
    pub dialer: Arc<Dialer>,
    /// What was seen.
    pub dedupe: Arc<Dedupe>,
    /// Where candidates go.
    pub inboxes: Inboxes,
    /// What is known already, for reconciling.
    pub log: Arc<EventLog>,
    /// Where frames are counted.
    pub metrics: Arc<Metrics>,
    /// What ingest counts.
    pub ingest_metrics: Arc<ingest::Metrics>,
    /// The key that is proven to relays that ask for it (NIP-42), if we may.
    pub signer: Option<Arc<Signer>>,
    /// Turns to ask for the past.
    pub repairs: Semaphore,
    /// Turns to look through the log for what is known.
    pub scans: Arc<Semaphore>,
    /// How often a connection's health is checked.
    pub health_check_interval: Duration,
    /// Above so many events a second a relay is read more slowly.
    pub events_per_second_max: Option<u32>,
}

/// What a connection is told.
#[derive(Debug, Clone)]
pub enum Order {
    /// To keep the relay connected, and to ask it for this.
    Run(Arc<Subscription>),
    /// To end.
    Stop,
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error("the relay closed the connection{0}")]
    Closed(CloseReason),
    #[error("the relay closed the subscription: {0}")]
    SubscriptionClosed(String),
    #[error("the relay does not answer a subscription")]
    Unanswered,
    #[error("the relay could not take our key: {0}")]
    NotAccepted(String),
    #[error("the relay did not answer a ping")]
    Silent,
    #[error("the relay does not read what we send")]
    NotReading,
    #[error("{0}")]
    NeedsAuthentication(String),
    #[error("{0}")]
    Refused(String),
    #[error("it sends too much that no honest relay sends")]
    Offences,
    #[error("the gateway is stopping")]
    Stopping,
}

/// Why a relay closed a connection, in its own words (RFC 6455, section 7.1.5): nothing, or `: `
/// with the code and the text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CloseReason(Box<str>);

impl CloseReason {
    /// Reads the payload of a close frame.
    pub fn parse(payload: &[u8]) -> Self {
        let Some((code, text)) = payload.split_first_chunk() else { return Self(Box::default()) };
        let code = u16::from_be_bytes(*code);
        match &*Refusal::parse(&String::from_utf8_lossy(text)).text {
            "" => Self(format!(": {code}").into()),
            text => Self(format!(": {code} {text}").into()),
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Keeps one relay connected until told to stop.
pub async fn run(peer: Arc<Peer>, shared: Arc<Shared>, mut orders: watch::Receiver<Order>) {
    let mut connection = Connection {
        peer,
        shared,
        backoff: Backoff::of_relay(),
        failures: Failures::default(),
        trouble: None,
    };
    while let Some(subscription) = wanted(&mut orders) {
        let Some(rest) = connection.once(subscription, &mut orders).await else { break };
        tokio::select! {
            () = sleep(rest.time) => {}
            () = roused(&mut orders, rest.is_parked) => {}
        }
    }
    connection.peer.set_state(ConnectionState::Stopped);
}

/// What is asked for; `None` to end.
pub(super) fn wanted(orders: &mut watch::Receiver<Order>) -> Option<Arc<Subscription>> {
    let is_supervised = orders.has_changed().is_ok();
    match &*orders.borrow_and_update() {
        Order::Run(subscription) if is_supervised => Some(Arc::clone(subscription)),
        Order::Run(_) | Order::Stop => None,
    }
}

struct Connection {
    peer: Arc<Peer>,
    shared: Arc<Shared>,
    backoff: Backoff,
    failures: Failures,
    /// Why the relay was not connected, as it was last logged.
    trouble: Option<String>,
}

/// What was asked for when a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    since: u64,
    until: Option<u64>,
    /// With which limit. While less is asked for each time, the repair may still get on.
    limit: Option<u32>,
}

/// How the last connection failed.
#[derive(Debug, Default)]
struct Failures(Option<(String, Place)>);

impl Failures {
    /// Whether a connection that ended so is a failure though it was useful before: it fails in the
    /// same way at the same place as the last one, or by a breach of the protocol. If it did not
    /// count, such a relay would be dialled again at once, without end.
    fn recurs(&mut self, end: &End, place: Option<Place>) -> bool {
        let failure = place.map(|place| (end.to_string(), place));
        let is_same = failure.is_some() && failure == self.0;
        self.0 = failure;
        is_same || matches!(end, End::Socket(SocketError::Decode(_)))
    }
}

/// The time between two connections.
struct Rest {
    time: Duration,
    is_parked: bool,
}

impl Connection {
    /// One connection from dialling to its end, and what follows; `None` to end.
    async fn once(
        &mut self,
        subscription: Arc<Subscription>,
        orders: &mut watch::Receiver<Order>,
    ) -> Option<Rest> {
        self.peer.set_state(ConnectionState::Connecting);
        let dialled = tokio::select! {
            dialled = self.shared.dialer.dial(&self.peer.url, self.peer.reach()) => dialled,
            () = stopped(orders) => return None,
        };
        let end = match dialled {
            Ok(socket) => {
                self.peer.tally.connections.add(1);
                self.shared.metrics.relay_connections.inc();
                tracing::info!(relay = %self.peer.url, "relay connected");
                self.peer.set_state(ConnectionState::Backfilling { since_ms: unix_ms() });
                let (mut session, began) = (Session::new(&self.peer, &self.shared), Instant::now());
                let end = session.run(socket, subscription, orders).await;
                let recurs = self.failures.recurs(&end, self.place());
                if session.was_useful() && (!recurs || began.elapsed() >= BACKOFF_MAX) {
                    self.backoff.reset();
                    self.trouble = None;
                }
                end
            }
            Err(error) => End::Dial(error),
        };
        self.peer.set_repair(None);
        self.rest(end)
    }

    /// What was asked for and not answered, if something was.
    fn place(&self) -> Option<Place> {
        let asked = self.peer.repair()?;
        let limit = self.peer.manners(|manners| manners.caps.unanswered());
        Some(Place { since: asked.since, until: asked.until, limit })
    }

    /// How long, and in which state, the relay is left alone after a connection ended so.
    fn rest(&mut self, end: End) -> Option<Rest> {
        let mut reason = end.to_string();
        let (time, is_parked) = match &end {
            End::Stopping => return None,
            End::NeedsAuthentication(_)
            | End::Refused(_)
            | End::Dial(DialError::Ourselves | DialError::Connect(ConnectError::NotPublic { .. })) => {
                (PARKED, true)
            }
            End::Offences => {
                self.shared.metrics.quarantines.inc();
                let (time, last) = self.peer.conduct.quarantine(Instant::now().into_std());
                if let Some(last) = last {
                    reason = format!("{reason}, lately {}", last.label());
                }
                (time, false)
            }
            End::Dial(error) => {
                if error.is_permanent() {
                    self.backoff.despair();
                }
                let wanted = error.retry_after_secs().map_or(Duration::ZERO, Duration::from_secs);
                (self.backoff.next_delay().max(wanted.min(PARKED)), false)
            }
            _ => (self.backoff.next_delay(), false),
        };
        let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let until_ms = unix_ms().saturating_add(milliseconds);
        self.log(&reason, milliseconds);
        self.peer.set_state(match end {
            End::NeedsAuthentication(_) => ConnectionState::NeedsAuthentication { until_ms, reason },
            End::Offences => ConnectionState::Quarantined { until_ms, reason },
            _ if is_parked => ConnectionState::Refused { until_ms, reason },
            _ => ConnectionState::BackingOff { until_ms, reason },
        });
        Some(Rest { time, is_parked })
    }

    /// The log gets a line when the reason is another than the last time, so that a relay that stays away
    /// does not fill it.
    fn log(&mut self, reason: &str, milliseconds: u64) {
        if self.trouble.as_deref() == Some(reason) {
            tracing::debug!(relay = %self.peer.url, reason, milliseconds, "still not connected");
        } else {
            tracing::info!(relay = %self.peer.url, reason, milliseconds, "relay not connected; it is tried again");
            self.trouble = Some(reason.to_owned());
        }
    }
}

/// Returns when the connection is to end. A sender that is gone means the same.
///
/// It looks through a view of its own: looking here must not count as having seen an order.
pub(super) async fn stopped(orders: &watch::Receiver<Order>) {
    let _ = orders.clone().wait_for(|order| matches!(order, Order::Stop)).await;
}

/// Returns when a rest is to end before its time: when the connection is to end, or, if it is parked, when
/// something else is asked for, because who asks for that may be served.
async fn roused(orders: &mut watch::Receiver<Order>, is_parked: bool) {
    if is_parked { changed(orders).await } else { stopped(orders).await }
}

/// Returns when there is a new order. Nobody being left to give any means to end.
pub(super) async fn changed(orders: &mut watch::Receiver<Order>) {
    if orders.changed().await.is_err() {
        orders.mark_changed();
    }
}

#[cfg(test)]
mod tests {
    use wire::websocket::DecodeError;

    use super::*;

    #[test]
    fn what_fails_in_the_same_way_at_the_same_place_is_a_failure() {
        let place = |limit| Some(Place { since: 1, until: None, limit });
        let closed = |text: &[u8]| End::Closed(CloseReason::parse(text));
        let mut failures = Failures::default();
        assert!(!failures.recurs(&closed(b""), place(Some(500))), "the first time");
        assert!(!failures.recurs(&closed(b""), place(Some(250))), "less is asked for: it may get on");
        assert!(failures.recurs(&closed(b""), place(Some(250))));
        assert!(!failures.recurs(&closed(b"\x0f\xa0other"), place(Some(250))), "another way");
        assert!(!failures.recurs(&closed(b""), None));
        assert!(!failures.recurs(&closed(b""), None), "nothing was asked: relays end idle connections");
        let breach = End::Socket(SocketError::Decode(DecodeError::ReservedBits));
        assert!(failures.recurs(&breach, None), "no relay that works breaks the protocol");
    }

    #[test]
    fn a_close_says_what_the_relay_said_on_one_line() {
        for (payload, shown) in [
            (&b""[..], "the relay closed the connection"),
            (b"\x03", "the relay closed the connection"),
            (b"\x03\xe8", "the relay closed the connection: 1000"),
            (
                b"\x03\xf0too many\nconnections",
                "the relay closed the connection: 1008 too many\\nconnections",
            ),
            (b"\x0f\xa0\xff", "the relay closed the connection: 4000 \u{fffd}"),
        ] {
            assert_eq!(End::Closed(CloseReason::parse(payload)).to_string(), shown);
        }
    }
}
