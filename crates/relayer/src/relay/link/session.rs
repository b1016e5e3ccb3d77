//! One open connection: reads frames, drives the [conversation](super::conversation), and checks
//! the relay's health.
//!
//! Each health check sends a ping. A relay answers in order, so everything that it sent before the
//! pong has been read. Once the live subscription is open and events dated in the future have come,
//! a pong therefore proves the time before its ping's second.

#[cfg(test)]
#[allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a model says what it expects"
)]
mod model;

use std::convert::Infallible;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, sleep_until, timeout};
use wire::websocket::{ClientFrame, DecodeError};

use super::connection::{DesiredState, changed, desired_subscription};
use super::conversation::Conversation;
use super::disconnect::DisconnectReason;
use super::pongs::Pongs;
use super::read_counts::ReadCounts;
use super::reader::{ControlEvent, Pause, Reader};
use super::throttle::Throttle;
use crate::clock::Now;
use crate::ingest::DropReason;
use crate::limits::SEND_TIMEOUT;
use crate::relay::peer::{Capabilities, Peer};
use crate::relay::protocol::{
    Exchange, ExchangeError, LiveState, Refusal, RefusalKind, Requests, Standing, Subscription,
};
use crate::relay::shared::Shared;
use crate::relay::transport::{Socket, SocketError};

/// How long sending the close frame may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How often the relay may close the live subscription on one connection.
const CLOSINGS_MAX: u32 = 5;

/// The running conversation. Boxed, so that an idle connection does not hold the conversation's
/// memory.
type RunningConversation = Pin<Box<dyn Future<Output = Result<(), ExchangeError>> + Send>>;

/// One open connection.
pub(super) struct RelaySession<'a> {
    peer: &'a Arc<Peer>,
    shared: &'a Arc<Shared>,
    requests: Arc<Requests>,
    throttle: Throttle,
    /// Whether the relay has sent an event whose id was not in memory, or answered a ping.
    useful: bool,
    ping: Option<Ping>,
    pongs: Pongs,
    /// How often the relay has closed the live subscription.
    closings: u32,
    /// Whether the current live subscription has lasted until a pong.
    live_lasted: bool,
    /// When authentication needs the next step.
    authentication_due: Option<Instant>,
    /// Whether anything was read since the last ping.
    heard: bool,
}

/// A ping that was sent.
#[derive(Debug, Clone, Copy)]
struct Ping {
    payload: [u8; 8],
    at: Instant,
    now: Now,
}

/// The next step of the conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NextStep {
    Continue,
    /// The conversation starts again with the live subscription.
    Restart,
    Abort,
}

/// Why the conversation returned control.
enum ConversationEvent {
    /// The conversation has messages to send.
    HasOutgoing,
    Ended(Result<(), ExchangeError>),
}

impl<'a> RelaySession<'a> {
    pub fn new(peer: &'a Arc<Peer>, shared: &'a Arc<Shared>) -> Self {
        Self {
            peer,
            shared,
            requests: Arc::default(),
            throttle: Throttle::new(shared.link_limits.load().events_per_second_max),
            useful: false,
            ping: None,
            pongs: Pongs::default(),
            closings: 0,
            live_lasted: false,
            authentication_due: None,
            heard: true,
        }
    }

    /// Whether the connection was useful. A useful connection ends the series of failures.
    pub(crate) fn was_useful(&self) -> bool {
        self.useful || self.requests.is_useful()
    }

    /// Runs the connection until something ends it.
    pub async fn run(
        &mut self,
        mut socket: Socket,
        subscription: Arc<Subscription>,
        desired: &mut watch::Receiver<DesiredState>,
    ) -> DisconnectReason {
        let Err(reason) = self.run_until_error(&mut socket, subscription, desired).await;
        self.pass_on_held();
        if matches!(reason, DisconnectReason::Stopping) {
            // Best effort: the connection ends in any case.
            let _ = timeout(CLOSE_TIMEOUT, socket.send(ClientFrame::Close(1001))).await;
        }
        reason
    }

    /// If connections keep breaking, passes on the held events of an unfinished answer, because the
    /// relay may never send the whole second. Otherwise, the next connection requests the events
    /// again.
    fn pass_on_held(&self) {
        if self.peer.capabilities(|capabilities| capabilities.caps.is_eased()) {
            for candidate in self.requests.same_second.take() {
                // Candidates that do not fit will be requested again.
                let _ = self.shared.inboxes.offer(candidate);
            }
        }
    }

    async fn run_until_error(
        &mut self,
        socket: &mut Socket,
        mut subscription: Arc<Subscription>,
        desired: &mut watch::Receiver<DesiredState>,
    ) -> Result<Infallible, DisconnectReason> {
        let requests = Arc::clone(&self.requests);
        let mut conversation = Some(self.converse(&subscription));
        let mut health = health_checks(self.shared.link_limits.load().health_check_interval);
        let mut resume: Option<Instant> = None;
        let mut steps = self.shared.log.clock().steps();
        loop {
            let (due, pong) = (self.authentication_due, self.pongs.due(Instant::now()));
            tokio::select! {
                paused = self.read(socket), if resume.is_none() => {
                    // Boxed: pauses are rare, and an idle connection should not hold memory for a
                    // pause.
                    if let Some(pause) = paused? {
                        let next = Box::pin(self.handle_pause(pause)).await?;
                        self.steer(next, &mut conversation, &subscription);
                        if next != NextStep::Continue {
                            self.send_outgoing(socket).await?;
                        }
                    }
                    resume = self.throttle.wait(Instant::now());
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    let next = self.authenticate()?;
                    self.steer(next, &mut conversation, &subscription);
                    self.send_outgoing(socket).await?;
                }
                () = sleep_until(resume.unwrap_or_else(Instant::now)), if resume.is_some() => resume = None,
                () = sleep_until(pong.unwrap_or_else(Instant::now)), if pong.is_some() => {
                    if let Some(payload) = self.pongs.take(Instant::now()) {
                        send(socket, ClientFrame::Pong(&payload)).await?;
                    }
                }
                event = drive(&mut conversation, &requests), if conversation.is_some() => match event {
                    ConversationEvent::HasOutgoing => self.send_outgoing(socket).await?,
                    ConversationEvent::Ended(outcome) => {
                        conversation = None;
                        self.send_outgoing(socket).await?;
                        outcome?;
                    }
                },
                _ = health.tick() => self.check_health(socket, resume.is_some()).await?,
                // Time proven by the previous clock must be requested again.
                Ok(()) = steps.changed() => {
                    requests.stop_proving();
                    self.steer(NextStep::Restart, &mut conversation, &subscription);
                }
                () = changed(desired) => {
                    let wanted = desired_subscription(desired).ok_or(DisconnectReason::Stopping)?;
                    let limits = **self.shared.link_limits.load();
                    if health.period() != limits.health_check_interval {
                        health = health_checks(limits.health_check_interval);
                    }
                    self.throttle.set(limits.events_per_second_max);
                    if wanted != subscription {
                        subscription = wanted;
                        requests.stop_proving();
                        self.steer(NextStep::Restart, &mut conversation, &subscription);
                    }
                }
            }
            if self.peer.offences.is_over() {
                return Err(DisconnectReason::Offences);
            }
        }
    }

    /// Continues, restarts or aborts the conversation. No conversation starts until the relay has
    /// judged our authentication.
    fn steer(
        &self,
        next: NextStep,
        conversation: &mut Option<RunningConversation>,
        subscription: &Arc<Subscription>,
    ) {
        match next {
            NextStep::Continue => {}
            NextStep::Restart if self.authentication_due.is_none() => {
                *conversation = Some(self.converse(subscription));
            }
            NextStep::Restart | NextStep::Abort => *conversation = None,
        }
    }

    fn converse(&self, subscription: &Arc<Subscription>) -> RunningConversation {
        let exchange = Exchange::new(
            Arc::clone(self.peer),
            Arc::clone(self.shared),
            Arc::clone(&self.requests),
            Arc::clone(subscription),
        );
        Box::pin(Conversation::new(exchange).run())
    }

    async fn send_outgoing(&self, socket: &mut Socket) -> Result<(), DisconnectReason> {
        while let Some(message) = self.requests.next_outgoing() {
            send(socket, ClientFrame::Text(&message)).await?;
        }
        Ok(())
    }

    /// Reads once and handles the messages.
    async fn read(&mut self, socket: &mut Socket) -> Result<Option<Pause>, DisconnectReason> {
        let mut counts = ReadCounts::new(self.peer, &self.shared.metrics, &self.shared.ingest_metrics);
        let mut reader = self.reader();
        let read = socket.read(|message| reader.handle(message, &mut counts)).await;
        self.heard = true;
        let frames = socket.take_frames();
        self.shared.metrics.relay_frames_handled.inc_by(frames);
        self.throttle.count(frames);
        match read {
            Ok(ControlFlow::Continue(())) => Ok(None),
            Ok(ControlFlow::Break(pause)) => Ok(Some(pause)),
            Err(error) => {
                match error {
                    SocketError::Decode(DecodeError::TooLong { .. }) => {
                        counts.breach(DropReason::FrameTooLarge)
                    }
                    SocketError::Decode(_) => counts.breach(DropReason::WebSocketProtocol),
                    SocketError::Io(_) | SocketError::Ended => {}
                }
                Err(error.into())
            }
        }
    }

    fn reader(&mut self) -> Reader<'_> {
        Reader {
            peer: self.peer,
            dedupe: &self.shared.dedupe,
            inboxes: &self.shared.inboxes,
            refusals: &self.shared.refusals,
            clock: self.shared.log.clock(),
            requests: &self.requests,
            pinged: self.ping.map(|ping| ping.payload),
            pongs: &mut self.pongs,
            useful: &mut self.useful,
        }
    }

    async fn handle_pause(&mut self, pause: Pause) -> Result<NextStep, DisconnectReason> {
        match pause {
            // The socket is not read in the meantime, which is how back-pressure reaches the relay.
            Pause::ShardsBusy(candidates) => {
                for candidate in candidates {
                    if !self.shared.inboxes.send(candidate).await {
                        return Err(DisconnectReason::Stopping);
                    }
                }
                Ok(NextStep::Continue)
            }
            Pause::Control(event) => self.handle_control(event),
        }
    }

    fn handle_control(&mut self, event: ControlEvent) -> Result<NextStep, DisconnectReason> {
        match event {
            ControlEvent::Pong => self.pong(),
            ControlEvent::Answered => {}
            ControlEvent::LiveClosed(reason) => {
                self.live_closed(&reason)?;
                return Ok(NextStep::Restart);
            }
            ControlEvent::AuthChallenge | ControlEvent::AuthResult => return self.authenticate(),
            ControlEvent::Disconnect(reason) => return Err(reason),
        }
        Ok(NextStep::Continue)
    }

    /// Takes the next step of authentication, if the configuration permits authentication. Until
    /// the relay has judged our answer, nothing is requested, and pending answers do not count.
    fn authenticate(&mut self) -> Result<NextStep, DisconnectReason> {
        let Some(signer) = &self.shared.signer else { return Ok(NextStep::Continue) };
        let (authentication, now) = (&self.requests.authentication, Instant::now());
        match authentication.standing() {
            Standing::Asked(at) if at <= now => {
                let second = self.shared.log.clock().unix_secs();
                let message = authentication.answer(signer, self.peer.url.as_str(), second, now);
                self.requests.send(message);
            }
            Standing::Answered { until, .. } if until <= now => authentication.give_up_waiting(),
            Standing::Failed(reason) => return Err(DisconnectReason::NotAccepted(reason.into())),
            _ => {}
        }
        self.authentication_due = authentication.standing().due();
        self.requests.unsubscribe();
        Ok(if self.authentication_due.is_some() { NextStep::Abort } else { NextStep::Restart })
    }

    /// Handles a live subscription that the relay closed. Returns `Ok` if it can be reopened on
    /// this connection.
    fn live_closed(&mut self, reason: &str) -> Result<(), ExchangeError> {
        let refusal = Refusal::parse(reason);
        self.closings += 1;
        if !std::mem::take(&mut self.live_lasted) && refusal.kind.is_about_the_request() {
            self.peer.capabilities(Capabilities::live_refused);
        }
        if self.closings > CLOSINGS_MAX {
            return Err(ExchangeError::SubscriptionClosed(refusal.to_string()));
        }
        match refusal.kind {
            RefusalKind::RateLimited => {
                self.peer.rate_limited(&self.shared.metrics);
                Ok(())
            }
            RefusalKind::AuthRequired => Ok(()),
            RefusalKind::Restricted | RefusalKind::Blocked => {
                Err(ExchangeError::Refused(refusal.to_string()))
            }
            RefusalKind::Invalid | RefusalKind::Error => {
                Err(ExchangeError::SubscriptionClosed(refusal.to_string()))
            }
        }
    }

    /// Sends a ping. If nothing was read since the last ping, disconnects.
    async fn check_health(
        &mut self,
        socket: &mut Socket,
        is_throttled: bool,
    ) -> Result<(), DisconnectReason> {
        if is_throttled {
            return Ok(()); // Reading is throttled, so nothing was read.
        }
        if self.ping.is_some() && !self.heard {
            return Err(DisconnectReason::Silent);
        }
        let payload = self.ping();
        send(socket, ClientFrame::Ping(&payload)).await
    }

    /// Registers a ping that is sent now, and returns its payload.
    fn ping(&mut self) -> [u8; 8] {
        let payload = rand::random::<u64>().to_be_bytes();
        self.ping = Some(Ping { payload, at: Instant::now(), now: self.shared.log.clock().now() });
        self.heard = false;
        payload
    }

    fn pong(&mut self) {
        let Some(ping) = self.ping.take() else { return };
        self.useful = true;
        self.peer.set_rtt(ping.at.elapsed());
        let live = self.requests.live();
        if matches!(live, LiveState::Open | LiveState::Proving) && !self.live_lasted {
            self.live_lasted = true;
            self.peer.capabilities(Capabilities::live_lasted);
        }
        if live != LiveState::Proving {
            return;
        }
        let clock = self.shared.log.clock();
        let is_vouched = clock.agrees() == Some(true) && clock.now().steps == ping.now.steps;
        let mark = self.peer.change_coverage(|coverage| {
            let mut coverage = coverage?;
            // After a clock step, the conversation must first reduce the coverage to what still
            // holds.
            if coverage.rests_on(ping.now) {
                // The ping's second was not over when the relay answered.
                coverage.extend(ping.now.secs().saturating_sub(1));
                if is_vouched {
                    coverage.vouch();
                }
            }
            Some(coverage)
        });
        // If the shards are too busy for the mark, the next pong proves the same time and more.
        if let Some(mark) = mark {
            self.shared.inboxes.offer_mark(mark);
        }
    }
}

/// Polls the conversation until it has messages to send or ends.
async fn drive(conversation: &mut Option<RunningConversation>, requests: &Requests) -> ConversationEvent {
    std::future::poll_fn(|context| {
        let Some(conversation) = conversation else { return Poll::Pending };
        match conversation.as_mut().poll(context) {
            Poll::Ready(outcome) => Poll::Ready(ConversationEvent::Ended(outcome)),
            Poll::Pending if requests.has_outgoing() => Poll::Ready(ConversationEvent::HasOutgoing),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// The times of the health checks of a connection.
fn health_checks(interval: Duration) -> Interval {
    // A random first delay spreads the pings of relays that connected together.
    let first = Instant::now() + interval.mul_f64(0.5 + rand::random::<f64>() / 2.0);
    let mut checks = tokio::time::interval_at(first, interval);
    checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    checks
}

async fn send(socket: &mut Socket, frame: ClientFrame<'_>) -> Result<(), DisconnectReason> {
    let sent = timeout(SEND_TIMEOUT, socket.send(frame)).await;
    sent.map_err(|_| DisconnectReason::NotReading)?.map_err(|error| DisconnectReason::Socket(error.into()))
}
