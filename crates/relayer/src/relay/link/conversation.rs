//! What we say to a relay, from the first request to the last repair.
//!
//! First the live subscription, so that from then on nothing new is missed; then what is missing before
//! it, newest first, one request at a time. What a repair proves goes into the [coverage](super::coverage)
//! as a mark behind the events that prove it. When a relay refuses something, this does what its reason
//! asks for.

use std::pin::pin;
use std::sync::Arc;

use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, sleep, sleep_until};
use wire::ClientMessage;

use super::connection::{DisconnectReason, Shared};
use crate::clock::Now;
use crate::event_log::{Mark, RelayTable};
use crate::limits::{ANSWER_MAX, ANSWER_TIMEOUT, REPAIR_QUEUE_RETRY, REPAIR_RETRY};
use crate::relay::backfill::{Repair, Window};
use crate::relay::peer::{Capabilities, Coverage, Peer, RepairProgress, Stated};
use crate::relay::protocol::{
    Expected, LIVE, LiveForm, LiveState, Refusal, RefusalKind, Reply, Requests, Standing, Subscription,
    request,
};

/// How often a relay with one subscription is tried to be caught up with before the rest is left a gap.
const ROUNDS_MAX: usize = 5;

/// What is said on one connection.
pub(crate) struct Conversation {
    pub(crate) peer: Arc<Peer>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) requests: Arc<Requests>,
    pub(crate) subscription: Arc<Subscription>,
    pub(crate) progress: RepairProgress,
    /// The request for the past that is open at the relay: its id, and what ends it.
    pub(crate) open: Option<(String, String)>,
    /// Whether the relay has refused a request for want of a key although it has ours.
    wants_more_proof: bool,
}

/// What to do after a refusal.
pub(crate) enum Then {
    /// Ask again.
    Again,
    /// Ask again, if it was not tried too often.
    Later,
    /// Ask in another way, if there is one.
    Otherwise,
    /// This relay does not answer such requests.
    Never,
}

impl Conversation {
    pub fn new(
        peer: Arc<Peer>,
        shared: Arc<Shared>,
        requests: Arc<Requests>,
        subscription: Arc<Subscription>,
    ) -> Self {
        let progress = RepairProgress { since: 0, until: None, by: "req", requests: 0, events: 0 };
        Self { peer, shared, requests, subscription, progress, open: None, wants_more_proof: false }
    }

    /// Subscribes and repairs. Ends well when there is nothing more to ask; the live subscription stays.
    pub async fn run(mut self) -> Result<(), DisconnectReason> {
        if self.peer.capabilities(|capabilities| capabilities.has_one_subscription()) {
            // It may have said so long ago.
            self.ask_what_it_is().await;
        }
        if self.peer.capabilities(|capabilities| capabilities.has_one_subscription()) {
            return self.take_turns().await;
        }
        self.subscribe().await?;
        self.ask_what_it_is().await;
        if self.peer.capabilities(|capabilities| capabilities.has_one_subscription()) {
            return self.take_turns().await;
        }
        loop {
            if self.wants_repair() {
                self.peer.set_backfilling();
                self.repair_all().await?;
            } else if self.requests.live() == LiveState::Open {
                self.ask_ahead().await?;
            }
            if self.peer.capabilities(|capabilities| capabilities.has_one_subscription()) {
                return self.take_turns().await;
            }
            self.peer.set_live();
            if !self.wants_repair() && self.requests.live() == LiveState::Proving {
                return Ok(());
            }
            sleep(REPAIR_RETRY).await;
        }
    }

    /// Opens the live subscription. From now on nothing new is missed; what came before is not proven.
    async fn subscribe(&mut self) -> Result<(), DisconnectReason> {
        loop {
            let now = self.shared.log.clock().now();
            let (live, form) =
                self.peer.capabilities(|capabilities| (capabilities.live, capabilities.form()));
            let filters = self.subscription.live(live, form, now.secs());
            let window = match live {
                LiveForm::Since => {
                    Window { since: now.secs().saturating_sub(self.subscription.overlap_secs()), until: None }
                }
                LiveForm::LimitZero | LiveForm::LimitOne => EVERYTHING,
            };
            match self.ask(LIVE, Expected::Stored(window), request(LIVE, filters)).await {
                Some(Reply::Stored(_)) => {
                    self.reconnected(now).await;
                    return Ok(());
                }
                Some(Reply::Closed(reason)) => self.live_refused(&reason).await?,
                // A relay that sends events and never says that the stored ones have ended is of use, though
                // nothing can be proven of it.
                Some(_) | None if self.requests.progress().is_some() => {
                    self.reconnected(now).await;
                    return Ok(());
                }
                Some(_) | None => {
                    // Some relays say nothing to a request that they do not understand.
                    self.peer.capabilities(Capabilities::live_refused);
                    return Err(DisconnectReason::Unanswered);
                }
            }
        }
    }

    async fn live_refused(&mut self, reason: &str) -> Result<(), DisconnectReason> {
        let refusal = Refusal::parse(reason);
        match self.refused(&refusal).await? {
            Then::Again => Ok(()),
            Then::Otherwise if self.simplify(Capabilities::simplify_live) => Ok(()),
            Then::Never | Then::Otherwise => Err(DisconnectReason::Refused(refusal.to_string())),
            Then::Later => {
                self.peer.capabilities(Capabilities::live_refused);
                Err(DisconnectReason::SubscriptionClosed(refusal.to_string()))
            }
        }
    }

    pub(crate) fn simplify(&self, simplify: impl FnOnce(&mut Capabilities, usize) -> bool) -> bool {
        self.peer.capabilities(|capabilities| {
            simplify(capabilities, self.subscription.filter_count(capabilities.form()))
        })
    }

    /// For a relay that takes one subscription at a time: the past first, and then a live subscription whose
    /// stored events reach back to it. If those were too many for one answer, both again.
    async fn take_turns(&mut self) -> Result<(), DisconnectReason> {
        for round in 1.. {
            if self.requests.live() != LiveState::Closed {
                self.requests.unsubscribe();
                self.requests.send(closing(LIVE));
            }
            let now = self.shared.log.clock().now();
            self.reconnected(now).await;
            self.repair_all().await?;
            if self.subscribe_since(now.secs()).await? || round == ROUNDS_MAX {
                break;
            }
        }
        self.peer.set_live();
        Ok(())
    }

    /// Opens a live subscription that gives what came since this second, too; `true` if it gave all.
    async fn subscribe_since(&mut self, second: u64) -> Result<bool, DisconnectReason> {
        loop {
            let now = self.shared.log.clock().now();
            let window =
                Window { since: second.saturating_sub(self.subscription.overlap_secs()), until: None };
            let form = self.peer.capabilities(|capabilities| capabilities.form());
            let filters = self.subscription.live(LiveForm::Since, form, second);
            match self.ask(LIVE, Expected::Stored(window), request(LIVE, filters)).await {
                Some(Reply::Stored(answer)) => {
                    self.reconnected(now).await;
                    let filters = self.subscription.filter_count(form);
                    let mut repair = Repair::new(window, filters);
                    let findings = self.peer.capabilities(|capabilities| {
                        repair.answered(&answer, None, &mut capabilities.caps, second)
                    });
                    let is_whole = repair.next().is_none() && self.distrusts(&answer).is_none();
                    if is_whole {
                        self.found(findings).await;
                        self.requests.prove_time();
                    }
                    return Ok(is_whole);
                }
                Some(Reply::Closed(reason)) => self.live_refused(&reason).await?,
                Some(_) | None => return Err(DisconnectReason::Unanswered),
            }
        }
    }

    /// The relay is live from this second on; what has passed since the last contact is not proven, and
    /// neither is the overlap before it.
    async fn reconnected(&self, now: Now) {
        let since = self.subscription.first_contact_since(now.secs());
        let (kinds, overlap) = (self.subscription.kinds(), self.subscription.overlap_secs());
        let mark =
            self.peer.change_coverage(|known| Some(Coverage::resumed(known, kinds, since, now, overlap)));
        self.mark(mark).await;
    }

    pub(crate) async fn mark(&self, mark: Option<Mark>) {
        if let Some(mark) = mark {
            self.shared.inboxes.mark(mark).await;
        }
    }

    /// Asks the relay once a day what it is (NIP-11). That it does not say is an answer, too.
    async fn ask_what_it_is(&self) {
        let now_ms = self.shared.log.clock().unix_ms();
        if !self.peer.capabilities(|capabilities| capabilities.wants_information(now_ms)) {
            return;
        }
        let information = self.shared.dialer.information(&self.peer.url, self.peer.reach()).await;
        if let Err(error) = &information {
            tracing::debug!(relay = %self.peer.url, %error, "the relay does not say what it is");
        }
        let stated = Stated { information: information.ok().map(Box::new), asked_at_ms: now_ms };
        let row = stated.to_row();
        self.peer.capabilities(|capabilities| capabilities.inform(stated));
        let relay = self.peer.url.to_arc();
        let (mark, _) = Mark::new(RelayTable::Information, relay, row);
        self.shared.inboxes.mark(mark).await;
    }

    pub(crate) fn end_open(&mut self) {
        if let Some((subscription, closing)) = self.open.take() {
            self.requests.give_up(&subscription);
            self.requests.send(closing);
        }
    }

    pub(crate) fn note_progress(&mut self, window: Window, by: &'static str) {
        self.progress.requests += 1;
        (self.progress.since, self.progress.until, self.progress.by) = (window.since, window.until, by);
        self.peer.set_repair(Some(self.progress.clone()));
    }

    /// Asks for stored events under an id of its own, when live events leave room for them.
    pub(crate) async fn ask_past(&mut self, expected: Expected, filters: Vec<wire::Filter>) -> Option<Reply> {
        // First the relay's pace: who waits for that keeps nobody else waiting.
        self.wait_for_pace().await;
        let shared = Arc::clone(&self.shared);
        let _turn = turn_for_the_past(&shared).await;
        let subscription = self.requests.next_past();
        self.open = Some((subscription.clone(), closing(&subscription)));
        let reply = self.ask_now(&subscription, expected, request(&subscription, filters)).await;
        match reply {
            Some(Reply::Closed(_)) => self.open = None,
            _ => self.end_open(),
        }
        reply
    }

    /// Asks, at the relay's pace, and waits for the answer; `None` if none comes.
    pub(crate) async fn ask(&self, subscription: &str, expected: Expected, message: String) -> Option<Reply> {
        self.wait_for_pace().await;
        let reply = self.ask_now(subscription, expected, message).await;
        self.pass_on_held().await;
        reply
    }

    async fn wait_for_pace(&self) {
        let turn = self.peer.capabilities(|capabilities| capabilities.pace.take_turn(Instant::now()));
        sleep_until(turn).await;
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
                // Of the live subscription there is no end of what comes.
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

    /// Does what a refusal asks for, as far as it is the same whatever was refused.
    pub(crate) async fn refused(&mut self, refusal: &Refusal) -> Result<Then, DisconnectReason> {
        match refusal.kind {
            RefusalKind::RateLimited => {
                self.peer.rate_limited(&self.shared.metrics);
                Ok(Then::Again)
            }
            RefusalKind::AuthRequired => self.must_authenticate(refusal).await,
            RefusalKind::Restricted | RefusalKind::Blocked => Ok(Then::Never),
            RefusalKind::Invalid => Ok(Then::Otherwise),
            RefusalKind::Error => Ok(Then::Later),
        }
    }

    /// The relay serves only those whose key it knows (NIP-42). The session answers its challenge,
    /// and then a new conversation takes the place of this one.
    async fn must_authenticate(&mut self, refusal: &Refusal) -> Result<Then, DisconnectReason> {
        if self.shared.signer.is_none() {
            let reason =
                format!("{refusal} (to prove a key, set [relay] authenticate = true and [nostr] secret_key)");
            return Err(DisconnectReason::NeedsAuthentication(reason));
        }
        match self.requests.authentication.standing() {
            Standing::Unasked | Standing::Asked(_) | Standing::Answered { .. } => {
                sleep(ANSWER_TIMEOUT).await;
                Err(DisconnectReason::NeedsAuthentication(format!("{refusal} (but it sends no challenge)")))
            }
            Standing::Refused(reason) | Standing::Failed(reason) => {
                Err(DisconnectReason::Refused(format!("{reason} (it does not take our key)")))
            }
            // The refusal may be of a request that the relay got before it knew us.
            Standing::Accepted | Standing::Unconfirmed
                if !std::mem::replace(&mut self.wants_more_proof, true) =>
            {
                Ok(Then::Again)
            }
            Standing::Accepted => {
                Err(DisconnectReason::Refused(format!("{refusal} (although it has accepted our key)")))
            }
            Standing::Unconfirmed => {
                Err(DisconnectReason::Refused(format!("{refusal} (although we have answered its challenge)")))
            }
        }
    }
}

/// It may be broken off: something else is asked for, or the live subscription is lost. The relay must not
/// keep open what nobody waits for, because it may allow few subscriptions.
impl Drop for Conversation {
    fn drop(&mut self) {
        self.end_open();
    }
}

fn closing(subscription: &str) -> String {
    ClientMessage::Close { subscription: subscription.into() }.to_json()
}

/// The window of the live subscription, of which every stored event is one too many.
const EVERYTHING: Window = Window { since: 0, until: None };

/// Waits until the past may be asked for: a bounded number of requests at once, and none while live events
/// wait.
async fn turn_for_the_past(shared: &Shared) -> Option<SemaphorePermit<'_>> {
    // The semaphore is never closed.
    let turn = shared.repairs.acquire().await.ok();
    while !shared.inboxes.has_room_for_the_past() {
        sleep(REPAIR_QUEUE_RETRY).await;
    }
    turn
}
