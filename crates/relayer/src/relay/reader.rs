//! What happens to each frame of a relay.
//!
//! Nearly all frames are copies. A copy is scanned where it lies in the read buffer, recognised in
//! memory, and counted in locals that are flushed once a turn: no allocation, no copy, no lock that
//! another core waits on. What memory does not know goes to its shard; if the shard is busy, reading
//! pauses, which is how back-pressure reaches the relay.

use std::ops::ControlFlow;
use std::sync::Arc;

use wire::websocket::Message;
use wire::{ClaimedId, RelayMessage, Scan, UnverifiedEvent};

use super::connection::End;
use super::desk::{Desk, is_past, is_reconciliation};
use super::peer::Peer;
use super::refusal::{Refusal, RefusalKind};
use super::subscription::LIVE;
use super::turn::Turn;
use crate::clock::Clock;
use crate::ingest::{Candidate, Dedupe, DropReason, Inboxes, Look};

/// Why reading pauses between two messages.
pub(super) enum Pause {
    /// The shards are busy: these candidates wait, and so does the socket.
    Busy(Vec<Candidate>),
    /// A ping wants its answer.
    Ping(Vec<u8>),
    /// A ping was answered.
    Pong(Vec<u8>),
    /// Something that was asked has been answered: the conversation can go on.
    Replied,
    /// The relay has ended the live subscription, with this reason.
    LiveClosed(String),
    /// The session ends.
    End(End),
}

type Flow = ControlFlow<Pause>;

const GO_ON: Flow = ControlFlow::Continue(());

fn end(end: End) -> Flow {
    ControlFlow::Break(Pause::End(end))
}

/// What handles the messages of one read.
pub(super) struct Reader<'a> {
    pub peer: &'a Arc<Peer>,
    pub dedupe: &'a Dedupe,
    pub inboxes: &'a Inboxes,
    /// What tells when an event was received.
    pub clock: &'a Clock,
    pub desk: &'a Desk,
    /// Set when something came that memory did not know.
    pub useful: &'a mut bool,
}

impl Reader<'_> {
    pub fn handle(&mut self, message: Message<'_>, turn: &mut Turn<'_>) -> Flow {
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
            Message::Pong(payload) => ControlFlow::Break(Pause::Pong(payload.to_vec())),
            Message::Close(_) => end(End::Closed),
        }
    }

    fn text(&mut self, frame: &[u8], turn: &mut Turn<'_>) -> Flow {
        match wire::scan(frame) {
            Scan::Event { subscription, claimed, event } => self.event_of(subscription, claimed, event, turn),
            Scan::Parse => self.parse(frame, turn),
        }
    }

    fn event_of(
        &mut self,
        subscription: &[u8],
        claimed: ClaimedId,
        event: &[u8],
        turn: &mut Turn<'_>,
    ) -> Flow {
        let mut stored_in = None;
        if subscription == LIVE.as_bytes() {
            if self.desk.live_counts() {
                stored_in = self.desk.event(subscription, &claimed, event);
            }
        } else if is_past(subscription) {
            stored_in = self.desk.event(subscription, &claimed, event);
        } else {
            turn.refuse(DropReason::WrongSubscription);
            return GO_ON;
        }
        self.event(claimed, event, stored_in, turn)
    }

    /// The way of every event: dropped here if memory has seen it, else passed on. If it is a stored event of an
    /// answer, `stored_in` is its second.
    fn event(
        &mut self,
        claimed: ClaimedId,
        event: &[u8],
        stored_in: Option<u64>,
        turn: &mut Turn<'_>,
    ) -> Flow {
        turn.event();
        match self.dedupe.look(&claimed) {
            Look::Seen(layer) => {
                turn.duplicate(layer);
                if let Some(late) = self.dedupe.lateness(&claimed) {
                    self.peer.tally.late(late);
                }
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
        let candidate = Candidate::new(claimed, event, self.peer, self.clock);
        let Some(second) = stored_in else {
            return match self.inboxes.offer(candidate) {
                Ok(()) => GO_ON,
                Err(candidate) => ControlFlow::Break(Pause::Busy(vec![candidate])),
            };
        };
        let mut released = self.desk.same_second.push(second, candidate, self.inboxes).into_iter();
        while let Some(candidate) = released.next() {
            if let Err(candidate) = self.inboxes.offer(candidate) {
                let waiting = std::iter::once(candidate).chain(released).collect();
                return ControlFlow::Break(Pause::Busy(waiting));
            }
        }
        GO_ON
    }

    /// Whatever the scan is not sure of.
    fn parse(&mut self, frame: &[u8], turn: &mut Turn<'_>) -> Flow {
        if std::str::from_utf8(frame).is_err() {
            turn.refuse(DropReason::WebSocketProtocol);
            return end(End::NotUtf8);
        }
        match RelayMessage::parse(frame) {
            Ok(RelayMessage::Event { subscription, event }) => {
                match UnverifiedEvent::parse(event.as_bytes()) {
                    Ok(parsed) => {
                        return self.event_of(subscription.as_bytes(), parsed.id, event.as_bytes(), turn);
                    }
                    Err(error) => turn.refuse(error.into()),
                }
            }
            Ok(message) => return self.control(&message, turn),
            Err(error) => turn.refuse(error.into()),
        }
        GO_ON
    }

    /// Whatever is no event.
    fn control(&self, message: &RelayMessage<'_>, turn: &mut Turn<'_>) -> Flow {
        // Whether somebody waited for it; or else whose subscription it is about.
        let (is_answer, subscription) = match message {
            RelayMessage::Event { .. } => return GO_ON, // It has been handled.
            RelayMessage::Eose { subscription } => (self.desk.stored(subscription), subscription),
            RelayMessage::Closed { subscription, reason } => {
                turn.notices += 1;
                let is_answer = self.desk.closed(subscription, reason);
                if !is_answer && subscription == LIVE && self.desk.is_subscribed() {
                    return ControlFlow::Break(Pause::LiveClosed(reason.to_string()));
                }
                (is_answer, subscription)
            }
            RelayMessage::NegMsg { subscription, message } => {
                (self.desk.step(subscription, message), subscription)
            }
            RelayMessage::NegErr { subscription, reason } => {
                turn.notices += 1;
                (self.desk.closed(subscription, reason), subscription)
            }
            RelayMessage::Ok { id, accepted, reason } => {
                turn.notices += 1;
                return replied(self.desk.verdict(id, *accepted, reason));
            }
            RelayMessage::Auth { challenge } => {
                turn.notices += 1;
                self.desk.challenged(challenge);
                return replied(true);
            }
            RelayMessage::Notice(notice) => {
                turn.notices += 1;
                self.notice(notice, turn);
                return replied(self.desk.is_asking());
            }
        };
        if !is_answer && !is_ours(subscription.as_bytes()) {
            turn.refuse(DropReason::WrongSubscription);
        }
        replied(is_answer)
    }

    /// A notice does not say what it is about. That we ask too much can only be about what is unanswered; of
    /// other words that refusals begin with, the desk waits to see.
    fn notice(&self, notice: &str, turn: &Turn<'_>) {
        let refusal = Refusal::parse(notice);
        if refusal.kind == RefusalKind::RateLimited {
            if !self.desk.refused(notice) {
                turn.rate_limited();
            }
        } else if Refusal::is_one(notice) {
            self.desk.noticed(notice);
        }
        tracing::debug!(relay = %self.peer.url, notice = %refusal, "notice");
    }
}

/// Pauses for what somebody waits for. Nothing else is worth a pause, however much of it comes.
const fn replied(is_answer: bool) -> Flow {
    if is_answer { ControlFlow::Break(Pause::Replied) } else { GO_ON }
}

/// Whether it is an id that we use; what was asked under it may be answered or given up by now.
fn is_ours(subscription: &[u8]) -> bool {
    subscription == LIVE.as_bytes() || is_past(subscription) || is_reconciliation(subscription)
}
