//! The life of one relay's connection: dial, subscribe, read; and after a back-off again.
//!
//! Nearly all frames are copies. A copy is scanned where it lies in the read buffer, recognised in
//! memory, and counted in locals that are flushed once a turn: no allocation, no copy, no lock that
//! another core waits on. What memory does not know goes to its shard; if the shard is busy, this
//! connection waits and does not read, which is how back-pressure reaches the relay.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_websockets::{CloseCode, Message};
use wire::{ClaimedId, RelayMessage, Scan, UnverifiedEvent};

use super::backoff::Backoff;
use super::dial::{DialError, Dialer, Socket};
use super::peer::{ConnectionState, Peer};
use super::subscription::{SUBSCRIPTION, Subscription};
use super::turn::Turn;
use crate::ingest::candidate::unix_ms;
use crate::ingest::{Dedupe, DropReason, Inboxes, Look};
use crate::limits::FRAMES_PER_TURN_MAX;
use crate::telemetry::Metrics;

/// What all connections share.
#[derive(Debug)]
pub struct Shared {
    /// Opens connections.
    pub dialer: Dialer,
    /// What is asked for.
    pub subscription: Subscription,
    /// What was seen.
    pub dedupe: Arc<Dedupe>,
    /// Where candidates go.
    pub inboxes: Inboxes,
    /// Where frames are counted.
    pub metrics: Arc<Metrics>,
    /// How often a connection's health is checked.
    pub health_check_interval: Duration,
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("the connection was lost: {0}")]
    Lost(tokio_websockets::Error),
    #[error("the relay closed the connection")]
    Closed,
    #[error("the relay closed the subscription: {0}")]
    SubscriptionClosed(String),
    #[error("a frame was too large ({len} bytes; {max} are allowed)")]
    FrameTooLarge { len: usize, max: usize },
    #[error("the relay broke the WebSocket protocol: {0}")]
    Protocol(tokio_websockets::Error),
    #[error("the relay did not answer a ping")]
    Silent,
    #[error("the gateway is stopping")]
    Stopping,
}

/// Keeps one relay connected until told to stop. `last_heard_ms` is when the log last heard of any relay
/// (Unix milliseconds), if it ever did.
pub async fn run(
    peer: Arc<Peer>,
    shared: Arc<Shared>,
    last_heard_ms: Option<u64>,
    mut stop: watch::Receiver<bool>,
) {
    let mut connection = Connection { peer, shared, last_heard_ms, useful: false };
    let mut backoff = Backoff::default();
    loop {
        let end = connection.session(&mut stop).await;
        if matches!(end, End::Stopping) {
            break;
        }
        if connection.useful {
            backoff.reset();
        }
        let delay = backoff.next_delay();
        tracing::debug!(relay = %connection.peer.url, reason = %end, ?delay, "connection ended");
        connection.peer.set_state(ConnectionState::BackingOff {
            until_ms: unix_ms().saturating_add(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)),
            reason: end.to_string(),
        });
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = stopped(&mut stop) => break,
        }
    }
    connection.peer.set_state(ConnectionState::Stopped);
}

struct Connection {
    peer: Arc<Peer>,
    shared: Arc<Shared>,
    /// When the relay last said anything, Unix milliseconds.
    last_heard_ms: Option<u64>,
    /// Whether the current session has brought an event or an EOSE.
    useful: bool,
}

impl Connection {
    /// One connection from dialling to its end.
    async fn session(&mut self, stop: &mut watch::Receiver<bool>) -> End {
        self.useful = false;
        self.peer.set_state(ConnectionState::Connecting);
        let dialled = tokio::select! {
            dialled = self.shared.dialer.dial(&self.peer.url) => dialled,
            () = stopped(stop) => return End::Stopping,
        };
        let mut socket = match dialled {
            Ok(socket) => socket,
            Err(error) => return error.into(),
        };
        self.peer.tally.connections.add(1);
        self.peer.set_state(ConnectionState::Backfilling { since_ms: unix_ms() });
        let end = match self.read(&mut socket, stop).await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        if matches!(end, End::Stopping) {
            let goodbye = Message::close(Some(CloseCode::GOING_AWAY), "");
            let _ = tokio::time::timeout(Duration::from_secs(1), socket.send(goodbye)).await;
        }
        end
    }

    async fn read(
        &mut self,
        socket: &mut Socket,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<std::convert::Infallible, End> {
        let request = self.shared.subscription.request(self.last_heard_ms, unix_ms());
        socket.send(Message::text(request)).await.map_err(End::Lost)?;
        let interval = self.shared.health_check_interval;
        let mut health = tokio::time::interval_at(Instant::now() + interval, interval);
        health.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Heard::Something;
        loop {
            tokio::select! {
                message = socket.next() => {
                    heard = Heard::Something;
                    self.last_heard_ms = Some(unix_ms());
                    self.turn(message, socket).await?;
                }
                _ = health.tick() => {
                    heard = match heard {
                        Heard::Something => Heard::Nothing,
                        Heard::Nothing => {
                            socket.send(Message::ping("")).await.map_err(End::Lost)?;
                            Heard::NothingAfterPing
                        }
                        Heard::NothingAfterPing => return Err(End::Silent),
                    };
                }
                () = stopped(stop) => return Err(End::Stopping),
            }
        }
    }

    /// Handles a message and all that have come with it, then lets other tasks run.
    async fn turn(
        &mut self,
        first: Option<Result<Message, tokio_websockets::Error>>,
        socket: &mut Socket,
    ) -> Result<(), End> {
        let shared = Arc::clone(&self.shared);
        let peer = Arc::clone(&self.peer);
        let mut turn = Turn::new(&peer, &shared.metrics);
        let mut message = first;
        for _ in 0..FRAMES_PER_TURN_MAX {
            self.handle(message, &mut turn).await?;
            match socket.next().now_or_never() {
                Some(ready) => message = ready,
                None => return Ok(()),
            }
        }
        let handled = self.handle(message, &mut turn).await;
        drop(turn);
        tokio::task::yield_now().await;
        handled
    }

    async fn handle(
        &mut self,
        message: Option<Result<Message, tokio_websockets::Error>>,
        turn: &mut Turn<'_>,
    ) -> Result<(), End> {
        let message = match message {
            Some(Ok(message)) => message,
            Some(Err(error)) => return Err(lost(error, turn)),
            None => return Err(End::Closed),
        };
        if message.is_text() {
            turn.frame(message.as_payload().len());
            self.text(message.as_payload(), turn).await
        } else if message.is_close() {
            Err(End::Closed)
        } else {
            if message.is_binary() {
                turn.frame(message.as_payload().len());
                turn.refuse(DropReason::BinaryFrame);
            }
            Ok(()) // The library answers pings.
        }
    }

    async fn text(&mut self, frame: &[u8], turn: &mut Turn<'_>) -> Result<(), End> {
        match wire::scan(frame) {
            Scan::Event { subscription, claimed, event } if subscription == SUBSCRIPTION.as_bytes() => {
                self.event(claimed, event, turn).await
            }
            Scan::Event { .. } => {
                turn.refuse(DropReason::WrongSubscription);
                Ok(())
            }
            Scan::Parse => self.parse(frame, turn).await,
        }
    }

    /// The way of every event: dropped here if memory has seen it, else passed on.
    async fn event(&mut self, claimed: ClaimedId, event: &[u8], turn: &mut Turn<'_>) -> Result<(), End> {
        self.useful = true;
        match self.shared.dedupe.look(&claimed) {
            Look::Seen(layer) => {
                turn.duplicate(layer);
                return Ok(());
            }
            Look::New => turn.lookups_in_memory += 1,
            Look::Perhaps => turn.lookups_on_disk += 1,
        }
        if self.shared.inboxes.send(claimed, event, &self.peer).await { Ok(()) } else { Err(End::Stopping) }
    }

    /// Whatever the scan is not sure of.
    async fn parse(&mut self, frame: &[u8], turn: &mut Turn<'_>) -> Result<(), End> {
        match RelayMessage::parse(frame) {
            Ok(RelayMessage::Event { subscription, event }) if subscription == SUBSCRIPTION => {
                match UnverifiedEvent::parse(event.as_bytes()) {
                    Ok(parsed) => return self.event(parsed.id, event.as_bytes(), turn).await,
                    Err(error) => turn.refuse(error.into()),
                }
            }
            Ok(RelayMessage::Eose { subscription }) if subscription == SUBSCRIPTION => {
                self.useful = true;
                self.peer.set_state(ConnectionState::Live { since_ms: unix_ms() });
            }
            Ok(RelayMessage::Closed { subscription, reason }) if subscription == SUBSCRIPTION => {
                turn.notices += 1;
                return Err(End::SubscriptionClosed(reason.chars().take(200).collect()));
            }
            Ok(
                RelayMessage::Event { .. } | RelayMessage::Eose { .. } | RelayMessage::Closed { .. },
            ) => turn.refuse(DropReason::WrongSubscription),
            Ok(RelayMessage::Notice(notice)) => {
                turn.notices += 1;
                tracing::debug!(relay = %self.peer.url, notice = %notice.escape_debug(), "notice");
            }
            Ok(RelayMessage::Auth { .. } | RelayMessage::Ok { .. }) => turn.notices += 1,
            Err(error) => turn.refuse(error.into()),
        }
        Ok(())
    }
}

/// Returns when the gateway stops. A sender that is gone means the same.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// What was heard since the last health check.
#[derive(Debug, Clone, Copy)]
enum Heard {
    Something,
    Nothing,
    NothingAfterPing,
}

/// What a failed read means, counted if it is the relay's fault.
fn lost(error: tokio_websockets::Error, turn: &mut Turn<'_>) -> End {
    match error {
        tokio_websockets::Error::PayloadTooLong { len, max_len } => {
            turn.frame(0);
            turn.refuse(DropReason::FrameTooLarge);
            End::FrameTooLarge { len, max: max_len }
        }
        tokio_websockets::Error::Protocol(_) => {
            turn.frame(0);
            turn.refuse(DropReason::WebSocketProtocol);
            End::Protocol(error)
        }
        _ => End::Lost(error),
    }
}
