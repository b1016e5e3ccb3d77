//! The life of one relay's connection: dial, subscribe, read; and after a back-off again.
//!
//! Nearly all frames are copies. A copy is scanned where it lies in the read buffer, recognised in
//! memory, and counted in locals that are flushed once a turn: no allocation, no copy, no lock that
//! another core waits on. What memory does not know goes to its shard; if the shard is busy, this
//! connection waits and does not read, which is how back-pressure reaches the relay.

use std::convert::Infallible;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, timeout};
use wire::websocket::{ClientFrame, DecodeError, Message};
use wire::{ClaimedId, RelayMessage, Scan, UnverifiedEvent};

use super::backoff::Backoff;
use super::dial::{DialError, Dialer, Reach};
use super::peer::{ConnectionState, Peer};
use super::socket::{Socket, SocketError};
use super::subscription::{SUBSCRIPTION, Subscription};
use super::turn::Turn;
use crate::ingest::candidate::unix_ms;
use crate::ingest::{Candidate, Dedupe, DropReason, Inboxes, Look};
use crate::limits::{BACKOFF_RESET_AFTER, OVERLAP, SEND_TIMEOUT};
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
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error("the relay closed the connection")]
    Closed,
    #[error("the relay closed the subscription: {0}")]
    SubscriptionClosed(String),
    #[error("a text frame was not UTF-8")]
    NotUtf8,
    #[error("the relay did not answer a ping")]
    Silent,
    #[error("the relay does not read what we send")]
    NotReading,
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
    let mut connection =
        Connection { peer, shared, last_heard_ms, useful: false, caught_up: false, trouble: None };
    let mut backoff = Backoff::default();
    loop {
        let begun = Instant::now();
        let end = connection.session(&mut stop).await;
        if matches!(end, End::Stopping) {
            break;
        }
        if connection.useful || begun.elapsed() >= BACKOFF_RESET_AFTER {
            backoff.reset();
            connection.trouble = None;
        }
        let delay = backoff.next_delay();
        connection.back_off(end.to_string(), delay);
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
    /// Up to when everything that the relay said has been read, Unix milliseconds.
    last_heard_ms: Option<u64>,
    /// Whether the current session has brought an event that memory did not know.
    useful: bool,
    /// Whether everything up to now has been read: stored events have ended, and the socket has not been
    /// left unread for long since. Only then does hearing something mean that nothing before it is missing.
    caught_up: bool,
    /// Why the relay was not connected, as it was last logged.
    trouble: Option<String>,
}

/// Why reading pauses between two messages.
enum Pause {
    /// The shards are busy: this candidate waits, and so does the socket.
    Busy(Candidate),
    /// A ping wants its answer.
    Ping(Vec<u8>),
    /// The session ends.
    End(End),
}

type Flow = ControlFlow<Pause>;

const GO_ON: Flow = ControlFlow::Continue(());

fn end(end: End) -> Flow {
    ControlFlow::Break(Pause::End(end))
}

impl Connection {
    /// One connection from dialling to its end.
    async fn session(&mut self, stop: &mut watch::Receiver<bool>) -> End {
        self.useful = false;
        self.caught_up = false;
        self.peer.set_state(ConnectionState::Connecting);
        let dialled = tokio::select! {
            dialled = self.shared.dialer.dial(&self.peer.url, Reach::Anywhere) => dialled,
            () = stopped(stop) => return End::Stopping,
        };
        let mut socket = match dialled {
            Ok(socket) => socket,
            Err(error) => return error.into(),
        };
        self.peer.tally.connections.add(1);
        tracing::info!(relay = %self.peer.url, "relay connected");
        self.peer.set_state(ConnectionState::Backfilling { since_ms: unix_ms() });
        let end = match self.converse(&mut socket, stop).await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        if matches!(end, End::Stopping) {
            // A courtesy: if it fails, the connection ends all the same.
            let _ = timeout(GOODBYE, socket.send(ClientFrame::Close(1001))).await;
        }
        end
    }

    /// Notes that the relay is tried again later. The log gets a line when the reason is another than the
    /// last time, so that a relay that stays away does not fill it.
    fn back_off(&mut self, reason: String, delay: Duration) {
        let milliseconds = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        if self.trouble.as_ref() == Some(&reason) {
            tracing::debug!(relay = %self.peer.url, reason, milliseconds, "still not connected");
        } else {
            tracing::info!(relay = %self.peer.url, reason, "relay not connected; it is tried again");
            self.trouble = Some(reason.clone());
        }
        let until_ms = unix_ms().saturating_add(milliseconds);
        self.peer.set_state(ConnectionState::BackingOff { until_ms, reason });
    }

    /// Subscribes, then reads until something ends it.
    async fn converse(
        &mut self,
        socket: &mut Socket,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<Infallible, End> {
        let request = self.shared.subscription.request(self.last_heard_ms, unix_ms());
        send(socket, ClientFrame::Text(&request)).await?;
        let interval = self.shared.health_check_interval;
        let mut health = tokio::time::interval_at(Instant::now() + interval, interval);
        health.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Heard::Something;
        loop {
            tokio::select! {
                paused = self.read(socket) => {
                    let paused = paused?;
                    heard = Heard::Something;
                    if self.caught_up {
                        self.last_heard_ms = Some(unix_ms());
                    }
                    match paused {
                        None => {}
                        Some(Pause::Busy(candidate)) => self.wait_for_shard(candidate).await?,
                        Some(Pause::Ping(payload)) => send(socket, ClientFrame::Pong(&payload)).await?,
                        Some(Pause::End(end)) => return Err(end),
                    }
                }
                _ = health.tick() => {
                    heard = match heard {
                        Heard::Something => Heard::Nothing,
                        Heard::Nothing => {
                            send(socket, ClientFrame::Ping(b"")).await?;
                            Heard::NothingAfterPing
                        }
                        Heard::NothingAfterPing => return Err(End::Silent),
                    };
                }
                () = stopped(stop) => return Err(End::Stopping),
            }
        }
    }

    /// Hands a candidate over when its shard has room. The socket is not read meanwhile.
    async fn wait_for_shard(&mut self, candidate: Candidate) -> Result<(), End> {
        let begun = Instant::now();
        if !self.shared.inboxes.send(candidate).await {
            return Err(End::Stopping);
        }
        // What is read next may be old, and the relay may have given up on us behind it.
        self.caught_up &= begun.elapsed() < OVERLAP / 2;
        Ok(())
    }

    /// Reads once and handles what came.
    async fn read(&mut self, socket: &mut Socket) -> Result<Option<Pause>, End> {
        let mut turn = Turn::new(&self.peer, &self.shared.metrics);
        let mut session = Session {
            peer: &self.peer,
            shared: &self.shared,
            useful: &mut self.useful,
            caught_up: &mut self.caught_up,
        };
        match socket.read(|message| session.handle(message, &mut turn)).await {
            Ok(ControlFlow::Continue(())) => Ok(None),
            Ok(ControlFlow::Break(pause)) => Ok(Some(pause)),
            Err(error) => {
                match error {
                    SocketError::Decode(DecodeError::TooLong { .. }) => {
                        turn.breach(DropReason::FrameTooLarge)
                    }
                    SocketError::Decode(_) => turn.breach(DropReason::WebSocketProtocol),
                    SocketError::Io(_) | SocketError::Ended => {}
                }
                Err(error.into())
            }
        }
    }
}

/// What handles the messages of one read.
struct Session<'a> {
    peer: &'a Arc<Peer>,
    shared: &'a Shared,
    useful: &'a mut bool,
    caught_up: &'a mut bool,
}

impl Session<'_> {
    fn handle(&mut self, message: Message<'_>, turn: &mut Turn<'_>) -> Flow {
        match message {
            Message::Text(frame) => {
                turn.frame(frame.len());
                self.text(frame, turn)
            }
            Message::Binary(frame) => {
                turn.frame(frame.len());
                turn.refuse(DropReason::BinaryFrame);
                GO_ON
            }
            Message::Ping(payload) => ControlFlow::Break(Pause::Ping(payload.to_vec())),
            Message::Pong(_) => GO_ON,
            Message::Close(_) => end(End::Closed),
        }
    }

    fn text(&mut self, frame: &[u8], turn: &mut Turn<'_>) -> Flow {
        match wire::scan(frame) {
            Scan::Event { subscription, claimed, event } if subscription == SUBSCRIPTION.as_bytes() => {
                self.event(claimed, event, turn)
            }
            Scan::Event { .. } => {
                turn.refuse(DropReason::WrongSubscription);
                GO_ON
            }
            Scan::Parse => self.parse(frame, turn),
        }
    }

    /// The way of every event: dropped here if memory has seen it, else passed on.
    fn event(&mut self, claimed: ClaimedId, event: &[u8], turn: &mut Turn<'_>) -> Flow {
        match self.shared.dedupe.look(&claimed) {
            Look::Seen(layer) => {
                turn.duplicate(layer);
                return GO_ON;
            }
            Look::New => turn.lookups_in_memory += 1,
            Look::Perhaps => turn.lookups_on_disk += 1,
        }
        if std::str::from_utf8(event).is_err() {
            turn.refuse(DropReason::WebSocketProtocol);
            return end(End::NotUtf8);
        }
        *self.useful = true;
        match self.shared.inboxes.offer(Candidate::new(claimed, event, self.peer)) {
            Ok(()) => GO_ON,
            Err(candidate) => ControlFlow::Break(Pause::Busy(candidate)),
        }
    }

    /// Whatever the scan is not sure of.
    fn parse(&mut self, frame: &[u8], turn: &mut Turn<'_>) -> Flow {
        if std::str::from_utf8(frame).is_err() {
            turn.refuse(DropReason::WebSocketProtocol);
            return end(End::NotUtf8);
        }
        match RelayMessage::parse(frame) {
            Ok(RelayMessage::Event { subscription, event }) if subscription == SUBSCRIPTION => {
                match UnverifiedEvent::parse(event.as_bytes()) {
                    Ok(parsed) => return self.event(parsed.id, event.as_bytes(), turn),
                    Err(error) => turn.refuse(error.into()),
                }
            }
            Ok(RelayMessage::Eose { subscription }) if subscription == SUBSCRIPTION => {
                *self.caught_up = true;
                self.peer.set_state(ConnectionState::Live { since_ms: unix_ms() });
            }
            Ok(RelayMessage::Closed { subscription, reason }) if subscription == SUBSCRIPTION => {
                turn.notices += 1;
                return end(End::SubscriptionClosed(reason.chars().take(REASON_CHARS_MAX).collect()));
            }
            Ok(
                RelayMessage::Event { .. }
                | RelayMessage::Eose { .. }
                | RelayMessage::Closed { .. }
                | RelayMessage::NegMsg { .. }
                | RelayMessage::NegErr { .. },
            ) => turn.refuse(DropReason::WrongSubscription),
            Ok(RelayMessage::Notice(notice)) => {
                turn.notices += 1;
                tracing::debug!(relay = %self.peer.url, notice = %notice.escape_debug(), "notice");
            }
            Ok(RelayMessage::Auth { .. } | RelayMessage::Ok { .. }) => turn.notices += 1,
            Err(error) => turn.refuse(error.into()),
        }
        GO_ON
    }
}

/// How much of a relay's reason is kept.
const REASON_CHARS_MAX: usize = 200;

/// How long saying goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);

async fn send(socket: &mut Socket, frame: ClientFrame<'_>) -> Result<(), End> {
    let sent = timeout(SEND_TIMEOUT, socket.send(frame)).await;
    sent.map_err(|_| End::NotReading)?.map_err(|error| End::Socket(error.into()))
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
