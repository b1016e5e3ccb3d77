//! What happens to each frame of a relay.
//!
//! Nearly all frames are copies. A copy is scanned where it lies in the read buffer, recognised in
//! memory, and counted in locals that are flushed once a counts: no allocation, no copy, no lock that
//! another core waits on. What memory does not know goes to its shard; if the shard is busy, reading
//! pauses, which is how back-pressure reaches the relay.

use std::ops::ControlFlow;
use std::sync::Arc;

use tokio::time::Instant;
use wire::websocket::Message;
use wire::{ClaimedId, EventHead, RelayMessage, Scan, UnverifiedEvent};

use super::connection::{CloseReason, DisconnectReason};
use super::pongs::Pongs;
use super::read_counts::ReadCounts;
use crate::clock::Clock;
use crate::ingest::{Candidate, Dedupe, DropReason, Inboxes, Look, Source};
use crate::limits::HEARTBEAT_BYTES_MAX;
use crate::relay::peer::Peer;
use crate::relay::protocol::{
    ClosedTarget, LIVE, Refusal, RefusalKind, Requests, is_past, is_reconciliation,
};

/// Why reading pauses between two messages.
pub(crate) enum Pause {
    /// The shards are busy: these candidates wait, and so does the socket.
    Busy(Vec<Candidate>),
    /// The relay has said something that the session takes up before it reads on.
    Said(Said),
}

/// What a relay says beside events.
pub(crate) enum Said {
    /// Our ping was answered.
    Pong,
    /// Something that was asked has been answered: the conversation can go on.
    Reply,
    /// The relay has ended the live subscription, with this reason, and nobody waits for it.
    LiveClosed(String),
    /// It has asked who we are.
    Challenge,
    /// It has judged our answer to that.
    Judgement,
    /// The session ends.
    End(DisconnectReason),
}

type Flow = ControlFlow<Pause>;

const GO_ON: Flow = ControlFlow::Continue(());

const fn said(said: Said) -> Flow {
    ControlFlow::Break(Pause::Said(said))
}

const fn end(end: DisconnectReason) -> Flow {
    said(Said::End(end))
}

/// What handles the messages of one read.
pub(crate) struct Reader<'a> {
    pub peer: &'a Arc<Peer>,
    pub dedupe: &'a Dedupe,
    pub inboxes: &'a Inboxes,
    /// What tells when an event was received.
    pub clock: &'a Clock,
    pub requests: &'a Requests,
    /// The payload of our ping, if that was not answered.
    pub pinged: Option<[u8; 8]>,
    /// What the relay's pings are answered by.
    pub pongs: &'a mut Pongs,
    /// Set when something came that memory did not know.
    pub useful: &'a mut bool,
}

impl Reader<'_> {
    pub fn handle(&mut self, message: Message<'_>, counts: &mut ReadCounts<'_>) -> Flow {
        match message {
            Message::Text(frame) => {
                counts.frame(frame.len() as u64);
                self.text(frame, counts)
            }
            Message::Binary(frame) => {
                counts.frame(frame.len() as u64);
                self.refuse(DropReason::BinaryFrame, counts)
            }
            Message::Skipped { is_text, head, bytes } => {
                counts.frame(bytes);
                self.skipped(is_text, head, counts)
            }
            Message::Ping(payload) => {
                self.pongs.owe(payload);
                GO_ON
            }
            Message::Pong(payload) => {
                if self.pinged.is_some_and(|pinged| pinged == *payload) {
                    return said(Said::Pong);
                }
                GO_ON // Nobody asked.
            }
            Message::Close(payload) => end(DisconnectReason::Closed(CloseReason::parse(payload))),
        }
    }

    /// Counts something refused. Nothing is read from a relay that has used up its budget of
    /// offences.
    fn refuse(&self, reason: DropReason, counts: &ReadCounts<'_>) -> Flow {
        counts.refuse(reason);
        if self.peer.offences.is_over() { end(DisconnectReason::Offences) } else { GO_ON }
    }

    /// A message that was too long to keep. An event that was asked for is its author's, and part
    /// of an answer.
    fn skipped(&self, is_text: bool, head: &[u8], counts: &mut ReadCounts<'_>) -> Flow {
        let event = wire::scan_head(head).filter(|_| is_text);
        let Some(EventHead { subscription, claimed, created_at }) = event else {
            return self.refuse(DropReason::FrameTooLarge, counts);
        };
        if self.asked_for(subscription, claimed.as_ref(), || created_at).is_none() {
            return self.refuse(DropReason::WrongSubscription, counts);
        }
        counts.event();
        self.refuse(DropReason::EventTooLarge, counts)
    }

    fn text(&mut self, frame: &[u8], counts: &mut ReadCounts<'_>) -> Flow {
        match wire::scan(frame) {
            Scan::Event { subscription, claimed, event } => {
                self.event_of(subscription, claimed, event, counts)
            }
            Scan::Parse => self.parse(frame, counts),
        }
    }

    fn event_of(
        &mut self,
        subscription: &[u8],
        claimed: ClaimedId,
        event: &[u8],
        counts: &mut ReadCounts<'_>,
    ) -> Flow {
        let created_at = || wire::event::created_at(wire::first_value(event));
        let Some(stored_in) = self.asked_for(subscription, Some(&claimed), created_at) else {
            return self.refuse(DropReason::WrongSubscription, counts);
        };
        self.event(claimed, event, stored_in, counts)
    }

    /// Counts an event as part of the answer that it belongs to, whatever becomes of it, and gives
    /// its second if it is a stored one; `None` if events of this subscription are not asked for.
    fn asked_for(
        &self,
        subscription: &[u8],
        claimed: Option<&ClaimedId>,
        created_at: impl FnOnce() -> Option<u64>,
    ) -> Option<Option<u64>> {
        let is_live = subscription == LIVE.as_bytes();
        if is_past(subscription) || is_live && self.requests.live_counts() {
            return Some(self.requests.event(subscription, claimed, created_at));
        }
        is_live.then_some(None)
    }

    /// The way of every event: dropped here if memory has seen it, else passed on. If it is a
    /// stored event of an answer, `stored_in` is its second.
    fn event(
        &mut self,
        claimed: ClaimedId,
        event: &[u8],
        stored_in: Option<u64>,
        counts: &mut ReadCounts<'_>,
    ) -> Flow {
        counts.event();
        match self.dedupe.look(&claimed) {
            Look::Seen(layer) => {
                counts.duplicate(layer);
                if let Some(late) = self.dedupe.lateness(&claimed) {
                    self.peer.stats.late(late);
                }
                return GO_ON;
            }
            Look::New => counts.lookups_in_memory += 1,
            Look::Perhaps => counts.lookups_on_disk += 1,
        }
        *self.useful = true;
        let event = wire::first_value(event);
        let candidate = Candidate::new(claimed, event, Arc::clone(self.peer) as Arc<dyn Source>, self.clock);
        let Some(second) = stored_in else {
            return match self.inboxes.offer(candidate) {
                Ok(()) => GO_ON,
                Err(candidate) => ControlFlow::Break(Pause::Busy(vec![candidate])),
            };
        };
        let mut released = self.requests.same_second.push(second, candidate, self.inboxes).into_iter();
        while let Some(candidate) = released.next() {
            if let Err(candidate) = self.inboxes.offer(candidate) {
                let waiting = std::iter::once(candidate).chain(released).collect();
                return ControlFlow::Break(Pause::Busy(waiting));
            }
        }
        GO_ON
    }

    /// Whatever the scan is not sure of.
    fn parse(&mut self, frame: &[u8], counts: &mut ReadCounts<'_>) -> Flow {
        if is_heartbeat(frame) {
            counts.heartbeat();
            return GO_ON;
        }
        if std::str::from_utf8(frame).is_err() {
            return self.refuse(DropReason::WebSocketProtocol, counts);
        }
        match RelayMessage::parse(frame) {
            Ok(RelayMessage::Event { subscription, event }) => {
                match UnverifiedEvent::parse(event.as_bytes()) {
                    Ok(parsed) => self.event_of(subscription.as_bytes(), parsed.id, event.as_bytes(), counts),
                    Err(error) => {
                        let created_at = || wire::event::created_at(event.as_bytes());
                        if self.asked_for(subscription.as_bytes(), None, created_at).is_none() {
                            return self.refuse(DropReason::WrongSubscription, counts);
                        }
                        counts.event();
                        self.refuse(DropReason::of_malformed(event.as_bytes(), error), counts)
                    }
                }
            }
            Ok(message) => self.control(&message, counts),
            Err(error) => self.refuse(error.into(), counts),
        }
    }

    /// Whatever is no event.
    fn control(&self, message: &RelayMessage<'_>, counts: &mut ReadCounts<'_>) -> Flow {
        // Whether somebody waited for it; or else whose subscription it is about.
        let (is_answer, subscription) = match message {
            RelayMessage::Event { .. } => return GO_ON, // It has been handled.
            RelayMessage::Eose { subscription, hints } => {
                (self.requests.stored(subscription, *hints), subscription)
            }
            RelayMessage::Closed { subscription, reason } => {
                counts.notices += 1;
                match self.requests.closed(subscription, reason) {
                    ClosedTarget::Live => return said(Said::LiveClosed(reason.to_string())),
                    ClosedTarget::Request => (true, subscription),
                    ClosedTarget::Nothing => (false, subscription),
                }
            }
            RelayMessage::NegMsg { subscription, message } => {
                (self.requests.step(subscription, message), subscription)
            }
            RelayMessage::NegErr { subscription, reason } => {
                counts.notices += 1;
                (self.requests.refuse(subscription, reason), subscription)
            }
            RelayMessage::Ok { id, accepted, reason } => {
                counts.notices += 1;
                return match self.requests.authentication.judged(id, *accepted, reason, Instant::now()) {
                    true => said(Said::Judgement),
                    false => GO_ON,
                };
            }
            RelayMessage::Auth { challenge } => {
                counts.notices += 1;
                return match self.requests.authentication.challenged(challenge, Instant::now()) {
                    true => said(Said::Challenge),
                    false => GO_ON,
                };
            }
            RelayMessage::Notice(notice) => {
                counts.notices += 1;
                self.notice(notice, counts);
                return replied(self.requests.is_asking());
            }
        };
        if !is_answer && !is_ours(subscription.as_bytes()) {
            return self.refuse(DropReason::WrongSubscription, counts);
        }
        replied(is_answer)
    }

    /// A notice does not say what it is about. That we ask too much can only be about what is unanswered; of
    /// other words that refusals begin with, the requests waits to see.
    fn notice(&self, notice: &str, counts: &ReadCounts<'_>) {
        let refusal = Refusal::parse(notice);
        if refusal.kind == RefusalKind::RateLimited {
            if !self.requests.refused(notice) {
                counts.rate_limited();
            }
        } else if Refusal::is_one(notice) {
            self.requests.noticed(notice);
        }
        tracing::debug!(relay = %self.peer.url, notice = %refusal, "notice");
    }
}

/// Pauses for what somebody waits for. Nothing else is worth a pause, however much of it comes.
const fn replied(is_answer: bool) -> Flow {
    if is_answer { said(Said::Reply) } else { GO_ON }
}

/// Whether a text is what servers send only to keep a connection open: nothing, or a word.
fn is_heartbeat(frame: &[u8]) -> bool {
    frame.len() <= HEARTBEAT_BYTES_MAX
        && std::str::from_utf8(frame).is_ok_and(|text| !text.trim_ascii_start().starts_with('['))
}

/// Whether it is an id that we use; what was asked under it may be answered or given up by now.
fn is_ours(subscription: &[u8]) -> bool {
    subscription == LIVE.as_bytes() || is_past(subscription) || is_reconciliation(subscription)
}
