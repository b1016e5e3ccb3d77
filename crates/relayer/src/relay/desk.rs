//! Between the one that reads a connection and the one that talks on it.
//!
//! The reader sees every frame, must not wait, and knows nothing of what was asked. The
//! [conversation](super::conversation) asks one thing after the other and waits for answers. Here the
//! conversation puts its questions and what is to be sent; the reader counts the events that come as an
//! answer and says how it ended.

use std::collections::HashSet;
use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep};
use wire::ClaimedId;

use super::repair::{Answer, Window};
use super::same_second::SameSecond;
use super::subscription::LIVE;
use crate::limits::{NOTICE_DOUBT, USEFUL_EVENTS_MIN};

/// The longest NIP-42 challenge that is answered.
const CHALLENGE_BYTES_MAX: usize = 1_024;
/// How much of a notice is kept.
const NOTICE_CHARS_MAX: usize = 200;

/// How an answer ended.
#[derive(Debug)]
pub(super) enum Reply {
    /// All stored events have come (EOSE).
    Stored(Answer),
    /// The events that were asked for by their ids have come: these have not.
    ByIds(HashSet<ClaimedId>),
    /// The relay ended the subscription, or the reconciliation, with this reason.
    Closed(String),
    /// A step of a reconciliation, in hex.
    Step(String),
    /// The relay's verdict on an event of ours.
    Verdict {
        /// Whether it took it.
        accepted: bool,
        /// Why not.
        reason: String,
    },
}

/// What is waited for.
#[derive(Debug)]
pub(super) enum Wanted {
    /// The stored events of a window.
    Stored(Window),
    /// Events by their ids.
    ByIds(HashSet<ClaimedId>),
    /// A step of a reconciliation.
    Step,
    /// A verdict on an event, whose id stands for the subscription.
    Verdict,
}

#[derive(Debug)]
struct Question {
    subscription: String,
    wanted: Wanted,
    answer: Answer,
    reply: oneshot::Sender<Reply>,
}

/// The desk.
#[derive(Debug, Default)]
pub(super) struct Desk {
    state: Mutex<State>,
    /// Whether something is to be sent.
    has_outgoing: AtomicBool,
    /// Whether the relay has opened the live subscription.
    is_subscribed: AtomicBool,
    /// Whether the live subscription is open, and what the relay had before, dated later than now, has come.
    is_live: AtomicBool,
    /// Whether a question about the past has brought events worth the connection. be they known or not.
    is_useful: AtomicBool,
    /// A challenge has come.
    challenged: Notify,
    /// A notice that reads like a refusal has come.
    noticed: Notify,
    /// Whether events of the live subscription count as an answer.
    live_counts: AtomicBool,
    /// Events of an answer that wait for the others of their second.
    pub same_second: SameSecond,
}

#[derive(Debug, Default)]
struct State {
    /// The number in the last id.
    number: u8,
    outbox: VecDeque<String>,
    questions: Vec<Question>,
    /// The last NIP-42 challenge.
    challenge: Option<String>,
    /// What has been noticed since the last question, if it reads like a refusal.
    notice: Option<String>,
    /// When something of an answer last came.
    progress: Option<Instant>,
}

impl State {
    fn next_number(&mut self) -> u8 {
        self.number = (self.number + 1) % 10;
        self.number
    }
}

/// Whether events of this subscription are the answer to a question about the past. Its id may be one that
/// is closed by now: relays go on sending for a moment.
pub(super) const fn is_past(subscription: &[u8]) -> bool {
    matches!(subscription, [b'p', b'0'..=b'9'])
}

/// Whether this is the id of a NIP-77 reconciliation, which may be over by now.
pub(super) const fn is_reconciliation(subscription: &[u8]) -> bool {
    matches!(subscription, [b'n', b'0'..=b'9'])
}

impl Desk {
    /// The id of the next request for the past. The conversation that asked the one before may have been
    /// broken off: its answer, which may still be on its way, must not be taken for this one's.
    pub fn next_past(&self) -> String {
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

    /// Asks, and gives where the reply will come. It never does if the question is [given up](Self::give_up)
    /// or the connection ends.
    pub fn ask(&self, subscription: &str, wanted: Wanted, message: String) -> oneshot::Receiver<Reply> {
        let (reply, replied) = oneshot::channel();
        let question =
            Question { subscription: subscription.to_owned(), wanted, answer: Answer::default(), reply };
        let mut state = self.state.lock();
        state.questions.retain(|other| other.subscription != subscription);
        state.questions.push(question);
        state.progress = None;
        state.notice = None;
        state.outbox.push_back(message);
        drop(state);
        if subscription == LIVE {
            self.live_counts.store(true, Ordering::Relaxed);
        }
        self.has_outgoing.store(true, Ordering::Relaxed);
        replied
    }

    /// Waits no longer for an answer.
    pub fn give_up(&self, subscription: &str) {
        self.state.lock().questions.retain(|question| question.subscription != subscription);
        if subscription == LIVE {
            self.live_counts.store(false, Ordering::Relaxed);
        }
    }

    /// Takes a refusal that says nothing of what it refuses: whatever has no answer yet. `false` if that is
    /// nothing.
    pub fn refused(&self, reason: &str) -> bool {
        let mut state = self.state.lock();
        let (refused, left) = std::mem::take(&mut state.questions)
            .into_iter()
            .partition::<Vec<_>, _>(|question| question.answer.events == 0);
        state.questions = left;
        drop(state);
        let is_answer = !refused.is_empty();
        for question in refused {
            // Whoever asked may have gone.
            let _ = question.reply.send(Reply::Closed(reason.to_owned()));
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

    /// When something of an answer to the last question came.
    pub fn progress(&self) -> Option<Instant> {
        self.state.lock().progress
    }

    /// Waits for the relay's NIP-42 challenge.
    pub async fn challenge(&self) -> String {
        loop {
            let challenged = self.challenged.notified();
            if let Some(challenge) = self.state.lock().challenge.clone() {
                return challenge;
            }
            challenged.await;
        }
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

    /// Whether time that passes is proven: the live subscription is open, and what the relay had before, dated
    /// later than that, has come.
    pub fn is_live(&self) -> bool {
        self.is_live.load(Ordering::Relaxed)
    }

    /// Says whether time that passes is proven.
    pub fn set_live(&self, is_live: bool) {
        self.is_live.store(is_live, Ordering::Relaxed);
    }

    /// Whether a question about the past has brought events worth the connection.
    pub fn is_useful(&self) -> bool {
        self.is_useful.load(Ordering::Relaxed)
    }

    /// Notes that a question about the past was answered with events.
    pub fn set_useful(&self) {
        self.is_useful.store(true, Ordering::Relaxed);
    }

    /// Whether something is asked and not answered.
    pub fn is_asking(&self) -> bool {
        !self.state.lock().questions.is_empty()
    }

    /// Whether the relay has opened the live subscription.
    pub fn is_subscribed(&self) -> bool {
        self.is_subscribed.load(Ordering::Relaxed)
    }

    /// Says whether the relay has opened the live subscription.
    pub fn set_subscribed(&self, is_subscribed: bool) {
        self.is_subscribed.store(is_subscribed, Ordering::Relaxed);
    }

    /// Whether events of the live subscription count as an answer right now.
    pub fn live_counts(&self) -> bool {
        self.live_counts.load(Ordering::Relaxed)
    }

    /// Counts an event that came for a subscription, with the id and date that it claims, as far as they are
    /// known. Gives its second if it is a stored event of an answer, which may come newest first.
    pub fn event(
        &self,
        subscription: &[u8],
        claimed: Option<&ClaimedId>,
        created_at: impl FnOnce() -> Option<u64>,
    ) -> Option<u64> {
        let mut state = self.state.lock();
        let mut questions = state.questions.iter_mut();
        let question = questions.find(|open| open.subscription.as_bytes() == subscription)?;
        let created_at = created_at();
        let mut is_stored = true;
        match &mut question.wanted {
            Wanted::Stored(window) => {
                // A live subscription that reaches back to no second gives live events only.
                is_stored = subscription != LIVE.as_bytes() || window.since > 0;
                match created_at {
                    Some(created_at) if !within(*window).contains(&created_at) => {
                        question.answer.strays = true;
                    }
                    Some(created_at) => question.answer.note(created_at),
                    None => question.answer.note_undated(),
                }
                if question.answer.events >= USEFUL_EVENTS_MIN {
                    self.is_useful.store(true, Ordering::Relaxed);
                }
            }
            Wanted::ByIds(ids) => _ = claimed.map(|claimed| ids.remove(claimed)),
            Wanted::Step | Wanted::Verdict => {}
        }
        state.progress = Some(Instant::now());
        created_at.filter(|_| is_stored)
    }

    /// Takes EOSE. `false` if nobody waits for it.
    pub fn stored(&self, subscription: &str) -> bool {
        self.answer(subscription, |wanted, answer| match wanted {
            Wanted::ByIds(missing) => Reply::ByIds(missing),
            Wanted::Stored(_) | Wanted::Step | Wanted::Verdict => Reply::Stored(answer),
        })
    }

    /// Takes CLOSED, or NEG-ERR. `false` if nobody waits for it.
    pub fn closed(&self, subscription: &str, reason: &str) -> bool {
        self.answer(subscription, |_, _| Reply::Closed(reason.to_owned()))
    }

    /// Takes NEG-MSG. `false` if nobody waits for it.
    pub fn step(&self, subscription: &str, message: &str) -> bool {
        self.answer(subscription, |_, _| Reply::Step(message.to_owned()))
    }

    /// Takes OK. `false` if nobody waits for it.
    pub fn verdict(&self, event: &str, accepted: bool, reason: &str) -> bool {
        self.answer(event, |_, _| Reply::Verdict { accepted, reason: reason.to_owned() })
    }

    /// Takes AUTH.
    pub fn challenged(&self, challenge: &str) {
        if challenge.len() > CHALLENGE_BYTES_MAX {
            return; // Nobody needs that; it would be kept, signed and sent back.
        }
        self.state.lock().challenge = Some(challenge.to_owned());
        self.challenged.notify_waiters();
    }

    fn answer(&self, subscription: &str, reply: impl FnOnce(Wanted, Answer) -> Reply) -> bool {
        let mut state = self.state.lock();
        let place = state.questions.iter().position(|question| question.subscription == subscription);
        let Some(question) = place.map(|place| state.questions.swap_remove(place)) else { return false };
        drop(state);
        if subscription == LIVE {
            self.live_counts.store(false, Ordering::Relaxed);
        }
        // Whoever asked may have gone.
        let _ = question.reply.send(reply(question.wanted, question.answer));
        true
    }
}

fn within(window: Window) -> RangeInclusive<u64> {
    window.since..=window.until.unwrap_or(u64::MAX)
}
