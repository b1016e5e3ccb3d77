//! Between the one that reads a connection and the one that talks on it.
//!
//! The reader sees every frame, must not wait, and knows nothing of what was asked. The
//! [conversation](super::conversation) asks one thing after the other and waits for answers. Here the
//! conversation puts its pending and what is to be sent; the reader counts the events that come as an
//! answer and says how it ended.
//!
//! The reader alone decides how the live subscription [stands](Live), message by message. The
//! conversation learns of a message only when it is polled, and by then the next message may have
//! been read: time would be called proven although the subscription is gone.

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

/// How much of a notice is kept.
const NOTICE_CHARS_MAX: usize = 200;

/// How an answer ended.
#[derive(Debug)]
pub(crate) enum Reply {
    /// All stored events have come (EOSE).
    Stored(Answer),
    /// The events that were asked for by their ids have come: these have not.
    ByIds(HashSet<ClaimedId>),
    /// The relay ended the subscription, or the reconciliation, with this reason.
    Closed(String),
    /// A step of a reconciliation, in hex.
    Step(String),
}

/// What is waited for.
#[derive(Debug)]
pub(crate) enum Expected {
    /// The stored events of a window.
    Stored(Window),
    /// Events by their ids.
    ByIds(HashSet<ClaimedId>),
    /// A step of a reconciliation.
    Step,
}

/// How the live subscription stands by the messages that have been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum LiveState {
    /// It was not asked for, or either side has ended it.
    #[default]
    Closed,
    /// It was asked for. The relay has not said EOSE, nor that it refuses.
    Requested,
    /// The relay has said EOSE and has not ended the subscription since.
    Open,
    /// The same, and the stored events that are dated ahead have come: time that passes is proven.
    Proving,
}

/// What a CLOSED was about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClosedTarget {
    /// A request that is answered by it.
    Request,
    /// The live subscription, for which nobody waits at the moment.
    Live,
    /// Nothing that is open.
    Nothing,
}

#[derive(Debug)]
struct PendingRequest {
    subscription: String,
    expected: Expected,
    answer: Answer,
    reply: oneshot::Sender<Reply>,
}

/// The requests.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    state: Mutex<State>,
    /// Whether and how we have proven our key.
    pub authentication: Authentication,
    /// Whether something is to be sent.
    has_outgoing: AtomicBool,
    /// Whether a request for the past has brought events worth the connection, known ones included.
    is_useful: AtomicBool,
    /// A notice that reads like a refusal has come.
    noticed: Notify,
    /// Whether events of the live subscription count as an answer.
    live_counts: AtomicBool,
    /// Events of an answer that wait for the others of their second.
    pub same_second: SameSecond,
}

#[derive(Debug, Default)]
struct State {
    live: LiveState,
    /// The number in the last id.
    number: u32,
    outbox: VecDeque<String>,
    pending: Vec<PendingRequest>,
    /// What has been noticed since the last request, if it reads like a refusal.
    notice: Option<String>,
    /// When something of an answer last came.
    progress: Option<Instant>,
}

impl State {
    const fn next_number(&mut self) -> u32 {
        self.number = self.number.wrapping_add(1);
        self.number
    }
}

/// Whether events of this subscription are the answer to a request about the past. Its id may be one that
/// is closed by now: relays go on sending for a moment.
pub(crate) fn is_backfill(subscription: &[u8]) -> bool {
    matches!(subscription, [b'p', number @ ..] if is_number(number))
}

/// Whether this is the id of a NIP-77 reconciliation, which may be over by now.
pub(crate) fn is_reconciliation(subscription: &[u8]) -> bool {
    matches!(subscription, [b'n', number @ ..] if is_number(number))
}

fn is_number(digits: &[u8]) -> bool {
    (1..=10).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit)
}

impl Requests {
    /// The id of the next request for the past. No id is used twice on a connection: the end of an
    /// answer that nobody waits for any more, however late it comes, must not be taken for that of
    /// another.
    pub fn next_backfill(&self) -> String {
        format!("p{}", self.state.lock().next_number())
    }

    /// The id of the next NIP-77 reconciliation, likewise.
    pub fn next_reconciliation(&self) -> String {
        format!("n{}", self.state.lock().next_number())
    }

    /// Puts a message into the outbox.
    pub fn send(&self, message: String) {
        self.state.lock().outbox.push_back(message);
        self.has_outgoing.store(true, Ordering::Relaxed);
    }

    /// Asks, and gives where the reply will come. It never does if the request is [given up](Self::give_up)
    /// or the connection ends.
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

    /// Waits no longer for an answer.
    pub fn give_up(&self, subscription: &str) {
        self.state.lock().pending.retain(|request| request.subscription != subscription);
        if subscription == LIVE {
            self.live_counts.store(false, Ordering::Relaxed);
        }
    }

    /// Takes a refusal that says nothing of what it refuses: whatever has no answer yet. `false` if that is
    /// nothing.
    pub fn refused(&self, reason: &str) -> bool {
        let mut state = self.state.lock();
        let (refused, left) = std::mem::take(&mut state.pending)
            .into_iter()
            .partition::<Vec<_>, _>(|request| request.answer.events == 0);
        state.pending = left;
        drop(state);
        let is_answer = !refused.is_empty();
        for request in refused {
            // Whoever asked may have gone.
            let _ = request.reply.send(Reply::Closed(reason.to_owned()));
        }
        is_answer
    }

    /// Takes a notice that reads like a refusal.
    pub fn noticed(&self, notice: &str) {
        self.state.lock().notice = Some(notice.chars().take(NOTICE_CHARS_MAX).collect());
        self.noticed.notify_waiters();
    }

    /// Waits for such a notice, and then for an answer that does not begin: so it was a refusal, and this is
    /// its reason.
    pub async fn refused_by_notice(&self) -> String {
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

    /// When something of an answer to the last request came.
    pub fn progress(&self) -> Option<Instant> {
        self.state.lock().progress
    }

    /// Whether something is to be sent.
    pub fn has_outgoing(&self) -> bool {
        self.has_outgoing.load(Ordering::Relaxed)
    }

    /// What is to be sent next.
    pub fn next_outgoing(&self) -> Option<String> {
        let mut state = self.state.lock();
        let message = state.outbox.pop_front();
        self.has_outgoing.store(!state.outbox.is_empty(), Ordering::Relaxed);
        message
    }

    /// How the live subscription stands.
    pub fn live(&self) -> LiveState {
        self.state.lock().live
    }

    /// Notes that the stored events that are dated ahead have come. If the subscription is open,
    /// time that passes is proven from now on.
    pub fn prove_time(&self) {
        let mut state = self.state.lock();
        if state.live == LiveState::Open {
            state.live = LiveState::Proving;
        }
    }

    /// Notes that we want another subscription: time that passes is not proven until that one is
    /// open.
    pub fn stop_proving(&self) {
        let mut state = self.state.lock();
        if state.live == LiveState::Proving {
            state.live = LiveState::Open;
        }
    }

    /// Notes that we end the live subscription, or that it counts for nothing from now on.
    pub fn unsubscribe(&self) {
        self.state.lock().live = LiveState::Closed;
        self.give_up(LIVE);
    }

    /// Whether a request about the past has brought events worth the connection.
    pub fn is_useful(&self) -> bool {
        self.is_useful.load(Ordering::Relaxed)
    }

    /// Notes that a request about the past was answered with events.
    pub fn set_useful(&self) {
        self.is_useful.store(true, Ordering::Relaxed);
    }

    /// Whether something is asked and not answered.
    pub fn is_asking(&self) -> bool {
        !self.state.lock().pending.is_empty()
    }

    /// Whether events of the live subscription count as an answer right now.
    pub fn live_counts(&self) -> bool {
        self.live_counts.load(Ordering::Relaxed)
    }

    /// Counts an event that came for a subscription, with the id and date that it claims, as far as
    /// they are known. Gives its second if it is a stored event of an answer, which may come newest
    /// first.
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
                // A live subscription that reaches back to no second gives live events only.
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

    /// Takes EOSE. `false` if nobody waits for it.
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

    /// Takes CLOSED.
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

    /// Takes NEG-ERR. `false` if nobody waits for it.
    pub fn refuse(&self, subscription: &str, reason: &str) -> bool {
        self.answer(subscription, |_, _| Reply::Closed(reason.to_owned()))
    }

    /// Takes NEG-MSG. `false` if nobody waits for it.
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
        // Whoever asked may have gone.
        let _ = request.reply.send(reply(request.expected, request.answer));
        true
    }
}
