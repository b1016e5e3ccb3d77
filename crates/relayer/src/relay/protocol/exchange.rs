//! Sends requests to a relay one after the other, at the relay's pace, and waits for each answer.

use std::pin::pin;
use std::sync::Arc;

use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, sleep, sleep_until};
use wire::{ClientMessage, Filter};

use super::answer::Answer;
use super::authentication::Standing;
use super::refusal::{Refusal, RefusalKind};
use super::requests::{Expected, Reply, Requests};
use super::subscription::{LIVE, Subscription, request};
use crate::event_log::Mark;
use crate::limits::{ANSWER_MAX, ANSWER_TIMEOUT, REPAIR_QUEUE_RETRY};
use crate::relay::peer::{Capabilities, Coverage, Peer};
use crate::relay::shared::Shared;

/// Why a conversation ended its connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExchangeError {
    #[error("the relay closed the subscription: {0}")]
    SubscriptionClosed(String),
    #[error("the relay does not answer a subscription")]
    Unanswered,
    #[error("{0}")]
    NeedsAuthentication(String),
    #[error("{0}")]
    Refused(String),
}

/// What to do after a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AfterRefusal {
    Retry,
    /// Retry unless the request has failed too often.
    RetryFew,
    /// Send a simpler request, if the request can get simpler.
    Simplify,
    /// The relay does not answer requests of this type.
    GiveUp,
}

/// The requesting side of one connection. On drop, closes the request that is still open at the
/// relay, because the relay may allow few subscriptions.
pub(crate) struct Exchange {
    pub peer: Arc<Peer>,
    pub shared: Arc<Shared>,
    pub requests: Arc<Requests>,
    pub subscription: Arc<Subscription>,
    open: Option<OpenRequest>,
    /// Whether the relay demanded authentication for a request after we had authenticated.
    wants_more_proof: bool,
}

/// A backfill request or reconciliation that is open at the relay.
struct OpenRequest {
    subscription: String,
    /// The message that closes the request.
    closing: String,
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.close_open();
    }
}

impl Exchange {
    pub fn new(
        peer: Arc<Peer>,
        shared: Arc<Shared>,
        requests: Arc<Requests>,
        subscription: Arc<Subscription>,
    ) -> Self {
        Self { peer, shared, requests, subscription, open: None, wants_more_proof: false }
    }

    /// Sends a request at the relay's pace and waits for the answer; `None` if none comes in time.
    pub async fn ask(&self, subscription: &str, expected: Expected, message: String) -> Option<Reply> {
        self.wait_for_pace().await;
        let reply = self.ask_now(subscription, expected, message).await;
        self.pass_on_held().await;
        reply
    }

    /// Sends a backfill request under a new id, once live events leave room for the answer.
    pub(crate) async fn ask_backfill(&mut self, expected: Expected, filters: Vec<Filter>) -> Option<Reply> {
        // Before the permit: a connection that waits for its pace must not hold a permit.
        self.wait_for_pace().await;
        let shared = Arc::clone(&self.shared);
        let _permit = backfill_permit(&shared).await;
        let subscription = self.requests.next_backfill();
        let closing = close_message(&subscription);
        self.open = Some(OpenRequest { subscription: subscription.clone(), closing });
        let reply = self.ask_now(&subscription, expected, request(&subscription, filters)).await;
        match reply {
            Some(Reply::Closed(_)) => self.open = None,
            _ => self.close_open(),
        }
        reply
    }

    /// Returns the id of a new reconciliation, which counts as open until
    /// [`close_open`](Self::close_open).
    pub(crate) fn open_reconciliation(&mut self) -> String {
        let subscription = self.requests.next_reconciliation();
        let closing = ClientMessage::NegClose { subscription: subscription.as_str().into() }.to_json();
        self.open = Some(OpenRequest { subscription: subscription.clone(), closing });
        subscription
    }

    pub(crate) fn close_open(&mut self) {
        if let Some(OpenRequest { subscription, closing }) = self.open.take() {
            self.requests.give_up(&subscription);
            self.requests.send(closing);
        }
    }

    /// Closes the live subscription.
    pub fn unsubscribe(&self) {
        self.requests.unsubscribe();
        self.requests.send(close_message(LIVE));
    }

    async fn wait_for_pace(&self) {
        let at = self.peer.capabilities(|capabilities| capabilities.pace.next_request(Instant::now()));
        sleep_until(at).await;
    }

    async fn ask_now(&self, subscription: &str, expected: Expected, message: String) -> Option<Reply> {
        self.peer.stats.requests.add(1);
        self.shared.metrics.relay_requests.inc();
        let mut reply = self.requests.ask(subscription, expected, message);
        let mut by_notice = pin!(self.requests.refused_by_notice());
        let mut deadline = Instant::now() + ANSWER_TIMEOUT;
        let end = Instant::now() + ANSWER_MAX;
        loop {
            tokio::select! {
                biased;
                reply = &mut reply => return reply.ok(),
                reason = &mut by_notice => {
                    self.requests.give_up(subscription);
                    return Some(Reply::Closed(reason));
                }
                // Events of the live subscription never end, so they do not extend the deadline.
                () = sleep_until(deadline), if subscription == LIVE => break,
                () = sleep_until(deadline) => match self.requests.progress().map(|progress| progress + ANSWER_TIMEOUT) {
                    Some(later) if later > Instant::now() && deadline < end => deadline = later.min(end),
                    Some(_) | None => break,
                },
            }
        }
        self.requests.give_up(subscription);
        None
    }

    /// Decides what to do after a refusal, as far as the decision does not depend on the request.
    ///
    /// # Errors
    /// If the relay demands authentication that we cannot give.
    pub(crate) async fn after_refusal(&mut self, refusal: &Refusal) -> Result<AfterRefusal, ExchangeError> {
        match refusal.kind {
            RefusalKind::RateLimited => {
                self.peer.rate_limited(&self.shared.metrics);
                Ok(AfterRefusal::Retry)
            }
            RefusalKind::AuthRequired => self.after_auth_required(refusal).await,
            RefusalKind::Restricted | RefusalKind::Blocked => Ok(AfterRefusal::GiveUp),
            RefusalKind::Invalid => Ok(AfterRefusal::Simplify),
            RefusalKind::Error => Ok(AfterRefusal::RetryFew),
        }
    }

    /// Handles a relay that serves only keys that it knows (NIP-42). The connection answers the
    /// challenge, and then a new conversation starts.
    async fn after_auth_required(&mut self, refusal: &Refusal) -> Result<AfterRefusal, ExchangeError> {
        if self.shared.signer.is_none() {
            let reason =
                format!("{refusal} (to prove a key, set [relay] authenticate = true and [nostr] secret_key)");
            return Err(ExchangeError::NeedsAuthentication(reason));
        }
        let why = match self.requests.authentication.standing() {
            Standing::Unasked | Standing::Asked(_) | Standing::Answered { .. } => {
                sleep(ANSWER_TIMEOUT).await;
                let reason = format!("{refusal} (but it sends no challenge)");
                return Err(ExchangeError::NeedsAuthentication(reason));
            }
            Standing::Refused(reason) | Standing::Failed(reason) => {
                return Err(ExchangeError::Refused(format!("{reason} (it does not take our key)")));
            }
            // The relay may have refused a request that it received before our authentication.
            Standing::Accepted | Standing::Unconfirmed
                if !std::mem::replace(&mut self.wants_more_proof, true) =>
            {
                return Ok(AfterRefusal::Retry);
            }
            Standing::Accepted => "although it has accepted our key",
            Standing::Unconfirmed => "although we have answered its challenge",
        };
        Err(ExchangeError::Refused(format!("{refusal} ({why})")))
    }

    /// Why an answer says nothing about what the relay has; `None` if the answer can be trusted.
    pub(crate) fn distrust(&self, answer: &Answer) -> Option<&'static str> {
        if answer.strays {
            return Some("it sends what was not asked for");
        }
        if answer.hints.more && answer.events == 0 {
            return Some("it says that there is more, and sends nothing");
        }
        if !self.requests.authentication.is_unknown() {
            return None;
        }
        if answer.hints.auth {
            return Some("auth-required: it says that it may have more for those who prove a key");
        }
        let has_sent = answer.events > 0;
        let serves = self.peer.capabilities(|capabilities| capabilities.serves_the_unknown(has_sent));
        (!serves).then_some("auth-required: it has asked for a key, and what it sends without is nothing")
    }

    /// Simplifies requests of one type; `false` if they cannot get simpler.
    pub(crate) fn simplify(&self, simplify: impl FnOnce(&mut Capabilities, usize) -> bool) -> bool {
        self.peer.capabilities(|capabilities| {
            simplify(capabilities, self.subscription.filter_count(capabilities.form()))
        })
    }

    /// Changes the coverage. Sends the mark of the change after the events that were read.
    pub(crate) async fn change_coverage(&self, change: impl FnOnce(Option<Coverage>) -> Option<Coverage>) {
        if let Some(mark) = self.peer.change_coverage(change) {
            self.send_mark(mark).await;
        }
    }

    pub(crate) async fn send_mark(&self, mark: Mark) {
        self.shared.inboxes.mark(mark).await;
    }

    /// Passes on the events of the last answer that are still held. Must be called before every
    /// mark that may prove the events' second.
    pub(crate) async fn pass_on_held(&self) {
        for candidate in self.requests.same_second.take() {
            self.shared.inboxes.send(candidate).await;
        }
    }
}

fn close_message(subscription: &str) -> String {
    ClientMessage::Close { subscription: subscription.into() }.to_json()
}

/// Waits for a backfill permit, then until the inboxes have room for backfill.
async fn backfill_permit(shared: &Shared) -> Option<SemaphorePermit<'_>> {
    // The semaphore is never closed.
    let permit = shared.repairs.acquire().await.ok();
    while !shared.inboxes.has_room_for_backfill() {
        sleep(REPAIR_QUEUE_RETRY).await;
    }
    permit
}
