//! Handles each frame of a relay.
//!
//! Nearly all frames are duplicates. A duplicate is scanned in place in the read buffer, recognised
//! in memory, and counted in locals that are flushed once per read: no allocation, no copy, no
//! contended lock. Events whose ids are not in memory go to their shard. If the shard is busy,
//! reading pauses, which is how back-pressure reaches the relay.

use std::ops::ControlFlow;
use std::sync::Arc;

use tokio::time::Instant;
use wire::websocket::Message;
use wire::{ClaimedId, EventHead, RelayMessage, Scan, UnverifiedEvent};

use super::disconnect::{CloseReason, DisconnectReason};
use super::pongs::Pongs;
use super::read_counts::ReadCounts;
use crate::clock::Clock;
use crate::ingest::{Candidate, Dedupe, DropReason, Inboxes, Lookup, Refusals, Source};
use crate::limits::HEARTBEAT_BYTES_MAX;
use crate::relay::peer::Peer;
use crate::relay::protocol::{
    ClosedTarget, LIVE, Refusal, RefusalKind, Requests, is_backfill, is_reconciliation,
};

/// Why reading pauses between two messages.
pub(super) enum Pause {
    /// The shards are busy: these candidates must be delivered before the socket is read again.
    ShardsBusy(Vec<Candidate>),
    /// The session must handle this event before it reads on.
    Control(ControlEvent),
}

/// What a frame without an event means for the session.
pub(super) enum ControlEvent {
    /// The relay answered our ping.
    Pong,
    /// The relay answered a request, so the conversation can continue.
    Answered,
    /// The relay closed the live subscription, for this reason, after the subscription's request
    /// had been answered.
    LiveClosed(String),
    /// NIP-42: the relay sent a challenge to answer.
    AuthChallenge,
    /// NIP-42: the relay judged our answer.
    AuthResult,
    Disconnect(DisconnectReason),
}

type Flow = ControlFlow<Pause>;

const CONTINUE: Flow = ControlFlow::Continue(());

const fn pause(event: ControlEvent) -> Flow {
    ControlFlow::Break(Pause::Control(event))
}

const fn disconnect(reason: DisconnectReason) -> Flow {
    pause(ControlEvent::Disconnect(reason))
}

/// Handles the messages of one read.
pub(super) struct Reader<'a> {
    pub peer: &'a Arc<Peer>,
    pub dedupe: &'a Dedupe,
    pub inboxes: &'a Inboxes,
    pub refusals: &'a Refusals,
    pub clock: &'a Clock,
    pub requests: &'a Requests,
    /// The payload of our unanswered ping, if there is one.
    pub pinged: Option<[u8; 8]>,
    pub pongs: &'a mut Pongs,
    /// Set when an event arrives whose id is not in memory.
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
                CONTINUE
            }
            Message::Pong(payload) => {
                if self.pinged.is_some_and(|pinged| pinged == *payload) {
                    return pause(ControlEvent::Pong);
                }
                CONTINUE // An unsolicited pong (RFC 6455, section 5.5.3).
            }
            Message::Close(payload) => disconnect(DisconnectReason::Closed(CloseReason::parse(payload))),
        }
    }

    /// Counts a refused frame. Reading stops when the relay has exhausted its offence budget.
    fn refuse(&self, reason: DropReason, counts: &ReadCounts<'_>) -> Flow {
        counts.refuse(reason);
        if self.peer.offences.is_over() { disconnect(DisconnectReason::Offences) } else { CONTINUE }
    }

    /// Like [`refuse`](Self::refuse), and remembers the event's id.
    fn refuse_event(&self, claimed: &ClaimedId, reason: DropReason, counts: &ReadCounts<'_>) -> Flow {
        self.refusals.note(claimed, reason, self.peer.url.to_arc(), self.clock.unix_ms());
        self.refuse(reason, counts)
    }

    /// Handles a message that was too long to keep. If the message is a requested event, its size
    /// is the author's fault, not the relay's, and the event counts as part of the answer.
    fn skipped(&self, is_text: bool, head: &[u8], counts: &mut ReadCounts<'_>) -> Flow {
        let event = wire::scan_head(head).filter(|_| is_text);
        let Some(EventHead { subscription, claimed, created_at }) = event else {
            return self.refuse(DropReason::FrameTooLarge, counts);
        };
        let reason = match self.asked_for(subscription, claimed.as_ref(), || created_at) {
            Some(_) => DropReason::EventTooLarge,
            None => DropReason::WrongSubscription,
        };
        if reason == DropReason::EventTooLarge {
            counts.event();
        }
        match claimed {
            Some(claimed) => self.refuse_event(&claimed, reason, counts),
            None => self.refuse(reason, counts),
        }
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
            return self.refuse_event(&claimed, DropReason::WrongSubscription, counts);
        };
        self.event(claimed, event, stored_in, counts)
    }

    /// Counts an event as part of its answer, even if the event is dropped later. Returns the
    /// event's second if the event is a stored one; `None` if we did not request events of this
    /// subscription.
    fn asked_for(
        &self,
        subscription: &[u8],
        claimed: Option<&ClaimedId>,
        created_at: impl FnOnce() -> Option<u64>,
    ) -> Option<Option<u64>> {
        let is_live = subscription == LIVE.as_bytes();
        if is_backfill(subscription) || is_live && self.requests.live_counts() {
            return Some(self.requests.event(subscription, claimed, created_at));
        }
        is_live.then_some(None)
    }

    /// Drops the event if its id is in memory, and otherwise passes it on. `stored_in` is the date
    /// of a stored event.
    fn event(
        &mut self,
        claimed: ClaimedId,
        event: &[u8],
        stored_in: Option<u64>,
        counts: &mut ReadCounts<'_>,
    ) -> Flow {
        counts.event();
        match self.dedupe.look_up(&claimed) {
            Lookup::Seen(layer) => {
                counts.duplicate(layer);
                if let Some(late) = self.dedupe.note_copy(&claimed) {
                    self.peer.stats.late(late);
                }
                return CONTINUE;
            }
            Lookup::New => counts.lookups_in_memory += 1,
            Lookup::Unknown => counts.lookups_on_disk += 1,
        }
        *self.useful = true;
        let event = wire::first_value(event);
        let candidate = Candidate::new(claimed, event, Arc::clone(self.peer) as Arc<dyn Source>, self.clock);
        let Some(second) = stored_in else {
            return match self.inboxes.offer(candidate) {
                Ok(()) => CONTINUE,
                Err(candidate) => ControlFlow::Break(Pause::ShardsBusy(vec![candidate])),
            };
        };
        let mut released = self.requests.same_second.push(second, candidate, self.inboxes).into_iter();
        while let Some(candidate) = released.next() {
            if let Err(candidate) = self.inboxes.offer(candidate) {
                let waiting = std::iter::once(candidate).chain(released).collect();
                return ControlFlow::Break(Pause::ShardsBusy(waiting));
            }
        }
        CONTINUE
    }

    /// Parses a frame that the scan did not recognise.
    fn parse(&mut self, frame: &[u8], counts: &mut ReadCounts<'_>) -> Flow {
        if is_heartbeat(frame) {
            counts.heartbeat();
            return CONTINUE;
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

    /// Handles a message that is not an event.
    fn control(&self, message: &RelayMessage<'_>, counts: &mut ReadCounts<'_>) -> Flow {
        // Whether a request waited for the message, and the subscription that the message names.
        let (is_answer, subscription) = match message {
            RelayMessage::Event { .. } => return CONTINUE, // Handled by `parse`.
            RelayMessage::Eose { subscription, hints } => {
                (self.requests.stored(subscription, *hints), subscription)
            }
            RelayMessage::Closed { subscription, reason } => {
                counts.notices += 1;
                match self.requests.closed(subscription, reason) {
                    ClosedTarget::Live => return pause(ControlEvent::LiveClosed(reason.to_string())),
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
                    true => pause(ControlEvent::AuthResult),
                    false => CONTINUE,
                };
            }
            RelayMessage::Auth { challenge } => {
                counts.notices += 1;
                return match self.requests.authentication.challenged(challenge, Instant::now()) {
                    true => pause(ControlEvent::AuthChallenge),
                    false => CONTINUE,
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

    /// Handles a NOTICE, which does not name a request. A rate limit must refer to the unanswered
    /// requests. For other refusal prefixes, the request tracker waits to see whether an answer
    /// follows.
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

/// Pauses only for an answer that a request waits for, so that unsolicited messages do not cause
/// pauses.
const fn replied(is_answer: bool) -> Flow {
    if is_answer { pause(ControlEvent::Answered) } else { CONTINUE }
}

/// Whether a text only keeps the connection open: it is empty or a short word.
fn is_heartbeat(frame: &[u8]) -> bool {
    frame.len() <= HEARTBEAT_BYTES_MAX
        && std::str::from_utf8(frame).is_ok_and(|text| !text.trim_ascii_start().starts_with('['))
}

/// Whether the id is one of ours, even if its request has been answered or given up.
fn is_ours(subscription: &[u8]) -> bool {
    subscription == LIVE.as_bytes() || is_backfill(subscription) || is_reconciliation(subscription)
}
