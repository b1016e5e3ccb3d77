//! A client of `/ws` that checks all deliveries of the gateway.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use relay_sim::{Checker, Consumer, Sim};
use tokio::task::JoinHandle;
use wire::UnverifiedEvent;

use crate::Outcome;

/// The time limit for reconnecting: longer than any restart takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running client. It reconnects after each kill and resumes with its cursor.
pub struct Watch {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<Outcome<()>>,
}

/// The deliveries so far.
struct Seen {
    checker: Checker,
    /// For each event, in microseconds: when a relay first wrote it, and the latency since then.
    latencies_us: Vec<(u64, u64)>,
}

impl Watch {
    pub async fn start(sim: &Arc<Sim>, url: &str) -> Outcome<Self> {
        let mut consumer = Consumer::connect_within(url, PATIENCE).await?.reconnect(PATIENCE);
        let checker = Checker::new().expect(sim.events());
        let seen = Arc::new(Mutex::new(Seen { checker, latencies_us: Vec::new() }));
        let (sim, shared) = (Arc::clone(sim), Arc::clone(&seen));
        let task = tokio::spawn(async move {
            loop {
                let delivery = consumer.next().await?;
                let sent_us = UnverifiedEvent::parse(&delivery.event)
                    .ok()
                    .and_then(|event| sim.first_sent_us(&event.id));
                let mut seen = lock(&shared);
                // The checker counts the fault for the verdict.
                let _ = seen.checker.check(&delivery);
                if let Some(sent_us) = sent_us {
                    seen.latencies_us.push((sent_us, delivery.at_us.saturating_sub(sent_us)));
                }
            }
        });
        Ok(Self { seen, task })
    }

    pub fn is_complete(&self) -> bool {
        lock(&self.seen).checker.is_complete()
    }

    pub fn deliveries(&self) -> u64 {
        lock(&self.seen).checker.deliveries()
    }

    pub fn verdict(&self) -> relay_sim::Verdict {
        lock(&self.seen).checker.verdict()
    }

    /// The first faults as texts.
    pub fn wrong(&self) -> Vec<String> {
        lock(&self.seen).checker.wrong().iter().take(5).map(ToString::to_string).collect()
    }

    /// The 99th percentile, in microseconds, of the latencies of events that were sent outside the
    /// spans in `without`.
    pub fn p99_us(&self, without: &[(u64, u64)]) -> Option<u64> {
        let disturbed =
            |sent_us: u64| without.iter().any(|(from, until)| (*from..=*until).contains(&sent_us));
        let mut latencies: Vec<u64> = lock(&self.seen)
            .latencies_us
            .iter()
            .filter(|(sent_us, _)| !disturbed(*sent_us))
            .map(|(_, latency_us)| *latency_us)
            .collect();
        latencies.sort_unstable();
        latencies.get(latencies.len() * 99 / 100).copied()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(seen: &Mutex<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
