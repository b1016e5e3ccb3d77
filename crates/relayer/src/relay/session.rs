//! One open connection: reads frames, lets the [conversation](super::conversation) talk, and checks that
//! the relay is still there.
//!
//! A ping goes out at each health check. Its answer says more than that somebody is there: a relay sends
//! in order, so everything that it sent before the pong has been read. Once the live subscription is open
//! and the relay has been asked for what it has of the future, everything before the second in which the
//! ping was sent is thereby proven.

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
use tokio::time::{Instant, MissedTickBehavior, sleep_until, timeout};
use wire::websocket::{ClientFrame, DecodeError};

use super::authentication::Standing;
use super::connection::{End, Order, Shared, changed, wanted};
use super::conversation::Conversation;
use super::desk::{Desk, Live};
use super::manners::Manners;
use super::peer::Peer;
use super::pongs::Pongs;
use super::reader::{Pause, Reader, Said};
use super::refusal::{Refusal, RefusalKind};
use super::socket::{Socket, SocketError};
use super::subscription::Subscription;
use super::throttle::Throttle;
use super::turn::Turn;
use crate::clock::Now;
use crate::ingest::DropReason;
use crate::limits::SEND_TIMEOUT;

/// How long saying goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// How often the live subscription may be lost on one connection.
const CLOSINGS_MAX: u32 = 5;

/// What talks on the connection, until it has nothing more to say. It is in memory of its own, so that an
/// idle connection does not hold it.
type Talk = Pin<Box<dyn Future<Output = Result<(), End>> + Send>>;

/// One open connection.
pub(super) struct Session<'a> {
    peer: &'a Arc<Peer>,
    shared: &'a Arc<Shared>,
    desk: Arc<Desk>,
    throttle: Throttle,
    /// Whether it has brought an event that memory did not know, or answered a ping.
    useful: bool,
    ping: Option<Ping>,
    pongs: Pongs,
    /// How often the relay has closed the live subscription.
    closings: u32,
    /// Whether the live subscription of the moment has lasted: until a ping was answered.
    live_lasted: bool,
    /// When there is something to do for the relay to know who we are.
    authentication_due: Option<Instant>,
    /// Whether anything came since the last ping.
    heard: bool,
}

/// A ping that was sent.
#[derive(Debug, Clone, Copy)]
struct Ping {
    payload: [u8; 8],
    at: Instant,
    now: Now,
}

/// What becomes of the conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// It goes on, if it was not over.
    GoesOn,
    /// It begins again, with the live subscription.
    Begins,
    /// It is broken off.
    Ends,
}

/// What a conversation has done.
enum Talked {
    /// It wants something sent.
    Says,
    /// It has nothing more to say, or cannot go on.
    Ended(Result<(), End>),
}

impl<'a> Session<'a> {
    pub fn new(peer: &'a Arc<Peer>, shared: &'a Arc<Shared>) -> Self {
        Self {
            peer,
            shared,
            desk: Arc::default(),
            throttle: Throttle::new(shared.events_per_second_max),
            useful: false,
            ping: None,
            pongs: Pongs::default(),
            closings: 0,
            live_lasted: false,
            authentication_due: None,
            heard: true,
        }
    }

    /// Whether it was worth having.
    pub fn was_useful(&self) -> bool {
        self.useful || self.desk.is_useful()
    }

    /// Talks and reads until something ends it.
    pub async fn run(
        &mut self,
        mut socket: Socket,
        subscription: Arc<Subscription>,
        orders: &mut watch::Receiver<Order>,
    ) -> End {
        let Err(end) = self.converse(&mut socket, subscription, orders).await;
        self.pass_on_held();
        if matches!(end, End::Stopping) {
            // A courtesy: if it fails, the connection ends all the same.
            let _ = timeout(GOODBYE, socket.send(ClientFrame::Close(1001))).await;
        }
        end
    }

    /// What is held of an answer that has not ended is asked for again on the next connection, in
    /// order. A relay whose connections break again and again may never send all of that second, so
    /// what it has sent is taken.
    fn pass_on_held(&self) {
        if self.peer.manners(|manners| manners.caps.is_eased()) {
            for candidate in self.desk.same_second.take() {
                // A candidate for which there is no room is asked for again, too.
                let _ = self.shared.inboxes.offer(candidate);
            }
        }
    }

    async fn converse(
        &mut self,
        socket: &mut Socket,
        mut subscription: Arc<Subscription>,
        orders: &mut watch::Receiver<Order>,
    ) -> Result<Infallible, End> {
        let desk = Arc::clone(&self.desk);
        let mut talk = Some(self.talk(&subscription));
        let interval = self.shared.health_check_interval;
        // Relays that were connected together are not pinged together.
        let first = Instant::now() + interval.mul_f64(0.5 + rand::random::<f64>() / 2.0);
        let mut health = tokio::time::interval_at(first, interval);
        health.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut resume: Option<Instant> = None;
        let mut steps = self.shared.log.clock().steps();
        loop {
            let (due, pong) = (self.authentication_due, self.pongs.due(Instant::now()));
            tokio::select! {
                paused = self.read(socket), if resume.is_none() => {
                    // In memory of its own: pauses are rare, and an idle connection holds no room for one.
                    if let Some(pause) = paused? {
                        let next = Box::pin(self.pause(pause)).await?;
                        self.take(next, &mut talk, &subscription);
                        if next != Next::GoesOn {
                            self.send_outgoing(socket).await?;
                        }
                    }
                    resume = self.throttle.wait(Instant::now());
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    let next = self.authenticate()?;
                    self.take(next, &mut talk, &subscription);
                    self.send_outgoing(socket).await?;
                }
                () = sleep_until(resume.unwrap_or_else(Instant::now)), if resume.is_some() => resume = None,
                () = sleep_until(pong.unwrap_or_else(Instant::now)), if pong.is_some() => {
                    if let Some(payload) = self.pongs.take(Instant::now()) {
                        send(socket, ClientFrame::Pong(&payload)).await?;
                    }
                }
                talked = talked(&mut talk, &desk), if talk.is_some() => match talked {
                    Talked::Says => self.send_outgoing(socket).await?,
                    Talked::Ended(outcome) => {
                        talk = None;
                        self.send_outgoing(socket).await?;
                        outcome?;
                    }
                },
                _ = health.tick() => self.check_health(socket, resume.is_some()).await?,
                // What was asked and proven by the clock before is asked for again.
                Ok(()) = steps.changed() => {
                    desk.stop_proving();
                    self.take(Next::Begins, &mut talk, &subscription);
                }
                () = changed(orders) => {
                    let wanted = wanted(orders).ok_or(End::Stopping)?;
                    if wanted != subscription {
                        subscription = wanted;
                        desk.stop_proving();
                        self.take(Next::Begins, &mut talk, &subscription);
                    }
                }
            }
            if self.peer.conduct.is_over() {
                return Err(End::Offences);
            }
        }
    }

    /// Goes on with the conversation, ends it, or begins another one. While the relay has not said
    /// whether it takes our key, none begins.
    fn take(&self, next: Next, talk: &mut Option<Talk>, subscription: &Arc<Subscription>) {
        match next {
            Next::GoesOn => {}
            Next::Begins if self.authentication_due.is_none() => *talk = Some(self.talk(subscription)),
            Next::Begins | Next::Ends => *talk = None,
        }
    }

    fn talk(&self, subscription: &Arc<Subscription>) -> Talk {
        let conversation = Conversation::new(
            Arc::clone(self.peer),
            Arc::clone(self.shared),
            Arc::clone(&self.desk),
            Arc::clone(subscription),
        );
        Box::pin(conversation.run())
    }

    async fn send_outgoing(&self, socket: &mut Socket) -> Result<(), End> {
        while let Some(message) = self.desk.next_outgoing() {
            send(socket, ClientFrame::Text(&message)).await?;
        }
        Ok(())
    }

    /// Reads once and handles what came.
    async fn read(&mut self, socket: &mut Socket) -> Result<Option<Pause>, End> {
        let mut turn = Turn::new(self.peer, &self.shared.metrics, &self.shared.ingest_metrics);
        let mut reader = self.reader();
        let read = socket.read(|message| reader.handle(message, &mut turn)).await;
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
                        turn.breach(DropReason::FrameTooLarge)
                    }
                    SocketError::Decode(_) => turn.breach(DropReason::WebSocketProtocol),
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
            clock: self.shared.log.clock(),
            desk: &self.desk,
            pinged: self.ping.map(|ping| ping.payload),
            pongs: &mut self.pongs,
            useful: &mut self.useful,
        }
    }

    /// Does what reading has paused for.
    async fn pause(&mut self, pause: Pause) -> Result<Next, End> {
        match pause {
            // The shards are busy. The socket is not read meanwhile, and so the relay learns of it.
            Pause::Busy(candidates) => {
                for candidate in candidates {
                    if !self.shared.inboxes.send(candidate).await {
                        return Err(End::Stopping);
                    }
                }
                Ok(Next::GoesOn)
            }
            Pause::Said(said) => self.hear(said),
        }
    }

    /// Takes what the relay has said beside events.
    fn hear(&mut self, said: Said) -> Result<Next, End> {
        match said {
            Said::Pong => self.pong(),
            Said::Reply => {}
            Said::LiveClosed(reason) => {
                self.live_closed(&reason)?;
                return Ok(Next::Begins);
            }
            Said::Challenge | Said::Judgement => return self.authenticate(),
            Said::End(end) => return Err(end),
        }
        Ok(Next::GoesOn)
    }

    /// Does what there is to do for the relay to know who we are, if we may say that. Meanwhile
    /// nothing is asked, and nothing counts that was.
    fn authenticate(&mut self) -> Result<Next, End> {
        let Some(signer) = &self.shared.signer else { return Ok(Next::GoesOn) };
        let (authentication, now) = (&self.desk.authentication, Instant::now());
        match authentication.standing() {
            Standing::Asked(at) if at <= now => {
                let second = self.shared.log.clock().unix_secs();
                let message = authentication.answer(signer, self.peer.url.as_str(), second, now);
                self.desk.send(message);
            }
            Standing::Answered { until, .. } if until <= now => authentication.give_up_waiting(),
            Standing::Failed(reason) => return Err(End::NotAccepted(reason.into())),
            _ => {}
        }
        self.authentication_due = authentication.standing().due();
        self.desk.unsubscribe();
        Ok(if self.authentication_due.is_some() { Next::Ends } else { Next::Begins })
    }

    /// The live subscription is gone. Goes on only if it can be had again on this connection.
    fn live_closed(&mut self, reason: &str) -> Result<(), End> {
        let refusal = Refusal::parse(reason);
        self.closings += 1;
        if !std::mem::take(&mut self.live_lasted) && refusal.kind.is_about_the_request() {
            self.peer.manners(Manners::live_refused);
        }
        if self.closings > CLOSINGS_MAX {
            return Err(End::SubscriptionClosed(refusal.to_string()));
        }
        match refusal.kind {
            RefusalKind::RateLimited => {
                self.peer.rate_limited(&self.shared.metrics);
                Ok(())
            }
            RefusalKind::AuthRequired => Ok(()),
            RefusalKind::Restricted | RefusalKind::Blocked => Err(End::Refused(refusal.to_string())),
            RefusalKind::Invalid | RefusalKind::Error => Err(End::SubscriptionClosed(refusal.to_string())),
        }
    }

    /// The relay is asked for a sign of life; if it gave none since the last time, it is gone.
    async fn check_health(&mut self, socket: &mut Socket, is_throttled: bool) -> Result<(), End> {
        if is_throttled {
            return Ok(()); // It is us who do not read.
        }
        if self.ping.is_some() && !self.heard {
            return Err(End::Silent);
        }
        let payload = self.ping();
        send(socket, ClientFrame::Ping(&payload)).await
    }

    /// The payload of a ping that is sent now.
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
        let live = self.desk.live();
        if matches!(live, Live::Open | Live::Proving) && !self.live_lasted {
            self.live_lasted = true;
            self.peer.manners(Manners::live_lasted);
        }
        if live != Live::Proving {
            return;
        }
        let clock = self.shared.log.clock();
        let is_vouched = clock.agrees() == Some(true) && clock.now().steps == ping.now.steps;
        let mark = self.peer.change_coverage(|coverage| {
            let mut coverage = coverage?;
            // After a step of the clock, the conversation first takes up what is still proven.
            if coverage.rests_on(ping.now) {
                // The second of the ping was not over when the relay answered.
                coverage.extend(ping.now.secs().saturating_sub(1));
                if is_vouched {
                    coverage.vouch();
                }
            }
            Some(coverage)
        });
        // If the shards are too busy for it, the next pong says the same and more.
        if let Some(mark) = mark {
            self.shared.inboxes.offer_mark(mark);
        }
    }
}

/// Lets the conversation go on.
async fn talked(talk: &mut Option<Talk>, desk: &Desk) -> Talked {
    std::future::poll_fn(|context| {
        let Some(talk) = talk else { return Poll::Pending };
        match talk.as_mut().poll(context) {
            Poll::Ready(outcome) => Poll::Ready(Talked::Ended(outcome)),
            Poll::Pending if desk.has_outgoing() => Poll::Ready(Talked::Says),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

async fn send(socket: &mut Socket, frame: ClientFrame<'_>) -> Result<(), End> {
    let sent = timeout(SEND_TIMEOUT, socket.send(frame)).await;
    sent.map_err(|_| End::NotReading)?.map_err(|error| End::Socket(error.into()))
}
