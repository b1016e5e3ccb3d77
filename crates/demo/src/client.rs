//! A client of `/ws` that checks every delivery.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use relay_sim::{Checker, ConsumeError, Consumer, Sim};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use wire::UnverifiedEvent;

use crate::Outcome;

/// The time limit for connecting, and for ending after the gateway has stopped.
const PATIENCE: Duration = Duration::from_secs(10);

pub struct Client {
    figures: Arc<Figures>,
    task: JoinHandle<Outcome<Ended>>,
}

/// The observable state of a running client.
#[derive(Default)]
struct Figures {
    delivered: AtomicU64,
    complete: AtomicBool,
    away: AtomicBool,
    /// Latencies of the events since the last query. A latency runs from the write of the first
    /// copy to the delivery.
    latencies_us: Mutex<Vec<u64>>,
}

/// The result of a client that has ended.
pub struct Ended {
    pub checker: Checker,
    /// How the gateway ended the connection.
    pub reason: String,
    /// The cursor from which the client resumed, and how long the client had been disconnected.
    pub resumed: Option<(u64, Duration)>,
}

impl Client {
    /// Connects and checks all deliveries. If `leaves` is given, the client disconnects after that
    /// number of events, stays away for that time, and resumes.
    pub fn start(sim: &Arc<Sim>, url: String, leaves: Option<(u64, Duration)>) -> Self {
        let figures = Arc::new(Figures::default());
        let task = tokio::spawn(run(Arc::clone(sim), url, leaves, Arc::clone(&figures)));
        Self { figures, task }
    }

    /// Whether the client has received everything.
    pub fn is_complete(&self) -> bool {
        self.figures.complete.load(Ordering::Relaxed)
    }

    /// Whether the client is disconnected.
    pub fn is_away(&self) -> bool {
        self.figures.away.load(Ordering::Relaxed)
    }

    /// The number of events that the client has received.
    pub fn delivered(&self) -> u64 {
        self.figures.delivered.load(Ordering::Relaxed)
    }

    /// Returns the latencies since the last query.
    pub fn take_latencies_us(&self) -> Vec<u64> {
        std::mem::take(&mut self.figures.latencies_us.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the result after the gateway has ended the connection.
    pub async fn end(self) -> Outcome<Ended> {
        timeout(PATIENCE, self.task).await??
    }
}

async fn run(
    sim: Arc<Sim>,
    url: String,
    leaves: Option<(u64, Duration)>,
    figures: Arc<Figures>,
) -> Outcome<Ended> {
    let mut checker = Checker::new().expect(sim.events());
    let mut consumer = Consumer::connect_within(&url, PATIENCE).await?;
    let mut resumed = None;
    let reason = loop {
        if let Some((after, away)) = leaves
            && resumed.is_none()
            && checker.deliveries() >= after
        {
            let cursor = consumer.last_seq().unwrap_or_default();
            drop(consumer);
            figures.away.store(true, Ordering::Relaxed);
            let left = Instant::now();
            sleep(away).await;
            consumer =
                Consumer::connect_within(&url.replace("cursor=0", &format!("cursor={cursor}")), PATIENCE)
                    .await?;
            figures.away.store(false, Ordering::Relaxed);
            resumed = Some((cursor, left.elapsed()));
        }
        let delivery = match consumer.next().await {
            Ok(delivery) => delivery,
            Err(ConsumeError::Ended(reason)) => break reason,
            Err(error) => return Err(error.into()),
        };
        // The checker counts faults for the verdict.
        let _ = checker.check(&delivery);
        let sent_us =
            UnverifiedEvent::parse(&delivery.event).ok().and_then(|event| sim.first_sent_us(&event.id));
        if let Some(sent_us) = sent_us {
            let latency_us = delivery.at_us.saturating_sub(sent_us);
            checker.note_latency_us(latency_us);
            figures.latencies_us.lock().unwrap_or_else(PoisonError::into_inner).push(latency_us);
        }
        figures.delivered.store(checker.deliveries(), Ordering::Relaxed);
        figures.complete.store(checker.is_complete(), Ordering::Relaxed);
    };
    Ok(Ended { checker, reason, resumed })
}
