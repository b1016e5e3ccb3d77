//! Bots, and the relays that serve their events.

use std::sync::atomic::{AtomicU64, Ordering};

use relay_sim::Sim;
use wire::{Signer, VerifiedEvent};

use crate::client::Api;
use crate::token::now;

pub const SIGNAL_KINDS: [u16; 4] = [30_931, 30_932, 30_933, 30_934];

/// A bot that signs signals.
pub struct Bot {
    pub key: Signer,
    pub name: String,
}

impl Bot {
    pub fn new(seed: u64) -> Self {
        Self { key: Signer::from_seed(seed), name: format!("bot number {seed}") }
    }

    pub async fn registered(seed: u64, api: &Api) -> Self {
        let bot = Self::new(seed);
        api.register(&bot.key, &bot.name).await;
        bot
    }

    /// A signal dated now.
    pub fn signal(&self) -> VerifiedEvent {
        self.event(SIGNAL_KINDS[0], now())
    }

    /// An event that differs from every other event.
    pub fn event(&self, kind: u16, created_at: u64) -> VerifiedEvent {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let tags = [["d".to_owned(), count.to_string()], ["pair".to_owned(), "BTC/USD".to_owned()]];
        self.key.sign(created_at, kind, &tags, &format!("buy \"{count}\" \u{20bf} at any price \u{1f680}"))
    }

    /// Publishes a signal dated now.
    pub fn publish(&self, sim: &Sim) -> VerifiedEvent {
        let signal = self.signal();
        publish(sim, &signal);
        signal
    }
}

/// Gives an event to two relays.
pub fn publish(sim: &Sim, event: &VerifiedEvent) {
    let relays = sim.urls().len();
    let first = event.id().as_bytes()[0] as usize % relays;
    sim.publish([first, (first + 1) % relays], event.json().clone());
}

/// Relays without events.
pub async fn relays(count: usize) -> Sim {
    Sim::builder().scripted(count).start().await.expect("starts")
}
