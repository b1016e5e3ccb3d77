//! What we say to a relay on one connection: first the live subscription, then the backfill.
//!
//! The live subscription comes first, so that no new event is missed from then on. If a relay
//! allows only one subscription, live subscription and backfill take turns.

use tokio::time::sleep;

use super::live_subscription::LiveSubscription;
use crate::event_log::{Mark, RelayTable};
use crate::limits::REPAIR_RETRY;
use crate::relay::backfill::Backfill;
use crate::relay::peer::{RepairProgress, Stated};
use crate::relay::protocol::{Exchange, ExchangeError, LiveState};

/// The maximum number of turns of backfill and live subscription. Events that are missing after the
/// last turn stay a gap.
const ROUNDS_MAX: usize = 5;

pub(crate) struct Conversation {
    exchange: Exchange,
    progress: RepairProgress,
}

impl Conversation {
    pub const fn new(exchange: Exchange) -> Self {
        Self { exchange, progress: RepairProgress::NONE }
    }

    /// Subscribes and backfills. Returns when there is nothing more to request; the live
    /// subscription stays open.
    pub async fn run(mut self) -> Result<(), ExchangeError> {
        if self.has_one_subscription() {
            // The stored NIP-11 document may be outdated.
            self.ask_information().await;
        }
        if self.has_one_subscription() {
            return self.take_turns().await;
        }
        self.live().open().await?;
        self.ask_information().await;
        if self.has_one_subscription() {
            return self.take_turns().await;
        }
        loop {
            if self.backfill().is_needed() {
                self.exchange.peer.set_backfilling();
                self.backfill().fill_gaps().await?;
            } else if self.exchange.requests.live() == LiveState::Open {
                self.backfill().ask_ahead().await?;
            }
            if self.has_one_subscription() {
                return self.take_turns().await;
            }
            self.exchange.peer.set_live();
            if !self.backfill().is_needed() && self.exchange.requests.live() == LiveState::Proving {
                return Ok(());
            }
            sleep(REPAIR_RETRY).await;
        }
    }

    /// Backfills, and then opens a live subscription whose stored events reach back to the
    /// backfill. Repeats both steps if these stored events do not fit into one answer.
    async fn take_turns(&mut self) -> Result<(), ExchangeError> {
        for round in 1.. {
            if self.exchange.requests.live() != LiveState::Closed {
                self.exchange.unsubscribe();
            }
            let now = self.exchange.shared.log.clock().now();
            self.live().resume_coverage(now).await;
            self.backfill().fill_gaps().await?;
            if self.live().open_since(now.secs()).await? || round == ROUNDS_MAX {
                break;
            }
        }
        self.exchange.peer.set_live();
        Ok(())
    }

    const fn live(&mut self) -> LiveSubscription<'_> {
        LiveSubscription::new(&mut self.exchange)
    }

    const fn backfill(&mut self) -> Backfill<'_> {
        Backfill::new(&mut self.exchange, &mut self.progress)
    }

    fn has_one_subscription(&self) -> bool {
        self.exchange.peer.capabilities(|capabilities| capabilities.has_one_subscription())
    }

    /// Fetches the NIP-11 document once a day. A missing document is recorded, too.
    async fn ask_information(&self) {
        let Exchange { peer, shared, .. } = &self.exchange;
        let now_ms = shared.log.clock().unix_ms();
        if !peer.capabilities(|capabilities| capabilities.wants_information(now_ms)) {
            return;
        }
        let information = shared.dialer.information(&peer.url, peer.reach()).await;
        if let Err(error) = &information {
            tracing::debug!(relay = %peer.url, %error, "no NIP-11 document");
        }
        let stated = Stated { information: information.ok().map(Box::new), asked_at_ms: now_ms };
        let row = stated.to_row();
        peer.capabilities(|capabilities| capabilities.inform(stated));
        let (mark, _) = Mark::new(RelayTable::Information, peer.url.to_arc(), row);
        self.exchange.send_mark(mark).await;
    }
}
