//! Opens the live subscription, in the form that the relay accepts.

use crate::clock::Now;
use crate::relay::backfill::{Repair, record};
use crate::relay::peer::{Capabilities, Coverage, LiveForm};
use crate::relay::protocol::{
    AfterRefusal, Exchange, ExchangeError, Expected, LIVE, Refusal, Reply, Window, request,
};

/// The window of a live subscription that asks for no stored events.
const EVERYTHING: Window = Window { since: 0, until: None };

pub(crate) struct LiveSubscription<'a> {
    exchange: &'a mut Exchange,
}

impl<'a> LiveSubscription<'a> {
    pub const fn new(exchange: &'a mut Exchange) -> Self {
        Self { exchange }
    }

    /// Opens the live subscription. From then on no new event is missed, but earlier time is not
    /// proven.
    pub async fn open(&mut self) -> Result<(), ExchangeError> {
        loop {
            let now = self.exchange.shared.log.clock().now();
            let (live, form) =
                self.exchange.peer.capabilities(|capabilities| (capabilities.live, capabilities.form()));
            let filters = self.exchange.subscription.live(live, form, now.secs());
            let window = match live {
                LiveForm::Since => self.window_since(now.secs()),
                LiveForm::LimitZero | LiveForm::LimitOne => EVERYTHING,
            };
            match self.exchange.ask(LIVE, Expected::Stored(window), request(LIVE, filters)).await {
                Some(Reply::Stored(_)) => {
                    self.resume_coverage(now).await;
                    return Ok(());
                }
                Some(Reply::Closed(reason)) => self.refused(&reason).await?,
                // A relay that sends events but never EOSE is useful, although we cannot prove
                // anything for it.
                Some(_) | None if self.exchange.requests.progress().is_some() => {
                    self.resume_coverage(now).await;
                    return Ok(());
                }
                Some(_) | None => {
                    // Some relays do not answer a request that they do not understand.
                    self.exchange.peer.capabilities(Capabilities::live_refused);
                    return Err(ExchangeError::Unanswered);
                }
            }
        }
    }

    /// Opens a live subscription whose answer has the stored events since this second; `true` if
    /// the answer has all of them.
    pub(crate) async fn open_since(&mut self, second: u64) -> Result<bool, ExchangeError> {
        loop {
            let now = self.exchange.shared.log.clock().now();
            let window = self.window_since(second);
            let form = self.exchange.peer.capabilities(|capabilities| capabilities.form());
            let filters = self.exchange.subscription.live(LiveForm::Since, form, second);
            match self.exchange.ask(LIVE, Expected::Stored(window), request(LIVE, filters)).await {
                Some(Reply::Stored(answer)) => {
                    self.resume_coverage(now).await;
                    let filters = self.exchange.subscription.filter_count(form);
                    let mut repair = Repair::new(window, filters);
                    let findings = self.exchange.peer.capabilities(|capabilities| {
                        repair.answered(&answer, None, &mut capabilities.caps, second)
                    });
                    let is_whole = repair.next().is_none() && self.exchange.distrust(&answer).is_none();
                    if is_whole {
                        record(self.exchange, findings).await;
                        self.exchange.requests.prove_time();
                    }
                    return Ok(is_whole);
                }
                Some(Reply::Closed(reason)) => self.refused(&reason).await?,
                Some(_) | None => return Err(ExchangeError::Unanswered),
            }
        }
    }

    /// Extends the coverage to `now`. The time since the last contact becomes a gap, and so does
    /// the overlap before the last contact.
    pub(crate) async fn resume_coverage(&self, now: Now) {
        let subscription = &self.exchange.subscription;
        let since = subscription.first_contact_since(now.secs());
        let (kinds, overlap) = (subscription.kinds(), subscription.overlap_secs());
        let resume = |known| Some(Coverage::resumed(known, kinds, since, now, overlap));
        self.exchange.change_coverage(resume).await;
    }

    fn window_since(&self, second: u64) -> Window {
        let overlap = self.exchange.subscription.overlap_secs();
        Window { since: second.saturating_sub(overlap), until: None }
    }

    /// Handles a refusal. Returns `Ok` if the subscription can be tried again on this connection.
    async fn refused(&mut self, reason: &str) -> Result<(), ExchangeError> {
        let refusal = Refusal::parse(reason);
        match self.exchange.after_refusal(&refusal).await? {
            AfterRefusal::Retry => Ok(()),
            AfterRefusal::Simplify if self.exchange.simplify(Capabilities::simplify_live) => Ok(()),
            AfterRefusal::GiveUp | AfterRefusal::Simplify => Err(ExchangeError::Refused(refusal.to_string())),
            AfterRefusal::RetryFew => {
                self.exchange.peer.capabilities(Capabilities::live_refused);
                Err(ExchangeError::SubscriptionClosed(refusal.to_string()))
            }
        }
    }
}
