//! Tracks the open requests of a connection: shared state between its reader and its conversation.
//!
//! The reader sees every frame and must not wait; the conversation sends one request after the
//! other and waits for answers. The conversation registers requests and queues messages here; the
//! reader counts the events of each answer and records how it ended.
//!
//! The reader applies EOSE and CLOSED to the [state](LiveState) of the live subscription, message
//! by message. The conversation requests and closes the live subscription and marks it as proving.
//! It does not apply messages, because it would do so only when polled, and might prove time after
//! a CLOSED.

use std::collections::HashSet;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep};
use wire::{ClaimedId, Hints};

use super::answer::{Answer, Window};
use super::authentication::Authentication;
use super::same_second::SameSecond;
use super::subscription::LIVE;
use crate::limits::{NOTICE_DOUBT, USEFUL_EVENTS_MIN};

/// The maximum length of a kept notice.
const NOTICE_CHARS_MAX: usize = 200;

/// How an answer ended.
#[derive(Debug)]
pub(crate) enum Reply {
    /// EOSE: the relay has sent all stored events.
    Stored(Answer),
    /// EOSE of a request by ids: these events are missing.
    ByIds(HashSet<ClaimedId>),
    /// The relay ended the subscription or reconciliation, for this reason.
    Closed(String),
    /// A message of a reconciliation, in hex.
    Step(String),
}

/// The answer that a request expects.
#[derive(Debug)]
pub(crate) enum Expected {
    /// The stored events of a window.
    Stored(Window),
    /// Events by their ids.
    ByIds(HashSet<ClaimedId>),
    /// A message of a reconciliation.
    Step,
}

/// The state of the live subscription, according to the messages that were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum LiveState {
    /// Not requested, or closed by either side.
    #[default]
    Closed,
    /// Requested, and the relay has sent neither EOSE nor a refusal.
    Requested,
    /// The relay has sent EOSE and has not closed the subscription since.
    Open,
    /// Open, and stored events dated in the future have come, so time is proven as it passes.
    Proving,
}

/// What a CLOSED message ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClosedTarget {
    /// A request: the CLOSED is its answer.
    Request,
    /// The live subscription, after its request was answered.
    Live,
    /// Nothing that was open.
    Nothing,
}

#[derive(Debug)]
struct PendingRequest {
    subscription: String,
    expected: Expected,
    answer: Answer,
    reply: oneshot::Sender<Reply>,
}

/// The request tracker of one connection.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    state: Mutex<State>,
    pub authentication: Authentication,
    /// Whether messages are queued.
    has_outgoing: AtomicBool,
    /// Whether a backfill request has brought enough events, including known ones, to make the
    /// connection useful.
    is_useful: AtomicBool,
    /// Notifies of a notice with the prefix of a refusal.
    noticed: Notify,
    /// Whether events of the live subscription count as part of an answer.
    live_counts: AtomicBool,
    /// The held events of an answer, by second.
    pub(crate) same_second: SameSecond,
}

#[derive(Debug, Default)]
struct State {
    live: LiveState,
    /// The number in the last subscription id.
    number: u32,
    outbox: VecDeque<String>,
    pending: Vec<PendingRequest>,
    /// The notice since the last request, if it has the prefix of a refusal.
    notice: Option<String>,
    /// When the last event of an answer arrived.
    progress: Option<Instant>,
}

impl State {
    const fn next_number(&mut self) -> u32 {
        self.number = self.number.wrapping_add(1);
        self.number
    }
}

/// Whether the id belongs to a backfill request, possibly a closed one: some messages still arrive
/// after CLOSE.
pub(crate) fn is_backfill(subscription: &[u8]) -> bool {
    matches!(subscription, [b'p', number @ ..] if is_number(number))
}

/// Whether the id belongs to a NIP-77 reconciliation, possibly a finished one.
pub(crate) fn is_reconciliation(subscription: &[u8]) -> bool {
    matches!(subscription, [b'n', number @ ..] if is_number(number))
}

fn is_number(digits: &[u8]) -> bool {
    (1..=10).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit)
}

impl Requests {
    /// The id of the next backfill request. No id is used twice on a connection, so that the late
    /// end of an abandoned answer is not taken for the end of another answer.
    pub(crate) fn next_backfill(&self) -> String {
        format!("p{}", self.state.lock().next_number())
    }

    /// The id of the next NIP-77 reconciliation.
    pub(crate) fn next_reconciliation(&self) -> String {
        format!("n{}", self.state.lock().next_number())
    }

    /// Queues a message.
    pub fn send(&self, message: String) {
        self.state.lock().outbox.push_back(message);
        self.has_outgoing.store(true, Ordering::Relaxed);
    }

    /// Registers a request and queues its message. The receiver never yields a reply if the request
    /// is [given up](Self::give_up) or the connection ends.
    pub fn ask(&self, subscription: &str, expected: Expected, message: String) -> oneshot::Receiver<Reply> {
        let (reply, replied) = oneshot::channel();
        let request = PendingRequest {
            subscription: subscription.to_owned(),
            expected,
            answer: Answer::default(),
            reply,
        };
        let mut state = self.state.lock();
        state.pending.retain(|other| other.subscription != subscription);
        state.pending.push(request);
        state.progress = None;
        state.notice = None;
        state.outbox.push_back(message);
        if subscription == LIVE {
            state.live = LiveState::Requested;
            self.live_counts.store(true, Ordering::Relaxed);
        }
        drop(state);
        self.has_outgoing.store(true, Ordering::Relaxed);
        replied
    }

    /// Stops waiting for an answer.
    pub fn give_up(&self, subscription: &str) {
        self.state.lock().pending.retain(|request| request.subscription != subscription);
        if subscription == LIVE {
            self.live_counts.store(false, Ordering::Relaxed);
        }
    }

    /// Handles a refusal that names no request: it ends every request that has received no event.
    /// Returns `false` if there is no such request.
    pub fn refused(&self, reason: &str) -> bool {
        let mut state = self.state.lock();
        let (refused, left) = std::mem::take(&mut state.pending)
            .into_iter()
            .partition::<Vec<_>, _>(|request| request.answer.events == 0);
        state.pending = left;
        drop(state);
        let is_answer = !refused.is_empty();
        for request in refused {
            // The receiver may have been dropped.
            let _ = request.reply.send(Reply::Closed(reason.to_owned()));
        }
        is_answer
    }

    /// Handles a notice with the prefix of a refusal.
    pub fn noticed(&self, notice: &str) {
        self.state.lock().notice = Some(notice.chars().take(NOTICE_CHARS_MAX).collect());
        self.noticed.notify_waiters();
    }

    /// Returns the next notice that has the prefix of a refusal and is not followed by an answer.
    pub(crate) async fn refused_by_notice(&self) -> String {
        loop {
            let noticed = self.noticed.notified();
            let notice = self.state.lock().notice.take();
            match notice {
                None => noticed.await,
                Some(notice) => {
                    sleep(NOTICE_DOUBT).await;
                    if self.progress().is_none() {
                        return notice;
                    }
                }
            }
        }
    }

    /// When the last event of the answer to the last request arrived.
    pub fn progress(&self) -> Option<Instant> {
        self.state.lock().progress
    }

    /// Whether messages are queued.
    pub(crate) fn has_outgoing(&self) -> bool {
        self.has_outgoing.load(Ordering::Relaxed)
    }

    /// Takes the next queued message.
    pub(crate) fn next_outgoing(&self) -> Option<String> {
        let mut state = self.state.lock();
        let message = state.outbox.pop_front();
        self.has_outgoing.store(!state.outbox.is_empty(), Ordering::Relaxed);
        message
    }

    pub fn live(&self) -> LiveState {
        self.state.lock().live
    }

    /// Records that stored events dated in the future have come. From now on, time is proven as it
    /// passes if the live subscription is open.
    pub(crate) fn prove_time(&self) {
        let mut state = self.state.lock();
        if state.live == LiveState::Open {
            state.live = LiveState::Proving;
        }
    }

    /// Records that another subscription is wanted: no more time is proven until the new one is
    /// open.
    pub(crate) fn stop_proving(&self) {
        let mut state = self.state.lock();
        if state.live == LiveState::Proving {
            state.live = LiveState::Open;
        }
    }

    /// Records that the live subscription is closed, or no longer counts.
    pub fn unsubscribe(&self) {
        self.state.lock().live = LiveState::Closed;
        self.give_up(LIVE);
    }

    /// Whether a backfill request made the connection useful.
    pub(crate) fn is_useful(&self) -> bool {
        self.is_useful.load(Ordering::Relaxed)
    }

    /// Records that a backfill request was answered with events.
    pub(crate) fn set_useful(&self) {
        self.is_useful.store(true, Ordering::Relaxed);
    }

    /// Whether a request is unanswered.
    pub(crate) fn is_asking(&self) -> bool {
        !self.state.lock().pending.is_empty()
    }

    /// Whether events of the live subscription count as part of an answer now.
    pub(crate) fn live_counts(&self) -> bool {
        self.live_counts.load(Ordering::Relaxed)
    }

    /// Counts an event of a subscription, with its claimed id and date as far as they are known.
    /// Returns `created_at` if this is a stored event of an answer.
    pub fn event(
        &self,
        subscription: &[u8],
        claimed: Option<&ClaimedId>,
        created_at: impl FnOnce() -> Option<u64>,
    ) -> Option<u64> {
        let mut state = self.state.lock();
        let mut pending = state.pending.iter_mut();
        let request = pending.find(|open| open.subscription.as_bytes() == subscription)?;
        let created_at = created_at();
        let mut is_stored = true;
        match &mut request.expected {
            Expected::Stored(window) => {
                // A live subscription without `since` brings only live events.
                is_stored = subscription != LIVE.as_bytes() || window.since > 0;
                match created_at {
                    Some(created_at) if !window.contains(created_at) => {
                        request.answer.strays = true;
                    }
                    Some(created_at) => request.answer.note(created_at),
                    None => request.answer.note_undated(),
                }
                if request.answer.events >= USEFUL_EVENTS_MIN {
                    self.is_useful.store(true, Ordering::Relaxed);
                }
            }
            Expected::ByIds(ids) => _ = claimed.map(|claimed| ids.remove(claimed)),
            Expected::Step => {}
        }
        state.progress = Some(Instant::now());
        created_at.filter(|_| is_stored)
    }

    /// Handles EOSE; `false` if no request waits for it.
    pub fn stored(&self, subscription: &str, hints: Hints) -> bool {
        if subscription == LIVE {
            let mut state = self.state.lock();
            if state.live == LiveState::Requested {
                state.live = LiveState::Open;
            }
        }
        self.answer(subscription, |expected, mut answer| match expected {
            Expected::ByIds(missing) => Reply::ByIds(missing),
            Expected::Stored(_) | Expected::Step => {
                answer.hints = hints;
                Reply::Stored(answer)
            }
        })
    }

    /// Handles CLOSED.
    pub fn closed(&self, subscription: &str, reason: &str) -> ClosedTarget {
        let was_live = subscription == LIVE
            && std::mem::replace(&mut self.state.lock().live, LiveState::Closed) != LiveState::Closed;
        if self.refuse(subscription, reason) {
            ClosedTarget::Request
        } else if was_live {
            ClosedTarget::Live
        } else {
            ClosedTarget::Nothing
        }
    }

    /// Handles NEG-ERR; `false` if no request waits for it.
    pub fn refuse(&self, subscription: &str, reason: &str) -> bool {
        self.answer(subscription, |_, _| Reply::Closed(reason.to_owned()))
    }

    /// Handles NEG-MSG; `false` if no request waits for it.
    pub fn step(&self, subscription: &str, message: &str) -> bool {
        self.answer(subscription, |_, _| Reply::Step(message.to_owned()))
    }

    fn answer(&self, subscription: &str, reply: impl FnOnce(Expected, Answer) -> Reply) -> bool {
        let mut state = self.state.lock();
        let place = state.pending.iter().position(|request| request.subscription == subscription);
        let Some(request) = place.map(|place| state.pending.swap_remove(place)) else { return false };
        drop(state);
        if subscription == LIVE {
            self.live_counts.store(false, Ordering::Relaxed);
        }
        // The receiver may have been dropped.
        let _ = request.reply.send(reply(request.expected, request.answer));
        true
    }
}
